//! Edited documents for the eye: old tokens struck out, new ones beside them.

use std::fmt::Write;
use std::io::stdout;

use anstyle::{AnsiColor, Style};

use super::print;
use super::progress::colour;
use crate::Result;
use crate::data::{Content, Document, messages};
use crate::edit::{Edited, EditedRecord, TokenEdit};

const OLD: Style = AnsiColor::Red.on_default().strikethrough();
const NEW: Style = AnsiColor::Green.on_default().bold();
const TITLE: Style = Style::new().bold();

/// Prints the first documents that have edits.
pub struct Diff {
    left: usize,
    coloured: bool,
}

impl Diff {
    /// Prints up to `limit` documents; in colour on a terminal.
    pub fn new(limit: usize) -> Self {
        Self { left: limit, coloured: colour(&stdout()) }
    }

    /// Prints a document and its edits in the last generation, unless there are none or enough were printed.
    pub fn show(&mut self, edited: &EditedRecord) -> Result<()> {
        let last = edited.token_edits.last().map(|edit| edit.generation);
        let first = edited.token_edits.partition_point(|edit| Some(edit.generation) < last);
        let edits = &edited.token_edits[first..];
        if edited.edited.changes.is_empty() || self.left == 0 {
            return Ok(());
        }
        self.left -= 1;
        let document = &edited.record.document;
        let mut out = self.title(document, &edited.edited);
        match document.content() {
            Content::Text(text) => self.text(&mut out, text, edits),
            Content::Ids(_) => self.ids(&mut out, edits),
            Content::Messages(raw) => self.messages(&mut out, raw, edits),
        }
        out.push_str("\n\n");
        print(out.as_bytes())
    }

    /// The messages with edits, each after its number.
    fn messages(&self, out: &mut String, raw: &str, edits: &[TokenEdit]) {
        let messages = messages::read(raw).unwrap_or_default();
        for edits in edits.chunk_by(|a, b| a.message == b.message) {
            let number = edits[0].message.unwrap_or_default();
            let content = messages.get(number).and_then(|message| message.content.as_deref());
            let _ = write!(out, "{}message {number}: ", if out.ends_with('\n') { "" } else { "\n" });
            self.text(out, content.unwrap_or_default(), edits);
        }
    }

    fn title(&self, document: &Document, edited: &Edited) -> String {
        let name = match document.id() {
            Some(id) => unquoted(id).to_owned(),
            None => format!("{}:{}", document.source().display(), document.line()),
        };
        let counts = &edited.counts;
        let figures =
            format!("{} tokens, {} eligible, {} changed", counts.tokens, counts.eligible, counts.changed);
        let dropped =
            if counts.dropped > 0 { format!(", {} dropped", counts.dropped) } else { String::new() };
        let mut out = String::new();
        self.styled(&mut out, TITLE, ["", ""], &visible(name.as_bytes()));
        out + &format!(" · {figures}{dropped}\n")
    }

    fn text(&self, out: &mut String, text: &str, edits: &[TokenEdit]) {
        let mut done = 0;
        for edit in edits {
            let (Some(span), Some(pieces)) = (&edit.span, &edit.pieces) else { continue };
            out.push_str(&visible(&text.as_bytes()[done..span.byte_start]));
            self.styled(out, OLD, ["[-", "-]"], &visible(&pieces.old.0));
            if edit.new_id.is_some() {
                self.styled(out, NEW, ["{+", "+}"], &visible(&pieces.new.0));
            }
            done = span.byte_end;
        }
        out.push_str(&visible(&text.as_bytes()[done..]));
    }

    fn ids(&self, out: &mut String, edits: &[TokenEdit]) {
        for edit in edits {
            let _ = write!(out, "{}: ", edit.position);
            self.styled(out, OLD, ["[-", "-]"], &edit.old_id.to_string());
            if let Some(id) = edit.new_id {
                self.styled(out, NEW, ["{+", "+}"], &id.to_string());
            }
            out.push(' ');
        }
    }

    /// In colour, or between marks where there is none.
    fn styled(&self, out: &mut String, style: Style, [open, close]: [&str; 2], text: &str) {
        let _ = if self.coloured {
            write!(out, "{style}{text}{style:#}")
        } else {
            write!(out, "{open}{text}{close}")
        };
    }
}

/// The raw JSON of a string without its quotes; any other value as it stands.
fn unquoted(json: &str) -> &str {
    json.strip_prefix('"').and_then(|json| json.strip_suffix('"')).unwrap_or(json)
}

/// Text that cannot drive a terminal: control characters but line breaks and tabs are escaped.
fn visible(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for c in String::from_utf8_lossy(bytes).chars() {
        if c.is_control() && c != '\n' && c != '\t' {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}
