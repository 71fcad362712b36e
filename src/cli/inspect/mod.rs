//! `toedit inspect`: edited records, to look at.

mod page;
mod terminal;
mod view;

use std::io::stdout;

use serde::Serialize;

use super::args::{ColorArg, InspectArgs};
use super::edit::describe;
use super::marks::Pen;
use super::pipeline::Arrivals;
use super::progress::colour;
use super::signals::Interrupt;
use super::summary::{self, documents_and_tokens};
use crate::Result;
use crate::data::{Document, Inputs};
use crate::edit::Counts;
use page::Page;
use terminal::Terminal;
use view::{View, edited};

/// What was shown, in sum.
#[derive(Default, Serialize)]
struct Totals {
    documents: u64,
    /// Documents with a token changed or dropped.
    edited: u64,
    /// Documents whose edits are not known.
    without_provenance: u64,
    #[serde(flatten)]
    counts: Counts,
}

impl Totals {
    fn add(&mut self, view: &View) {
        let counts = view.counts.unwrap_or_default();
        self.documents += 1;
        self.edited += u64::from(edited(&counts) > 0);
        self.without_provenance += u64::from(view.gap.is_some());
        self.counts += counts;
    }

    fn text(&self) -> String {
        let mut text = documents_and_tokens(self.documents, self.counts.tokens) + &describe(&self.counts);
        if self.without_provenance > 0 {
            text += &format!("; {} without provenance", self.without_provenance);
        }
        text
    }
}

/// Runs the command and gives the exit status.
///
/// # Errors
/// Those of the arguments and files; a record whose provenance does not fit it.
pub fn run(args: &InspectArgs) -> Result<u8> {
    let interrupt = Interrupt::install()?;
    let inputs = Inputs::expand(std::slice::from_ref(&args.edited))?;
    let page = args.html.as_deref().map(|path| Page::create(path, args.overwrite, &inputs)).transpose()?;
    let mut documents = Arrivals::new(inputs.documents(args.read_options())?, &interrupt).documents();
    let totals = match page {
        None => print(args, &mut documents)?,
        Some(mut page) => {
            let totals = show(&mut documents, args.limit(), |view| page.add(view))?;
            page.finish(&args.edited, &totals, documents.next().is_some())?;
            totals
        }
    };
    summary::report(&args.common, None, &totals.text(), &totals)?;
    Ok(0)
}

fn print(args: &InspectArgs, documents: &mut impl Iterator<Item = Result<Document>>) -> Result<Totals> {
    let coloured = match args.color {
        ColorArg::Auto => colour(&stdout()),
        ColorArg::Always => true,
        ColorArg::Never => false,
    };
    let terminal = Terminal { pen: Pen { coloured } };
    show(documents, args.limit(), |view| terminal.show(view))
}

/// Shows the first documents.
fn show(
    documents: &mut impl Iterator<Item = Result<Document>>,
    limit: usize,
    mut each: impl FnMut(&View) -> Result<()>,
) -> Result<Totals> {
    let mut totals = Totals::default();
    for document in documents.take(limit) {
        let view = View::new(&document?)?;
        each(&view)?;
        totals.add(&view);
    }
    Ok(totals)
}
