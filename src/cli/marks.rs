//! Edited text for the eye: what was kept, what stood there before, what stands there now, and nothing hidden in it.

use std::fmt::Write;
use std::ops::Range;

use anstyle::{AnsiColor, Style};

use crate::data::{TextEdit, messages};
use crate::edit::TokenEdit;
use crate::edit::splice::{Replacement, splice};
use crate::{Error, Result};

/// A token by itself that was taken away: struck out, a comma could not be read.
pub const OLD_TOKEN: Style = AnsiColor::Red.on_default();
/// What was taken away, in a text.
pub const OLD: Style = AnsiColor::Red.on_default().strikethrough();
/// What took its place.
pub const NEW: Style = AnsiColor::Green.on_default().bold();
/// Names.
pub const TITLE: Style = Style::new().bold();
/// What is less important.
pub const FAINT: Style = Style::new().dimmed();

/// A stretch of an edited document, in whole characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stretch {
    /// As it was.
    Kept(String),
    /// Changed by one edit, or by several that lie in one character.
    Changed {
        /// What stood there before.
        old: String,
        /// What stands there now; nothing where it was dropped.
        new: String,
        /// The numbers of the edits.
        edits: Range<usize>,
    },
}

/// The stretches of a text, from what it was before its `edits`, which are of one generation and ascend.
///
/// # Errors
/// As [`splice`]: where the edits do not fit the text.
pub fn stretches(before: &str, edits: &[TokenEdit]) -> Result<Vec<Stretch>> {
    let replacements = edits.iter().filter_map(|edit| {
        let (span, pieces) = (edit.span?, edit.pieces.as_ref()?);
        Some(Replacement { range: span.byte_start..span.byte_end, new: &pieces.new.0 })
    });
    let replacements: Vec<_> = replacements.collect();
    let mut stretches = Vec::new();
    let (mut done, mut first) = (0, 0);
    for TextEdit { start, end, new } in splice(before, &replacements)?.edits {
        keep(&mut stretches, &before[done..start]);
        let others = &replacements[first + 1..];
        let last = first + 1 + others.iter().take_while(|next| next.range.start < end).count();
        stretches.push(Stretch::Changed { old: before[start..end].to_owned(), new, edits: first..last });
        (done, first) = (end, last);
    }
    keep(&mut stretches, &before[done..]);
    Ok(stretches)
}

/// The stretches of a conversation's messages, each behind its number and role, from its raw JSON before its `edits`, which
/// are of one generation and ascend.
///
/// # Errors
/// As [`stretches`]; edits of a message that has no content.
pub fn message_stretches(before: &str, edits: &[TokenEdit]) -> Result<Vec<Stretch>> {
    let (mut all, mut first) = (Vec::new(), 0);
    for (number, message) in messages::read(before).map_err(Error::Usage)?.iter().enumerate() {
        let heading = format!("{}[{number}] {}: ", if number > 0 { "\n" } else { "" }, message.role);
        keep(&mut all, &heading);
        let own = edits[first..].iter().take_while(|edit| edit.message == Some(number)).count();
        let content = message.content.as_deref().unwrap_or_default();
        for stretch in stretches(content, &edits[first..first + own])? {
            all.push(match stretch {
                Stretch::Changed { old, new, edits: Range { start, end } } => {
                    Stretch::Changed { old, new, edits: first + start..first + end }
                }
                kept => kept,
            });
        }
        first += own;
    }
    if let Some(edit) = edits.get(first) {
        return Err(Error::Usage(format!("edit of token {}: it belongs to no message", edit.position)));
    }
    Ok(all)
}

/// Adds what was kept, if that is anything.
pub fn keep(stretches: &mut Vec<Stretch>, text: &str) {
    if !text.is_empty() {
        stretches.push(Stretch::Kept(text.to_owned()));
    }
}

/// Writes for a terminal.
#[derive(Clone, Copy, Debug)]
pub struct Pen {
    /// In colour, or between marks.
    pub coloured: bool,
}

impl Pen {
    /// An edited text: old and new side by side.
    pub fn stretches(self, out: &mut String, stretches: &[Stretch]) {
        for stretch in stretches {
            match stretch {
                Stretch::Kept(text) => visible(out, text, Breaks::Kept),
                Stretch::Changed { old, new, .. } => {
                    self.changed(out, OLD, ["[-", "-]"], old);
                    self.changed(out, NEW, ["{+", "+}"], new);
                }
            }
        }
    }

    fn changed(self, out: &mut String, style: Style, marks: [&str; 2], text: &str) {
        if !text.is_empty() {
            let mut shown = String::new();
            visible(&mut shown, text, Breaks::Escaped);
            self.styled(out, style, marks, &shown);
        }
    }

    /// `text`, which is visible, in colour, or between marks where there is none.
    pub fn styled(self, out: &mut String, style: Style, [open, close]: [&str; 2], text: &str) {
        let _ = if self.coloured {
            write!(out, "{style}{text}{style:#}")
        } else {
            write!(out, "{open}{text}{close}")
        };
    }
}

/// What becomes of line breaks and tabs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breaks {
    /// They stand as they are.
    Kept,
    /// They are escaped: as the whole of an edit, nobody would see them.
    Escaped,
}

impl Breaks {
    /// Whether a character is shown as its escape.
    pub fn escapes(self, c: char) -> bool {
        match c {
            '\n' | '\t' => self == Self::Escaped,
            _ => is_hidden(c),
        }
    }
}

/// Appends text that cannot drive a terminal: what [`Breaks::escapes`] is written as in a Rust string.
pub fn visible(out: &mut String, text: &str, breaks: Breaks) {
    for c in text.chars() {
        if breaks.escapes(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
}

/// Controls, and characters that nobody sees but that hide or reorder what stands around them. Joiners and variation
/// selectors are not among them: scripts and emoji are written with these.
fn is_hidden(c: char) -> bool {
    let format = matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    format || c.is_control()
}

/// A token's bytes as a quoted string: blanks, what cannot be printed and bytes that are no characters are escaped.
pub fn quoted(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        let debug = format!("{:?}", chunk.valid());
        out.push_str(&debug[1..debug.len() - 1]);
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out.push('"');
    out
}

/// The raw JSON of a string without its quotes; any other value as it stands.
pub fn unquoted(json: &str) -> &str {
    json.strip_prefix('"').and_then(|json| json.strip_suffix('"')).unwrap_or(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hides_is_escaped_and_scripts_are_left_alone() {
        let mut out = String::new();
        visible(&mut out, "a\u{1b}[2J\r\u{202e}b\u{feff}\u{9b}\0\n\t", Breaks::Kept);
        assert_eq!(out, "a\\u{1b}[2J\\r\\u{202e}b\\u{feff}\\u{9b}\\u{0}\n\t");
        for text in ["日本語", "שלום", "👩\u{200d}👩", "❤\u{fe0f}", "e\u{301}", "می\u{200c}خواهم"]
        {
            let mut out = String::new();
            visible(&mut out, text, Breaks::Escaped);
            assert_eq!(out, text);
        }
        let mut out = String::new();
        visible(&mut out, "\n\t ", Breaks::Escaped);
        assert_eq!(out, "\\n\\t ");
    }

    #[test]
    fn tokens_are_quoted_byte_for_byte() {
        for (bytes, shown) in [
            (&b" the"[..], "\" the\""),
            (b"\"\\\n", r#""\"\\\n""#),
            (b"\xc3", r#""\xc3""#),
            (b"a\xff\xc3\xa9", r#""a\xffé""#),
            ("\u{3000}\u{200d}".as_bytes(), r#""\u{3000}\u{200d}""#),
            (b"", r#""""#),
        ] {
            assert_eq!(quoted(bytes), shown);
        }
    }
}
