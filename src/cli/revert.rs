//! `toedit revert`: the original, from edited records and their provenance.

use super::args::RevertArgs;
use super::progress::{Mode, Progress};
use super::signals::Interrupt;
use super::{print_error, summary};
use crate::data::{Document, Inputs, Member, OutputWriter, Outputs, Patch, Payload, ReadOptions, TextEdit};
use crate::edit::Metadata;
use crate::edit::provenance::{revert_ids, revert_text};
use crate::{Error, Result};

/// The summary file.
#[derive(Default, serde::Serialize)]
struct Summary {
    documents: u64,
    /// Tokens put back.
    reverted: u64,
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
    outputs.check(args.output.overwrite)?;
    let read = ReadOptions { text_field: args.text_field.clone(), ..ReadOptions::default() };
    let documents = inputs.documents(read)?;
    let progress = Progress::new(Mode::of(&args.common), inputs.total_bytes());
    let bytes = documents.progress();
    let mut writer = outputs.writer(args.output.overwrite);
    let mut done = Summary::default();
    for document in documents {
        if let Some(signal) = interrupt.requested() {
            return Err(Error::Stopped(signal));
        }
        done.reverted += revert(&document?, &mut writer)?;
        done.documents += 1;
        progress.update(done.documents, done.reverted, bytes.read());
    }
    writer.finish()?;
    progress.finish();
    if !args.common.quiet {
        print_error(&format!("{} documents, {} tokens reverted", done.documents, done.reverted));
    }
    summary::write(args.output.summary.as_deref(), &done)?;
    Ok(0)
}

/// Writes the document as it was and gives the number of edits undone.
fn revert(document: &Document, writer: &mut OutputWriter) -> Result<u64> {
    let metadata = metadata(document)?;
    let edits = metadata.edits.unwrap_or_default();
    let failed = |error: Error| document.error(error.to_string());
    let (mut text_edits, mut ids) = (Vec::new(), None);
    if let Some(text) = document.text().filter(|_| !edits.is_empty()) {
        let original = revert_text(text, &edits).map_err(failed)?;
        text_edits.push(TextEdit { start: 0, end: text.len(), new: original });
    }
    if let Some(edited) = document.ids() {
        ids = Some(revert_ids(edited, &edits).map_err(failed)?);
    }
    let patch = Patch {
        text: if text_edits.is_empty() { Member::Keep } else { Member::Set(&text_edits) },
        ids: ids.as_deref().map_or(Member::Keep, Member::Set),
        metadata: Member::Remove,
    };
    writer.write(document, &patch)?;
    Ok(edits.len() as u64)
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
