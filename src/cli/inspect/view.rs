//! A record ready to be shown: what its provenance says, checked against what it holds.

use std::borrow::Cow;
use std::cmp::Reverse;

use crate::cli::marks::{Stretch, keep, message_stretches, quoted, stretches, unquoted};
use crate::data::{Content, Document, messages};
use crate::edit::provenance::{revert_ids, revert_text};
use crate::edit::records::undo_messages;
use crate::edit::{Counts, Metadata, TokenEdit};
use crate::{Error, Result};

/// What is known of an edited record.
pub struct View {
    /// Its `id`, where it has one.
    pub id: Option<String>,
    /// Its file and line.
    pub place: String,
    /// What was done to it.
    pub counts: Option<Counts>,
    /// Why its edits cannot be shown.
    pub gap: Option<&'static str>,
    /// Its generations, the last one first; at least one.
    pub rounds: Vec<Round>,
    /// Whether these are worth a heading.
    pub is_numbered: bool,
}

/// One generation of a record.
pub struct Round {
    /// Its number, from 0.
    pub generation: u32,
    /// The text that it made, with what it changed.
    pub stretches: Vec<Stretch>,
    /// The changes.
    pub edits: Vec<TokenEdit>,
}

impl View {
    /// Takes the record apart.
    ///
    /// # Errors
    /// [`Error::Record`] where its `toedit` object is malformed, or its edits do not fit what it holds.
    pub fn new(document: &Document) -> Result<Self> {
        let metadata = document.metadata().map(|raw| metadata(document, raw)).transpose()?;
        let counts = metadata.as_ref().map(|metadata| metadata.counts);
        let gap = gap(metadata.as_ref());
        let edits = metadata.and_then(|metadata| metadata.edits).unwrap_or_default();
        let named = |error: Error| document.error(error.to_string());
        let rounds = rounds(document.content(), edits).map_err(named)?;
        let place = format!("{}:{}", document.source().display(), document.line());
        let id = document.id().map(|id| unquoted(id).to_owned());
        let is_numbered = rounds.len() > 1 || rounds[0].generation > 0;
        Ok(Self { id, place, counts, gap, rounds, is_numbered })
    }
}

/// The record's `toedit` object.
fn metadata(document: &Document, raw: &str) -> Result<Metadata> {
    let metadata: Metadata =
        serde_json::from_str(raw).map_err(|error| document.error(format!("member `toedit`: {error}")))?;
    let Some(edits) = &metadata.edits else { return Ok(metadata) };
    let counted = edited(&metadata.counts);
    if counted != edits.len() as u64 {
        let reason = format!("{counted} tokens were changed or dropped, but {} edits are given", edits.len());
        return Err(document.error(reason));
    }
    Ok(metadata)
}

/// How many tokens were edited.
pub fn edited(counts: &Counts) -> u64 {
    counts.changed.saturating_add(counts.dropped)
}

/// What keeps a record's edits from being known.
fn gap(metadata: Option<&Metadata>) -> Option<&'static str> {
    match metadata {
        None => Some("no `toedit` object: not a record that `toedit edit` wrote with its metadata"),
        Some(metadata) if metadata.edits.is_some() => None,
        Some(metadata) if edited(&metadata.counts) == 0 => None,
        Some(_) => Some("edited without --provenance: which tokens were edited is not known"),
    }
}

/// The generations, undone one after the other.
fn rounds(content: &Content, mut edits: Vec<TokenEdit>) -> Result<Vec<Round>> {
    edits.sort_by_key(|edit| Reverse(edit.generation));
    let mut rounds = Vec::new();
    let mut after = Cow::Borrowed(content);
    for edits in edits.chunk_by(|a, b| a.generation == b.generation) {
        let before = undo(&after, edits)?;
        let stretches = content_stretches(&before, edits)?;
        rounds.push(Round { generation: edits[0].generation, stretches, edits: edits.to_vec() });
        after = Cow::Owned(before);
    }
    if rounds.is_empty() {
        let stretches = content_stretches(content, &[])?;
        rounds.push(Round { generation: 0, stretches, edits: Vec::new() });
    }
    Ok(rounds)
}

/// What the record held before one generation's edits.
fn undo(after: &Content, edits: &[TokenEdit]) -> Result<Content> {
    match after {
        Content::Text(text) => revert_text(text, edits).map(Content::Text),
        Content::Ids(ids) => revert_ids(ids, edits).map(Content::Ids),
        Content::Messages(raw) => {
            let edited = messages::edited(raw, &undo_messages(raw, edits)?);
            edited.map(Content::Messages).map_err(Error::Usage)
        }
    }
}

fn content_stretches(before: &Content, edits: &[TokenEdit]) -> Result<Vec<Stretch>> {
    match before {
        Content::Text(text) => stretches(text, edits),
        Content::Ids(ids) => Ok(id_stretches(ids, edits)),
        Content::Messages(raw) => message_stretches(raw, edits),
    }
}

/// The stretches of a sequence of ids, with a blank between two of them.
fn id_stretches(before: &[u32], edits: &[TokenEdit]) -> Vec<Stretch> {
    let (mut stretches, mut kept) = (Vec::new(), String::new());
    let mut edits = edits.iter().enumerate().peekable();
    for (position, id) in before.iter().enumerate() {
        if position > 0 {
            kept.push(' ');
        }
        match edits.next_if(|(_, edit)| edit.position == position) {
            None => kept += &id.to_string(),
            Some((number, edit)) => {
                keep(&mut stretches, &std::mem::take(&mut kept));
                let new = edit.new_id.map_or(String::new(), |id| id.to_string());
                stretches.push(Stretch::Changed { old: id.to_string(), new, edits: number..number + 1 });
            }
        }
    }
    keep(&mut stretches, &kept);
    stretches
}

/// An edit's token before, and after unless it was dropped: bytes and id, as far as they are known.
pub fn tokens(edit: &TokenEdit) -> (String, Option<String>) {
    match &edit.pieces {
        Some(pieces) => (quoted(&pieces.old.0), edit.new_id.map(|_| quoted(&pieces.new.0))),
        None => (edit.old_id.to_string(), edit.new_id.map(|id| id.to_string())),
    }
}

/// A probability: small ones by their magnitude, all others to a millionth.
pub fn probability(p: f32) -> String {
    if (1e-4..=1.0).contains(&p) { format!("{p:.6}") } else { format!("{p:.2e}") }
}
