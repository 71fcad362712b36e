//! The `toedit` object of an edited record: counts, and where asked for every change, enough to undo them.

use std::iter::Sum;
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// What was done to one document, or in sum to many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Tokens of the document itself.
    pub tokens: u64,
    /// Tokens that have a probability.
    pub scored: u64,
    /// Tokens whose probability meets a rule's condition.
    pub eligible: u64,
    /// Tokens that are different afterwards.
    pub changed: u64,
    /// Tokens removed.
    pub dropped: u64,
    /// Eligible tokens that cannot be edited.
    pub not_editable: u64,
    /// Tokens kept because no candidate was allowed.
    pub no_alternative: u64,
    /// Windows in which the document was scored.
    pub windows: u64,
}

impl AddAssign for Counts {
    /// Saturates: counts may come from a record that anybody wrote.
    fn add_assign(&mut self, other: Self) {
        self.tokens = self.tokens.saturating_add(other.tokens);
        self.scored = self.scored.saturating_add(other.scored);
        self.eligible = self.eligible.saturating_add(other.eligible);
        self.changed = self.changed.saturating_add(other.changed);
        self.dropped = self.dropped.saturating_add(other.dropped);
        self.not_editable = self.not_editable.saturating_add(other.not_editable);
        self.no_alternative = self.no_alternative.saturating_add(other.no_alternative);
        self.windows = self.windows.saturating_add(other.windows);
    }
}

impl Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |mut total, counts| {
            total += counts;
            total
        })
    }
}

/// The `toedit` object of an output record.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// The counts, as members of the object itself.
    #[serde(flatten)]
    pub counts: Counts,
    /// The counts of each generation, where there were several; those above are their sums, but for `tokens`, which are
    /// the first one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generations: Option<Vec<Counts>>,
    /// The field whose text was edited, where it is the response to a prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Every change, by generation and in order, where provenance was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edits: Option<Vec<TokenEdit>>,
}

impl Metadata {
    /// The counts of each generation so far.
    pub fn generations(&self) -> &[Counts] {
        self.generations.as_deref().unwrap_or(std::slice::from_ref(&self.counts))
    }

    /// Reads the raw JSON of what the first `generations` generations left in a record, to be added to.
    ///
    /// # Errors
    /// What is missing: the object, as many generations, or their edits where `provenance` goes on.
    pub fn of_earlier(raw: Option<&str>, generations: u32, provenance: bool) -> Result<Self, String> {
        let raw = raw.ok_or("no `toedit` object: expected the output of the generation before")?;
        let earlier: Self = serde_json::from_str(raw).map_err(|error| format!("member `toedit`: {error}"))?;
        let found = earlier.generations().len();
        if found as u64 != u64::from(generations) {
            return Err(format!("edited {found} times before, expected {generations} (--first-generation)"));
        }
        if provenance && earlier.edits.is_none() {
            return Err(
                "earlier generations were edited without --provenance: expected all or none with it".into()
            );
        }
        Ok(earlier)
    }

    /// Adds generations behind those that are there.
    #[must_use]
    pub fn extended(self, generations: &[Counts], edits: Option<Vec<TokenEdit>>) -> Self {
        let all = [self.generations(), generations].concat();
        // Without the last edits the earlier ones could not be undone.
        let edits = self.edits.zip(edits).map(|(before, edits)| [before, edits].concat());
        Self { edits, field: self.field, ..Self::of_generations(&all) }
    }

    /// Those of one generation or several, without edits.
    pub fn of_generations(generations: &[Counts]) -> Self {
        let mut counts: Counts = generations.iter().copied().sum();
        counts.tokens = generations.first().map_or(0, |first| first.tokens);
        let generations = (generations.len() > 1).then(|| generations.to_vec());
        Self { counts, generations, ..Self::default() }
    }
}

/// One token changed or dropped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenEdit {
    /// The token's place among the document's own tokens, from 0.
    pub position: usize,
    /// The message of a conversation that it belongs to, from 0; absent elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<usize>,
    /// Where its bytes lie; absent for a document of ids.
    #[serde(flatten)]
    pub span: Option<Span>,
    /// The token's id.
    pub old_id: u32,
    /// The new token's id; null when dropped.
    pub new_id: Option<u32>,
    /// The bytes of both; absent for a document of ids.
    #[serde(flatten)]
    pub pieces: Option<Pieces>,
    /// The token's probability given the original tokens before it.
    pub p_old: f32,
    /// The new token's in the same place; null when dropped.
    pub p_new: Option<f32>,
    /// The round of editing, from 0, left out where it is 0. All other members speak of this round's input and output.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub generation: u32,
}

fn is_zero(generation: &u32) -> bool {
    *generation == 0
}

/// Where a change lies in the text, or in its message's content, in bytes of UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// First byte in the input text.
    pub byte_start: usize,
    /// One past the last byte in the input text.
    pub byte_end: usize,
    /// First byte in the output text.
    pub out_byte_start: usize,
    /// One past the last byte in the output text.
    pub out_byte_end: usize,
}

/// What a change took away and put in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pieces {
    /// The bytes before.
    pub old: Piece,
    /// The bytes after; none when dropped.
    pub new: Piece,
}

/// A token's bytes, written as a string, or as `{"hex":"…"}` where they are not UTF-8.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Piece(pub Vec<u8>);

/// [`Piece`] as JSON has it.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Hex { hex: String },
}

impl From<Piece> for Written {
    fn from(piece: Piece) -> Self {
        String::from_utf8(piece.0).map_or_else(
            |error| Self::Hex { hex: error.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect() },
            Self::Text,
        )
    }
}

impl TryFrom<Written> for Piece {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Text(text) => Ok(Self(text.into_bytes())),
            Written::Hex { hex } => {
                decode_hex(&hex).map(Self).ok_or(format!("hex `{hex}`: expected pairs of digits"))
            }
        }
    }
}

fn decode_hex(hex: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|&[high, low]| Some((digit(high)? << 4 | digit(low)?) as u8)).collect();
    if rest.is_empty() { bytes } else { None }
}

/// The text before editing, from the text after it and its edits: the last generation is undone first.
///
/// # Errors
/// [`Error::Usage`] where an edit does not fit the text: out of range or order, other bytes than it says, or a result
/// that is not UTF-8.
pub fn revert_text(out_text: &str, edits: &[TokenEdit]) -> Result<String> {
    let mut bytes = out_text.as_bytes().to_vec();
    for generation in generations(edits) {
        bytes = revert_bytes(&bytes, &generation)?;
    }
    String::from_utf8(bytes)
        .map_err(|_| Error::Usage("the reverted text is not UTF-8: these are not its edits".into()))
}

/// The token ids before editing, from the ids after it and their edits: the last generation is undone first.
///
/// ```
/// use toedit::edit::provenance::{TokenEdit, revert_ids};
/// let edit: TokenEdit = serde_json::from_str(r#"{"position":1,"old_id":8,"new_id":null,"p_old":0.0004,"p_new":null}"#)?;
/// assert_eq!(revert_ids(&[7, 9], &[edit])?, [7, 8, 9]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Usage`] where an edit does not fit the ids: out of range or order, or another id than it says.
pub fn revert_ids(out_ids: &[u32], edits: &[TokenEdit]) -> Result<Vec<u32>> {
    generations(edits).iter().try_fold(out_ids.to_vec(), |ids, generation| revert_tokens(&ids, generation))
}

/// The edits by generation, the last one first, each in the order given.
pub(super) fn generations(edits: &[TokenEdit]) -> Vec<Vec<&TokenEdit>> {
    let mut order: Vec<&TokenEdit> = edits.iter().collect();
    order.sort_by_key(|edit| std::cmp::Reverse(edit.generation));
    order.chunk_by(|a, b| a.generation == b.generation).map(<[_]>::to_vec).collect()
}

/// Undoes one generation in a text.
fn revert_bytes(out: &[u8], edits: &[&TokenEdit]) -> Result<Vec<u8>> {
    let mut text = Vec::with_capacity(out.len());
    let mut copied = 0;
    for edit in edits {
        let (Some(span), Some(pieces)) = (&edit.span, &edit.pieces) else {
            return Err(misfit(edit, "no bytes are given"));
        };
        let kept = out.get(copied..span.out_byte_start);
        text.extend_from_slice(
            kept.ok_or_else(|| misfit(edit, "it overlaps another or lies outside the text"))?,
        );
        if out.get(span.out_byte_start..span.out_byte_end) != Some(&pieces.new.0) {
            return Err(misfit(edit, "the text holds other bytes than `new`"));
        }
        if (text.len(), span.byte_end.checked_sub(span.byte_start))
            != (span.byte_start, Some(pieces.old.0.len()))
        {
            return Err(misfit(edit, "`byte_start`, `byte_end` and `old` do not agree"));
        }
        text.extend_from_slice(&pieces.old.0);
        copied = span.out_byte_end;
    }
    text.extend_from_slice(&out[copied..]);
    Ok(text)
}

/// Undoes one generation in a token sequence.
fn revert_tokens(out: &[u32], edits: &[&TokenEdit]) -> Result<Vec<u32>> {
    let mut ids = Vec::with_capacity(out.len());
    let mut rest = out;
    for edit in edits {
        let kept = edit.position.checked_sub(ids.len()).and_then(|kept| rest.split_at_checked(kept));
        let (kept, after) =
            kept.ok_or_else(|| misfit(edit, "it overlaps another or lies outside the sequence"))?;
        ids.extend_from_slice(kept);
        ids.push(edit.old_id);
        rest = match (edit.new_id, after) {
            (None, after) => after,
            (Some(new), [id, after @ ..]) if new == *id => after,
            _ => return Err(misfit(edit, "the sequence holds another id than `new_id`")),
        };
    }
    ids.extend_from_slice(rest);
    Ok(ids)
}

fn misfit(edit: &TokenEdit, reason: &str) -> Error {
    let TokenEdit { position, generation, .. } = edit;
    Error::Usage(format!("edit of token {position}, generation {generation}: {reason}"))
}
