//! `toedit revert`: the original, from edited records and their provenance.

use super::args::RevertArgs;
use super::pipeline::Arrivals;
use super::progress::{Mode, Progress};
use super::signals::Interrupt;
use super::summary::{self, documents_and_tokens};
use crate::data::{Document, Inputs, Member, OutputWriter, Outputs, Patch, Payload, TextEdit};
use crate::edit::provenance::{revert_ids, revert_text};
use crate::edit::splice::{Replacement, splice};
use crate::edit::{Metadata, TokenEdit};
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
    summary::check(args.output.summary.as_deref(), &inputs, Some(&outputs))?;
    let documents = inputs.documents(args.read_options())?;
    let progress = Progress::new(Mode::of(&args.common), inputs.total_bytes());
    let bytes = documents.progress();
    let mut writer = outputs.writer(args.output.overwrite);
    let mut done = Summary::default();
    for document in Arrivals::new(documents, &interrupt) {
        done.reverted += revert(&document?, &mut writer)?;
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
fn revert(document: &Document, writer: &mut OutputWriter) -> Result<u64> {
    let metadata = metadata(document)?;
    let edits = metadata.edits.as_deref().unwrap_or_default();
    let failed = |error: Error| document.error(error.to_string());
    let text = document.text().map(|text| text_edits(text, edits)).transpose().map_err(failed)?;
    let ids = match document.ids() {
        Some(edited) => Some(revert_ids(edited, edits).map_err(failed)?),
        None => ids_beside_text(document, &metadata),
    };
    let patch = Patch {
        text: text.as_deref().map_or(Member::Keep, Member::Set),
        ids: ids.as_deref().map_or(Member::Keep, Member::Set),
        metadata: Member::Remove,
    };
    writer.write(document, &patch)?;
    Ok(edits.len() as u64)
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
