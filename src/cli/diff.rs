//! Edited documents for the eye: old tokens struck out, new ones beside them.

use std::fmt::Write;
use std::io::stdout;

use super::marks::{Breaks, NEW, OLD, Pen, TITLE, message_stretches, stretches, unquoted, visible};
use super::print;
use super::progress::colour;
use crate::Result;
use crate::data::{Content, Document};
use crate::edit::{Edited, EditedRecord, TokenEdit};

/// Prints the first documents that have edits.
pub struct Diff {
    left: usize,
    pen: Pen,
}

impl Diff {
    /// Prints up to `limit` documents; in colour on a terminal.
    pub fn new(limit: usize) -> Self {
        Self { left: limit, pen: Pen { coloured: colour(&stdout()) } }
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
            Content::Text(text) => self.pen.stretches(&mut out, &stretches(text, edits)?),
            Content::Ids(_) => self.ids(&mut out, edits),
            Content::Messages(raw) => self.pen.stretches(&mut out, &message_stretches(raw, edits)?),
        }
        out.push_str("\n\n");
        print(out.as_bytes())
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
        let (mut out, mut shown) = (String::new(), String::new());
        visible(&mut shown, &name, Breaks::Escaped);
        self.pen.styled(&mut out, TITLE, ["", ""], &shown);
        out + &format!(" · {figures}{dropped}\n")
    }

    fn ids(&self, out: &mut String, edits: &[TokenEdit]) {
        for edit in edits {
            let _ = write!(out, "{}: ", edit.position);
            self.pen.styled(out, OLD, ["[-", "-]"], &edit.old_id.to_string());
            if let Some(id) = edit.new_id {
                self.pen.styled(out, NEW, ["{+", "+}"], &id.to_string());
            }
            out.push(' ');
        }
    }
}
