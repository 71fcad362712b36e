//! Records that cannot be used, and where in the input a record ends.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::format::Format;
use super::shard::part::Line;
use crate::Error;

/// How far reading had come when a record was read, that record included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The number of the file among the inputs, from 0.
    pub file: usize,
    /// Records of that file.
    pub records: u64,
    /// Where the record began: a byte of the decompressed file, or of the shard's part of it.
    pub offset: u64,
    /// XXH3-64 of all records of the file so far and of the files before it that share its output.
    pub hash: u64,
}

/// What a line or a text file turned out to be.
#[derive(Debug)]
pub enum Arrival {
    /// A document.
    Document(super::Document),
    /// No document, or one that cannot be read.
    Refused(Refused),
}

/// A record that cannot be used.
#[derive(Debug)]
pub struct Refused {
    pub(super) source: Arc<Path>,
    pub(super) line: Line,
    pub(super) mark: Mark,
    pub(super) reason: String,
    pub(super) raw: Vec<u8>,
    pub(super) is_cut: bool,
    pub(super) format: Format,
    /// The row that it was read from.
    #[cfg_attr(not(feature = "parquet"), expect(dead_code, reason = "there are no rows"))]
    pub(super) row: RefusedRow,
}

/// A row of a table that cannot be used, where there is one.
#[cfg(feature = "parquet")]
pub(super) type RefusedRow = Option<Box<super::parquet::Row>>;
#[cfg(not(feature = "parquet"))]
pub(super) type RefusedRow = ();

/// A line of a reject file.
#[derive(Serialize)]
struct Reject<'a> {
    file: String,
    line: u64,
    byte_offset: u64,
    reason: &'a str,
    raw: Raw<'a>,
    /// Only the beginning of the record is here.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cut: bool,
}

/// Bytes, as a string where they are one.
#[derive(Serialize)]
#[serde(untagged)]
enum Raw<'a> {
    Text(&'a str),
    Bytes { hex: String },
}

impl Refused {
    /// How far reading had come with it.
    pub fn mark(&self) -> Mark {
        self.mark
    }

    /// Its line in the decompressed file, from 1.
    pub fn line(&self) -> u64 {
        self.line.in_file()
    }

    /// What is wrong with it.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Its bytes without the line's end; the beginning of one that is too long.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// It as an error, naming file and line.
    pub fn error(&self) -> Error {
        self.line.error(&self.source, self.reason.clone())
    }

    /// It as it stands, for an output of this format that takes its place; none where that cannot hold it.
    pub(super) fn passed(&self, format: Format) -> Option<&[u8]> {
        (format == self.format && !self.is_cut).then_some(&self.raw)
    }

    /// Its line in a reject file.
    pub(super) fn reject(&self) -> Vec<u8> {
        let raw = match std::str::from_utf8(&self.raw) {
            Ok(text) => Raw::Text(text),
            Err(_) => Raw::Bytes { hex: self.raw.iter().map(|byte| format!("{byte:02x}")).collect() },
        };
        let reject = Reject {
            file: self.source.display().to_string(),
            line: self.line.in_file(),
            byte_offset: self.line.offset_in_file(self.mark.offset),
            reason: &self.reason,
            raw,
            cut: self.is_cut,
        };
        let mut line = serde_json::to_vec(&reject).expect("strings and numbers always have a JSON form");
        line.push(b'\n');
        line
    }
}
