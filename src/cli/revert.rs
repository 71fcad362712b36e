//! `toedit revert`: the original, from edited records and their provenance.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use super::args::RevertArgs;
use super::pipeline::{Arrivals, refuse};
use super::progress::{Mode, Progress};
use super::signals::Interrupt;
use super::summary::{self, DocumentCounts, Outcome};
use crate::Result;
use crate::data::{Arrival, Document, Inputs, Member, OutputWriter, Outputs, Patch, Payload};
use crate::data::{OutputColumns, Settings, WriteConfig};
use crate::edit::provenance::revert_ids;
use crate::edit::{Metadata, records};

/// Sums over documents, kept with the output.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Totals {
    documents: u64,
    /// Tokens put back.
    reverted: u64,
}

impl AddAssign<&Self> for Totals {
    fn add_assign(&mut self, other: &Self) {
        self.documents += other.documents;
        self.reverted += other.reverted;
    }
}

/// The summary file.
#[derive(Serialize)]
struct Summary {
    command: &'static str,
    version: &'static str,
    reverted: u64,
    #[serde(flatten)]
    outcome: Outcome,
}

/// Runs the command and gives the exit status.
///
/// # Errors
/// Those of the arguments and files; a record without provenance, or whose provenance does not fit it.
pub fn run(args: &RevertArgs) -> Result<u8> {
    args.check()?;
    let interrupt = Interrupt::install()?;
    let inputs = Inputs::expand(std::slice::from_ref(&args.edited))?;
    let output = args.output.output.as_deref().expect("`check` has seen it");
    let outputs = Outputs::plan(&inputs, output, Payload::Documents)?;
    outputs.check(args.commit.begin(&args.output))?;
    summary::check(args.output.summary.as_deref(), &inputs, Some(&outputs))?;
    let documents = inputs.documents(args.read_options())?;
    let progress = Progress::new(Mode::of(&args.common), inputs.total_bytes());
    let bytes = documents.progress();
    let mut writer = outputs.writer(write_config(args))?;
    let (was_done, documents) = (writer.is_done(), documents.with_plan(writer.read_plan()));
    let mut done = Totals::default();
    for record in Arrivals::new(documents, &interrupt) {
        done += &write(args, record?, &mut writer)?;
        progress.update(done.documents, done.reverted, bytes.read());
    }
    let written = writer.finish()?;
    progress.finish();
    let Totals { documents, reverted } = written.counts;
    let counts = DocumentCounts { documents, tokens: reverted, ..DocumentCounts::default() };
    let outcome = Outcome::new(&counts, &written, was_done);
    let (text, status) = (format!("{} reverted", outcome.text()), outcome.exit_status());
    let summary = Summary { command: "revert", version: env!("CARGO_PKG_VERSION"), reverted, outcome };
    summary::report(&args.common, args.output.summary.as_deref(), &text, &summary)?;
    Ok(status)
}

fn write_config(args: &RevertArgs) -> WriteConfig {
    let settings = [("command", "revert"), ("version", env!("CARGO_PKG_VERSION"))];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.into()));
    let config = args.commit.write_config(&args.output, &args.read_options(), Settings::from_iter(settings));
    let columns = OutputColumns { metadata: Member::Remove, ..config.columns };
    WriteConfig { columns, ..config }
}

/// Writes a record as it was, or deals with one that cannot be used, and gives what was done.
fn write(args: &RevertArgs, record: Arrival, writer: &mut OutputWriter<Totals>) -> Result<Totals> {
    let refused = match record {
        Arrival::Refused(refused) => refused,
        Arrival::Document(document) => match revert(&document, &args.text_field) {
            Ok(original) => return original.write(&document, writer),
            Err(error) => document.refuse(&error),
        },
    };
    let totals = Totals { documents: 1, reverted: 0 };
    refuse(args.commit.on_error, writer, &refused, &totals)?;
    Ok(totals)
}

/// A record as it was, but for its `toedit` object.
struct Original {
    /// None where nothing was edited.
    document: Option<Document>,
    /// Those beside a text, where they are to be put back.
    ids: Option<Vec<u32>>,
    reverted: u64,
}

impl Original {
    fn write(&self, document: &Document, writer: &mut OutputWriter<Totals>) -> Result<Totals> {
        let patch = Patch {
            ids: self.ids.as_deref().map_or(Member::Keep, Member::Set),
            metadata: Member::Remove,
            ..Patch::default()
        };
        let totals = Totals { documents: 1, reverted: self.reverted };
        writer.write(self.document.as_ref().unwrap_or(document), &patch, &totals)?;
        Ok(totals)
    }
}

/// Undoes a record's edits.
fn revert(document: &Document, text_field: &str) -> Result<Original> {
    let metadata = metadata(document)?;
    if let Some(field) = metadata.field.as_deref().filter(|field| *field != text_field) {
        return Err(
            document.error(format!("the edits are of the field `{field}`: give --text-field {field}"))
        );
    }
    let edits = metadata.edits.as_deref().unwrap_or_default();
    let ids = if document.ids().is_some() { None } else { ids_beside_text(document, &metadata) };
    Ok(Original { document: records::revert(document, edits)?, ids, reverted: edits.len() as u64 })
}

/// The original ids where a record holds the edited ones beside its text, as `--emit both` writes them. Ids that the
/// edits do not fit were there before and went through untouched.
fn ids_beside_text(document: &Document, metadata: &Metadata) -> Option<Vec<u32>> {
    let ids: Vec<u32> = serde_json::from_str(document.raw_ids()?).ok()?;
    let edits =
        metadata.edits.as_deref().filter(|edits| !edits.is_empty() && metadata.generations.is_none())?;
    let edited_len = metadata.counts.tokens.checked_sub(metadata.counts.dropped)?;
    if ids.len() as u64 != edited_len {
        return None;
    }
    revert_ids(&ids, edits).ok()
}

/// The record's `toedit` object.
fn metadata(document: &Document) -> Result<Metadata> {
    let raw = document.metadata().ok_or_else(|| {
        document.error("no `toedit` object: expected a record that `toedit edit --provenance` wrote")
    })?;
    let metadata: Metadata =
        serde_json::from_str(raw).map_err(|error| document.error(format!("member `toedit`: {error}")))?;
    let changed = metadata.counts.changed + metadata.counts.dropped;
    if metadata.edits.is_none() && changed > 0 {
        let reason =
            format!("{changed} tokens were edited without --provenance: the original cannot be restored");
        return Err(document.error(reason));
    }
    Ok(metadata)
}
