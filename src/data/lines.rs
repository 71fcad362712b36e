//! Lines of JSON and text files as records.

use std::io::{BufRead, Read};
use std::mem;
use std::path::Path;
use std::string::FromUtf8Error;
use std::sync::Arc;

use super::compress::{Reader, Source};
use super::document::{Content, Document, Origin};
use super::format::Format;
use super::jsonl::Record;
use super::reader::Records;
use super::refused::{Arrival, Mark, Refused};
use super::shard::part::Line;
use super::source::InputFile;
use crate::{Error, Result};

/// U+FEFF in UTF-8, which some editors put before the first line.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// What is kept of a record that is too long.
const KEPT_OF_CUT: usize = 64 << 10;

/// A file of lines, or of one text.
pub(super) struct Lines {
    reader: Reader,
    format: Format,
    /// Name of the member that holds the text.
    field: Arc<str>,
    /// Lines begun so far.
    line: u64,
    /// Records begun so far, those of other shards among them.
    begun: u64,
    /// Bytes of the data used so far.
    used: u64,
    /// The record at hand.
    buffer: Vec<u8>,
    /// Where it began.
    start: u64,
    /// It was longer than allowed; the rest of it is still to be passed over.
    is_cut: bool,
}

impl Records for Lines {
    fn path(&self) -> &Arc<Path> {
        self.reader.path()
    }

    fn advance(&mut self, limit: usize) -> Result<bool> {
        if self.format == Format::Text { self.whole_file(limit) } else { self.next_line(limit) }
    }

    fn raw(&self) -> &[u8] {
        &self.buffer
    }

    fn offset(&self) -> u64 {
        self.start
    }

    fn arrival(&mut self, mark: Mark, limit: usize) -> Arrival {
        if self.is_cut {
            return self.too_long(mark, limit);
        }
        let text = match String::from_utf8(mem::take(&mut self.buffer)) {
            Ok(text) => text,
            Err(error) => return self.not_utf8(mark, error),
        };
        let (content, origin) = if self.format == Format::Text {
            (Content::Text(text), Origin::Text(self.field.clone()))
        } else {
            match Record::parse(text, &self.field) {
                Ok((record, content)) => (content, Origin::Json(Box::new(record))),
                Err((line, reason)) => return self.refuse(mark, line.into_bytes(), reason),
            }
        };
        let (source, line) = (self.reader.path().clone(), self.line());
        Arrival::Document(Document { source, line, mark, content, origin })
    }
}

impl Lines {
    /// Opens a file.
    ///
    /// # Errors
    /// As [`Reader::open_input`].
    pub fn open(input: &InputFile, source: Source, field: Arc<str>) -> Result<Self> {
        let format = if input.format == Format::Text { Format::Text } else { Format::JsonLines };
        // A text file is one record: the files are dealt out, and what is in them is not divided.
        let shard = source.shard.filter(|_| format != Format::Text);
        let file = input.open().map_err(|error| Error::io(&*input.path, error))?;
        let mut reader = Reader::open_input(&input.path, file, Source { shard, ..source })?;
        if format != Format::Text && reader.before().is_none() {
            check_kind(&mut reader, input.format)?;
        }
        let (line, begun, used, start, is_cut) = (0, 0, 0, 0, false);
        Ok(Self { reader, format, field, line, begun, used, buffer: Vec::new(), start, is_cut })
    }

    /// Reads the shard's next line that is not blank, without its `\n`.
    fn next_line(&mut self, limit: usize) -> Result<bool> {
        loop {
            if mem::take(&mut self.is_cut) {
                let skipped = self.reader.skip_until(b'\n').map_err(|e| self.reader.error(e))?;
                self.used += skipped as u64;
            }
            self.buffer.clear();
            if !self.reader.begins_record().map_err(|e| self.reader.error(e))? {
                return Ok(false);
            }
            self.read_line(limit)?;
            if self.is_cut || !self.buffer.trim_ascii().is_empty() {
                self.begun += 1;
                if self.reader.owns(self.begun - 1) {
                    return Ok(true);
                }
            }
        }
    }

    /// Reads a line, as far as the limit allows.
    fn read_line(&mut self, limit: usize) -> Result<()> {
        self.line += 1;
        self.start = self.used;
        let mut window = (&mut self.reader).take((limit as u64).saturating_add(1));
        let count = window.read_until(b'\n', &mut self.buffer).map_err(|e| self.reader.error(e))?;
        self.used += count as u64;
        if self.buffer.last() == Some(&b'\n') {
            self.buffer.pop();
        } else {
            self.is_cut = count > limit;
        }
        let is_first = self.line == 1 && self.reader.before().is_none();
        if is_first && self.buffer.starts_with(BYTE_ORDER_MARK) {
            self.buffer.drain(..BYTE_ORDER_MARK.len());
            self.start += BYTE_ORDER_MARK.len() as u64;
        }
        Ok(())
    }

    /// Reads a whole text file, once.
    fn whole_file(&mut self, limit: usize) -> Result<bool> {
        if self.line > 0 {
            // Only what was read to its end has a digest.
            std::io::copy(&mut self.reader, &mut std::io::sink()).map_err(|e| self.reader.error(e))?;
            return Ok(false);
        }
        self.line = 1;
        let mut window = (&mut self.reader).take((limit as u64).saturating_add(1));
        let count = window.read_to_end(&mut self.buffer).map_err(|e| self.reader.error(e))?;
        self.used += count as u64;
        self.is_cut = count > limit;
        Ok(true)
    }

    fn line(&self) -> Line {
        Line { number: self.line, before: self.reader.before().cloned() }
    }

    fn refuse(&self, mark: Mark, raw: Vec<u8>, reason: impl Into<String>) -> Arrival {
        let (source, line, format) = (self.reader.path().clone(), self.line(), self.format);
        Arrival::Refused(Refused {
            source,
            line,
            mark,
            reason: reason.into(),
            raw,
            is_cut: self.is_cut,
            format,
            row: Default::default(),
        })
    }

    fn too_long(&mut self, mark: Mark, limit: usize) -> Arrival {
        let what = if self.format == Format::Text { "text file" } else { "line" };
        let mut raw = mem::take(&mut self.buffer);
        raw.truncate(KEPT_OF_CUT);
        raw.shrink_to_fit();
        let reason = format!(
            "{what} of more than {limit} bytes, the limit for one document (--max-document-bytes raises it)"
        );
        self.refuse(mark, raw, reason)
    }

    /// Says where invalid UTF-8 begins and keeps the bytes.
    fn not_utf8(&mut self, mark: Mark, error: FromUtf8Error) -> Arrival {
        let offset = error.utf8_error().valid_up_to();
        let raw = error.into_bytes();
        if self.format == Format::Text {
            self.line += raw[..offset].iter().filter(|&&byte| byte == b'\n').count() as u64;
            return self.refuse(mark, raw, "invalid utf-8 in this line");
        }
        self.refuse(mark, raw, format!("invalid utf-8 (byte {} of the line)", offset + 1))
    }
}

/// Refuses what is Parquet, or only called so.
fn check_kind(reader: &mut Reader, named: Format) -> Result<()> {
    let head = reader.fill_buf().map(|bytes| bytes[..bytes.len().min(4)].to_vec());
    let head = head.map_err(|e| reader.error(e))?;
    let reason = match &head[..] {
        [b'P', b'A', b'R', b'1' | b'E', ..] if cfg!(feature = "parquet") => {
            "Parquet can be read from a regular file alone, which is not compressed as a whole"
        }
        [b'P', b'A', b'R', b'1' | b'E', ..] => {
            "this build cannot read Parquet: it lacks the feature `parquet`"
        }
        [b'{' | b'\xef' | b'\n' | b'\r' | b' ' | b'\t', ..] => return Ok(()),
        _ if named == Format::Parquet => "malformed parquet: it does not begin with PAR1",
        _ => return Ok(()),
    };
    Err(Error::file(reader.path(), reason))
}
