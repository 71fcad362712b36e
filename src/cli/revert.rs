//! `toedit revert`: the original, from edited records and their provenance.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use super::args::RevertArgs;
use super::pipeline::{Arrivals, refuse};
use super::progress::{Mode, Progress};
use super::signals::Interrupt;
use super::summary::{self, DocumentCounts, Outcome};
use crate::data::{Arrival, Document, Inputs, Member, OutputWriter, Outputs, Patch, Payload};
use crate::data::{OutputColumns, Settings, TextEdit, WriteConfig};
use crate::edit::provenance::{revert_ids, revert_text};
use crate::edit::splice::{Replacement, splice};
use crate::edit::{Metadata, TokenEdit};
use crate::{Error, Result};

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
        Arrival::Document(document) => match revert(&document) {
            Ok(original) => return original.write(&document, writer),
            Err(error) => document.refuse(&error),
        },
    };
    let totals = Totals { documents: 1, reverted: 0 };
    refuse(args.commit.on_error, writer, &refused, &totals)?;
    Ok(totals)
}

/// What to put back into a record.
struct Original {
    text: Option<Vec<TextEdit>>,
    ids: Option<Vec<u32>>,
    reverted: u64,
}

impl Original {
    fn write(&self, document: &Document, writer: &mut OutputWriter<Totals>) -> Result<Totals> {
        let patch = Patch {
            text: self.text.as_deref().map_or(Member::Keep, Member::Set),
            ids: self.ids.as_deref().map_or(Member::Keep, Member::Set),
            metadata: Member::Remove,
        };
        let totals = Totals { documents: 1, reverted: self.reverted };
        writer.write(document, &patch, &totals)?;
        Ok(totals)
    }
}

/// Undoes a record's edits.
fn revert(document: &Document) -> Result<Original> {
    let metadata = metadata(document)?;
    let edits = metadata.edits.as_deref().unwrap_or_default();
    let failed = |error: Error| document.error(error.to_string());
    let text = document.text().map(|text| text_edits(text, edits)).transpose().map_err(failed)?;
    let ids = match document.ids() {
        Some(edited) => Some(revert_ids(edited, edits).map_err(failed)?),
        None => ids_beside_text(document, &metadata),
    };
    Ok(Original { text, ids, reverted: edits.len() as u64 })
}

/// What to replace in an edited text. After one round of editing these are the edits the other way round, so that the
/// JSON spelling of all other characters stays; after several it is the whole text.
fn text_edits(text: &str, edits: &[TokenEdit]) -> Result<Vec<TextEdit>> {
    // Checks each edit against the text.
    let original = revert_text(text, edits)?;
    if edits.windows(2).any(|pair| pair[0].generation != pair[1].generation) {
        return Ok(vec![TextEdit { start: 0, end: text.len(), new: original }]);
    }
    let undo = edits.iter().filter_map(|edit| {
        let (span, pieces) = (edit.span?, edit.pieces.as_ref()?);
        Some(Replacement { range: span.out_byte_start..span.out_byte_end, new: &pieces.old.0 })
    });
    Ok(splice(text, &undo.collect::<Vec<_>>())?.edits)
}

/// The original ids where a record holds the edited ones beside its text, as `--emit both` writes them. Ids that the
/// edits do not fit were there before and went through untouched.
fn ids_beside_text(document: &Document, metadata: &Metadata) -> Option<Vec<u32>> {
    let ids: Vec<u32> = serde_json::from_str(document.raw_ids()?).ok()?;
    let edits = metadata.edits.as_deref().filter(|edits| !edits.is_empty())?;
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
