//! `toedit revert`: the original, from edited records and their provenance.

use super::args::RevertArgs;
use super::pipeline::Arrivals;
use super::progress::{Mode, Progress};
use super::signals::Interrupt;
use super::summary::{self, documents_and_tokens};
use crate::Result;
use crate::data::{Document, Inputs, Member, OutputWriter, Outputs, Patch, Payload};
use crate::edit::provenance::revert_ids;
use crate::edit::{Metadata, records};

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
    summary::check(args.output.summary.as_deref(), &inputs, Some(&outputs))?;
    let documents = inputs.documents(args.read_options())?;
    let progress = Progress::new(Mode::of(&args.common), inputs.total_bytes());
    let bytes = documents.progress();
    let mut writer = outputs.writer(args.output.overwrite);
    let mut done = Summary::default();
    for document in Arrivals::new(documents, &interrupt) {
        done.reverted += revert(&document?, &args.text_field, &mut writer)?;
        done.documents += 1;
        progress.update(done.documents, done.reverted, bytes.read());
    }
    writer.finish()?;
    progress.finish();
    let text = format!("{} reverted", documents_and_tokens(done.documents, done.reverted));
    summary::report(&args.common, args.output.summary.as_deref(), &text, &done)?;
    Ok(0)
}

/// Writes the document as it was and gives the number of edits undone.
fn revert(document: &Document, text_field: &str, writer: &mut OutputWriter) -> Result<u64> {
    let metadata = metadata(document)?;
    if let Some(field) = metadata.field.as_deref().filter(|field| *field != text_field) {
        return Err(
            document.error(format!("the edits are of the field `{field}`: give --text-field {field}"))
        );
    }
    let edits = metadata.edits.as_deref().unwrap_or_default();
    let ids = if document.ids().is_some() { None } else { ids_beside_text(document, &metadata) };
    let patch = Patch {
        ids: ids.as_deref().map_or(Member::Keep, Member::Set),
        metadata: Member::Remove,
        ..Patch::default()
    };
    let original = records::revert(document, edits)?;
    writer.write(original.as_ref().unwrap_or(document), &patch)?;
    Ok(edits.len() as u64)
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
