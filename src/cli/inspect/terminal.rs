//! Records as a plain stream of lines, in colour where that is wanted.

use std::fmt::Write as _;
use std::io::{Write as _, stdout};

use super::view::{Round, View, probability, tokens};
use crate::cli::edit::describe;
use crate::cli::marks::{Breaks, FAINT, NEW, OLD_TOKEN, Pen, TITLE, visible};
use crate::cli::summary::counted;
use crate::data::STANDARD_OUTPUT;
use crate::edit::TokenEdit;
use crate::{Error, Result};

/// Prints records.
pub struct Terminal {
    pub pen: Pen,
}

impl Terminal {
    /// Prints a record at once, so that whoever reads sees whole ones.
    ///
    /// # Errors
    /// The system's, also where nobody reads any more: nothing is left to do then.
    pub fn show(&self, view: &View) -> Result<()> {
        let text = self.render(view);
        let mut stdout = stdout().lock();
        let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
        written.map_err(|error| Error::io(STANDARD_OUTPUT, error))
    }

    fn render(&self, view: &View) -> String {
        let mut out = String::new();
        self.title(&mut out, view);
        for round in &view.rounds {
            if view.is_numbered {
                self.faint(&mut out, &format!("generation {}", round.generation));
            }
            self.pen.stretches(&mut out, &round.stretches);
            end_line(&mut out);
            self.edits(&mut out, round);
        }
        out.push('\n');
        out
    }

    /// Name, place and counts, and what is not known.
    fn title(&self, out: &mut String, view: &View) {
        let name = view.id.as_ref().unwrap_or(&view.place);
        self.pen.styled(out, TITLE, ["", ""], &line(name));
        if view.id.is_some() {
            *out += &format!(" · {}", line(&view.place));
        }
        if let Some(counts) = &view.counts {
            *out += &format!(" · {}{}", counted(counts.tokens, "token"), describe(counts));
        }
        out.push('\n');
        if let Some(gap) = view.gap {
            self.faint(out, gap);
        }
    }

    /// A line for each edit. Tokens come last, since nobody knows how wide a terminal shows them.
    fn edits(&self, out: &mut String, round: &Round) {
        if !round.edits.is_empty() {
            self.faint(out, &format!("{:>8}  {:>9}  {:>9}  old → new", "position", "p old", "p new"));
        }
        for edit in &round.edits {
            self.edit(out, edit);
        }
    }

    fn edit(&self, out: &mut String, edit: &TokenEdit) {
        let p_new = edit.p_new.map_or("–".into(), probability);
        let _ = write!(out, "{:>8}  {:>9}  {:>9}  ", edit.position, probability(edit.p_old), p_new);
        let (old, new) = tokens(edit);
        self.pen.styled(out, OLD_TOKEN, ["", ""], &old);
        match new {
            Some(new) => {
                *out += " → ";
                self.pen.styled(out, NEW, ["", ""], &new);
            }
            None => *out += " dropped",
        }
        out.push('\n');
    }

    fn faint(&self, out: &mut String, text: &str) {
        self.pen.styled(out, FAINT, ["", ""], text);
        out.push('\n');
    }
}

/// Ends the line, unless the text has done so.
fn end_line(out: &mut String) {
    if !out.ends_with('\n') {
        out.push('\n');
    }
}

/// Text on one line.
fn line(text: &str) -> String {
    let mut out = String::new();
    visible(&mut out, text, Breaks::Escaped);
    out
}
