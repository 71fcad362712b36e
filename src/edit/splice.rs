//! Puts the bytes of replaced tokens into a text and leaves every other byte as it is.

use std::ops::Range;

use crate::data::TextEdit;
use crate::{Error, Result};

/// A token's bytes in a text and what takes their place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replacement<'a> {
    /// The token's bytes in the text; they may begin or end inside a character.
    pub range: Range<usize>,
    /// The new token's bytes; empty where the token is dropped.
    pub new: &'a [u8],
}

/// An edited text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spliced {
    /// The new text.
    pub text: String,
    /// Where each replacement's bytes lie in the new text, in order.
    pub ranges: Vec<Range<usize>>,
    /// The same changes in whole characters: widened to character boundaries, and merged where several lie in one
    /// character.
    pub edits: Vec<TextEdit>,
}

/// Applies `replacements`, ascending and disjoint, to `text`.
///
/// ```
/// use toedit::edit::splice::{Replacement, splice};
/// let spliced = splice("one two", &[Replacement { range: 3..7, new: b" three" }])?;
/// assert_eq!(spliced.text, "one three");
/// assert_eq!(spliced.ranges, [3..9]);
/// # Ok::<(), toedit::Error>(())
/// ```
///
/// # Errors
/// [`Error::Usage`] if a range is reversed, overlaps the one before or ends past the text, or if the result is not
/// UTF-8, which the rule for allowed replacements excludes.
pub fn splice(text: &str, replacements: &[Replacement<'_>]) -> Result<Spliced> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut ranges = Vec::with_capacity(replacements.len());
    let mut copied = 0;
    for Replacement { range, new } in replacements {
        let kept = text.as_bytes().get(copied..range.start).filter(|_| range.start <= range.end);
        bytes.extend_from_slice(kept.ok_or_else(|| misplaced(range, copied, text))?);
        ranges.push(bytes.len()..bytes.len() + new.len());
        bytes.extend_from_slice(new);
        copied = range.end;
    }
    let tail = text.as_bytes().get(copied..).ok_or_else(|| misplaced(&(copied..copied), copied, text))?;
    bytes.extend_from_slice(tail);
    let text_after = String::from_utf8(bytes).map_err(|error| broken(error.utf8_error().valid_up_to()))?;
    let edits = widen(text, &text_after, replacements, &ranges)?;
    Ok(Spliced { text: text_after, ranges, edits })
}

/// The replacements in whole characters. `ranges` are theirs in `after`.
fn widen(
    before: &str,
    after: &str,
    replacements: &[Replacement<'_>],
    ranges: &[Range<usize>],
) -> Result<Vec<TextEdit>> {
    let mut edits = Vec::with_capacity(replacements.len());
    let mut pairs = replacements.iter().zip(ranges).peekable();
    while let Some((first, first_after)) = pairs.next() {
        let start = floor_char_boundary(before, first.range.start);
        let (mut last, mut last_after) = (first, first_after);
        let mut end = ceil_char_boundary(before, last.range.end);
        while let Some((next, next_after)) = pairs.next_if(|(next, _)| next.range.start < end) {
            (last, last_after) = (next, next_after);
            end = ceil_char_boundary(before, last.range.end);
        }
        // The bytes between a character boundary and the token are the same before and after.
        let start_after = first_after.start - (first.range.start - start);
        let end_after = last_after.end + (end - last.range.end);
        let new = after.get(start_after..end_after).ok_or_else(|| broken(start_after))?;
        edits.push(TextEdit { start, end, new: new.to_owned() });
    }
    Ok(edits)
}

/// The last character boundary at or before `index`.
fn floor_char_boundary(text: &str, index: usize) -> usize {
    (0..=index).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0)
}

/// The first character boundary at or after `index`, which lies in `text`.
fn ceil_char_boundary(text: &str, index: usize) -> usize {
    (index..text.len()).find(|&i| text.is_char_boundary(i)).unwrap_or(text.len())
}

fn misplaced(range: &Range<usize>, copied: usize, text: &str) -> Error {
    let length = text.len();
    Error::Usage(format!(
        "replaced bytes {range:?}: expected a range from byte {copied} on in a text of {length} bytes"
    ))
}

fn broken(byte: usize) -> Error {
    Error::Usage(format!("the edits break a character at byte {byte} of the new text"))
}
