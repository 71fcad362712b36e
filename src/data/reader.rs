//! From files to documents, one record at a time.

use std::io::{BufRead, Read};
use std::mem;
use std::sync::Arc;
use std::vec;

use super::compress::Reader;
use super::document::{Content, Document, Origin};
use super::format::Format;
use super::jsonl::Record;
use super::shard::Shard;
use super::shard::part::Line;
use super::source::{InputFile, Progress};
use crate::{Error, Result};

/// U+FEFF in UTF-8, which some editors put before the first line.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The longest line, or text file, unless [`ReadOptions`] say otherwise: 64 MiB.
pub const DEFAULT_MAX_DOCUMENT_BYTES: usize = 64 << 20;

/// How records are read.
#[derive(Clone, Debug)]
pub struct ReadOptions {
    /// Name of the member that holds the text.
    pub text_field: String,
    /// The longest line, or text file, in bytes after decompression. A longer one is an error and is not kept
    /// in memory.
    pub max_document_bytes: usize,
    /// The part of the records to read; all of them where there is none.
    pub shard: Option<Shard>,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { text_field: "text".into(), max_document_bytes: DEFAULT_MAX_DOCUMENT_BYTES, shard: None }
    }
}

/// The documents of a list of files, in order.
///
/// JSON lines: each line that is not blank is one object, in valid UTF-8. A byte order mark before the first
/// line and blank lines are left out; `\r` before a line's end belongs to the record. An object with text is
/// read as text, even if it holds `input_ids` too, and one with ids as ids, even if it holds `messages`. A text file is one document, a byte order mark being part
/// of its text.
///
/// [`Error::Record`] concerns one record: the iterator goes on behind it. After any other error the rest of
/// that file is lost, and the iterator ends.
pub struct Documents {
    files: std::iter::Enumerate<vec::IntoIter<InputFile>>,
    field: Arc<str>,
    limit: usize,
    shard: Option<Shard>,
    progress: Progress,
    current: Option<Current>,
}

/// The file that is being read.
struct Current {
    reader: Reader,
    file: usize,
    format: Format,
    /// Lines begun so far.
    line: u64,
    /// Records begun so far, those of other shards among them.
    records: u64,
    /// Documents that came out so far.
    index: u64,
    /// The line at hand; of a record that is refused it holds what was read.
    buffer: Vec<u8>,
    /// The line at hand was longer than allowed; the rest of it is still to be passed over.
    cut: bool,
}

impl Documents {
    pub(super) fn new(files: Vec<InputFile>, options: ReadOptions, progress: Progress) -> Result<Self> {
        let field = options.text_field;
        if ["id", "input_ids", "toedit"].contains(&field.as_str()) {
            return Err(Error::Usage(format!(
                "the text field cannot be `{field}`, which has its own meaning"
            )));
        }
        let (files, limit, shard) =
            (files.into_iter().enumerate(), options.max_document_bytes, options.shard);
        Ok(Self { files, field: field.into(), limit, shard, progress, current: None })
    }

    /// A handle on how far reading has come.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// The raw bytes of the record that the last [`Error::Record`] was about, without the line's end; of one
    /// that is too long, its beginning.
    pub fn refused(&self) -> &[u8] {
        self.current.as_ref().map_or(&[], |current| &current.buffer)
    }

    /// Opens the next file; false where there is none.
    fn advance(&mut self) -> Result<bool> {
        let shard = self.shard;
        let is_ours = |(file, input): &(usize, InputFile)| {
            input.format != Format::Text || shard.is_none_or(|shard| shard.owns(*file as u64))
        };
        let Some((file, input)) = self.files.find(is_ours) else {
            return Ok(false);
        };
        let format = input.format;
        // A text file is one record: the files are dealt out, and their contents not looked at.
        let shard = self.shard.filter(|_| format == Format::JsonLines);
        let reader = Reader::open_shard(&input.path, self.progress.read.clone(), shard)?;
        let (line, records, index, buffer) = (0, 0, 0, Vec::new());
        self.current = Some(Current { reader, file, format, line, records, index, buffer, cut: false });
        Ok(true)
    }

    fn next_document(&mut self) -> Result<Option<Document>> {
        loop {
            if let Some(current) = &mut self.current {
                if let Some(document) = current.next_document(&self.field, self.limit)? {
                    return Ok(Some(document));
                }
                self.current = None;
            }
            if !self.advance()? {
                return Ok(None);
            }
        }
    }
}

impl Iterator for Documents {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_document();
        if next.as_ref().is_err_and(|error| !matches!(error, Error::Record { .. })) {
            self.current = None;
            self.files = Vec::new().into_iter().enumerate();
        }
        next.transpose()
    }
}

impl Current {
    fn next_document(&mut self, field: &Arc<str>, limit: usize) -> Result<Option<Document>> {
        let found = match self.format {
            Format::JsonLines => self.next_line(limit)?,
            Format::Text => self.whole_file(limit)?,
        };
        if !found {
            return Ok(None);
        }
        let text = String::from_utf8(mem::take(&mut self.buffer)).map_err(|e| self.not_utf8(e))?;
        let (content, origin) = match self.format {
            Format::Text => (Content::Text(text), Origin::Text(field.clone())),
            Format::JsonLines => {
                let (record, content) = Record::parse(text, field).map_err(|(line, reason)| {
                    self.buffer = line.into_bytes();
                    self.error(reason)
                })?;
                (content, Origin::Json(Box::new(record)))
            }
        };
        let (source, file, line, index) = (self.reader.path().clone(), self.file, self.line(), self.index);
        self.index += 1;
        Ok(Some(Document { source, file, line, index, content, origin }))
    }

    /// Reads the next line that is not blank into the buffer, without its `\n`; false at the end of the file.
    fn next_line(&mut self, limit: usize) -> Result<bool> {
        if mem::take(&mut self.cut) {
            self.reader.skip_until(b'\n').map_err(|e| self.reader.error(e))?;
        }
        loop {
            self.buffer.clear();
            if !self.reader.begins_record().map_err(|e| self.reader.error(e))? {
                return Ok(false);
            }
            self.line += 1;
            let mut window = (&mut self.reader).take((limit as u64).saturating_add(1));
            let count = window.read_until(b'\n', &mut self.buffer).map_err(|e| self.reader.error(e))?;
            let too_long = count > limit && self.buffer.last() != Some(&b'\n');
            if self.buffer.last() == Some(&b'\n') {
                self.buffer.pop();
            }
            if self.line == 1 && self.reader.before().is_none() && self.buffer.starts_with(BYTE_ORDER_MARK) {
                self.buffer.drain(..BYTE_ORDER_MARK.len());
            }
            if !too_long && self.buffer.trim_ascii().is_empty() {
                continue;
            }
            self.records += 1;
            match (self.reader.owns(self.records - 1), too_long) {
                (true, true) => {
                    self.cut = true;
                    return Err(self.too_long("line", limit));
                }
                (true, false) => return Ok(true),
                (false, true) => drop(self.reader.skip_until(b'\n').map_err(|e| self.reader.error(e))?),
                (false, false) => {}
            }
        }
    }

    /// Reads a whole text file into the buffer; false after it has been read.
    fn whole_file(&mut self, limit: usize) -> Result<bool> {
        if self.line > 0 {
            return Ok(false);
        }
        self.line = 1;
        let mut window = (&mut self.reader).take((limit as u64).saturating_add(1));
        let count = window.read_to_end(&mut self.buffer).map_err(|e| self.reader.error(e))?;
        if count > limit { Err(self.too_long("text file", limit)) } else { Ok(true) }
    }

    fn line(&self) -> Line {
        Line { number: self.line, before: self.reader.before().cloned() }
    }

    fn error(&self, reason: impl Into<String>) -> Error {
        self.line().error(self.reader.path(), reason.into())
    }

    fn too_long(&self, what: &str, limit: usize) -> Error {
        self.error(format!(
            "{what} of more than {limit} bytes, the limit for one document (--max-document-bytes raises it)"
        ))
    }

    /// Says where invalid UTF-8 begins and keeps the bytes.
    fn not_utf8(&mut self, error: std::string::FromUtf8Error) -> Error {
        let offset = error.utf8_error().valid_up_to();
        self.buffer = error.into_bytes();
        if self.format == Format::Text {
            self.line += self.buffer[..offset].iter().filter(|&&byte| byte == b'\n').count() as u64;
            return self.error("invalid utf-8 in this line");
        }
        self.error(format!("invalid utf-8 (byte {} of the line)", offset + 1))
    }
}
