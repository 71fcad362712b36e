//! What to change in a record: text edits, ids, the `toedit` object.

use std::ops::Range;

use super::messages::MessageEdits;

/// What becomes of one member of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Member<T> {
    /// As it stands; absent stays absent.
    #[default]
    Keep,
    /// Replaced, or added if absent.
    Set(T),
    /// Taken out, with its comma.
    Remove,
}

/// What to change in a record; the default changes nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Patch<'a> {
    /// Edits of the text: ascending, disjoint. A record without text cannot be given any.
    pub text: Member<&'a [TextEdit]>,
    /// Edits of messages: ascending, each message once. A record without messages cannot be given any.
    pub messages: &'a [MessageEdits],
    /// The array under `input_ids`: replaced in its place, or added after the other members.
    pub ids: Member<&'a [u32]>,
    /// Names and raw JSON, on one line, of other members: each replaced in its place, or added after those that are there.
    pub members: &'a [(&'a str, &'a str)],
    /// Raw JSON, on one line, for the `toedit` member: always the last one of the record.
    pub metadata: Member<&'a str>,
}

/// A replacement of the bytes `start..end` of a decoded text, both on character boundaries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextEdit {
    /// First byte replaced.
    pub start: usize,
    /// One past the last byte replaced; equal to `start` for an insertion.
    pub end: usize,
    /// What stands there afterwards; empty for a deletion.
    pub new: String,
}

/// A replacement of raw bytes in a line.
pub(super) struct Splice {
    pub range: Range<usize>,
    pub new: String,
}

/// Applies `edits` to a decoded `text`.
///
/// # Errors
/// What is wrong with an edit that is out of order, out of bounds or splits a character.
pub fn splice(text: &str, edits: &[TextEdit]) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for edit in edits {
        let (Some(kept), Some(_)) = (text.get(done..edit.start), text.get(edit.start..edit.end)) else {
            return Err(misplaced(edit));
        };
        out.push_str(kept);
        out.push_str(&edit.new);
        done = edit.end;
    }
    out.push_str(&text[done..]);
    Ok(out)
}

/// The edits of a text as splices of `raw`, the valid JSON string body that spells it and stands at `at` in
/// its line. Spans between edits keep their escapes, whatever their spelling.
pub(super) fn raw_splices(raw: &str, at: usize, edits: &[TextEdit]) -> Result<Vec<Splice>, String> {
    let mut cursor = Cursor { raw, offset: 0, decoded: 0 };
    let mut splices = Vec::with_capacity(edits.len());
    for edit in edits {
        let start = cursor.seek(edit.start).ok_or_else(|| misplaced(edit))?;
        let end = cursor.seek(edit.end).ok_or_else(|| misplaced(edit))?;
        splices.push(Splice { range: at + start..at + end, new: escaped(&edit.new) });
    }
    Ok(splices)
}

/// `line` with `splices` applied, which are disjoint, in any order.
pub(super) fn apply(line: &str, mut splices: Vec<Splice>) -> Vec<u8> {
    splices.sort_by_key(|splice| splice.range.start);
    let added: usize = splices.iter().map(|splice| splice.new.len()).sum();
    let mut out = Vec::with_capacity(line.len() + added);
    let mut done = 0;
    for splice in splices {
        out.extend_from_slice(&line.as_bytes()[done..splice.range.start]);
        out.extend_from_slice(splice.new.as_bytes());
        done = splice.range.end;
    }
    out.extend_from_slice(&line.as_bytes()[done..]);
    out
}

fn misplaced(edit: &TextEdit) -> String {
    format!(
        "edit of bytes {}..{} does not fit the text: edits must ascend, lie inside it and split no character",
        edit.start, edit.end
    )
}

/// `text` as a JSON string, with its quotes.
pub(super) fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string always has a JSON form")
}

/// `text` as the inside of a JSON string, escaped only where JSON demands it.
fn escaped(text: &str) -> String {
    let mut quoted = quoted(text);
    quoted.pop();
    quoted.remove(0);
    quoted
}

/// A position in a raw JSON string body and in the text it spells; only moves forward.
struct Cursor<'a> {
    raw: &'a str,
    offset: usize,
    decoded: usize,
}

impl Cursor<'_> {
    /// Moves to the byte `target` of the decoded text and returns its place in the raw body; `None` if that
    /// lies behind, past the end, or inside a character.
    fn seek(&mut self, target: usize) -> Option<usize> {
        while self.decoded < target {
            let rest = &self.raw.as_bytes()[self.offset..];
            // Looking no further than needed keeps many edits in one long run linear.
            let window = &rest[..rest.len().min(target - self.decoded)];
            let run = window.iter().position(|&byte| byte == b'\\').unwrap_or(window.len());
            self.offset += run;
            self.decoded += run;
            if self.decoded < target {
                let (raw, decoded) = escape_lengths(&self.raw.as_bytes()[self.offset..])?;
                self.offset += raw;
                self.decoded += decoded;
            }
        }
        (self.decoded == target && self.raw.is_char_boundary(self.offset)).then_some(self.offset)
    }
}

/// Bytes of the escape that `raw` begins with, and of the character it stands for in UTF-8.
fn escape_lengths(raw: &[u8]) -> Option<(usize, usize)> {
    match raw {
        [b'\\', b'u', rest @ ..] => {
            let unit = u32::from_str_radix(std::str::from_utf8(rest.get(..4)?).ok()?, 16).ok()?;
            // The first half of a surrogate pair; its second half has been checked to follow.
            let pair = (0xd800..0xdc00).contains(&unit);
            if pair { Some((12, 4)) } else { Some((6, char::from_u32(unit)?.len_utf8())) }
        }
        [b'\\', _, ..] => Some((2, 1)),
        _ => None,
    }
}
