//! From files to documents, one record at a time.

use std::io::{BufRead, Read};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::vec;

use xxhash_rust::xxh3::Xxh3;

use super::compress::{Reader, Source};
use super::digest::InputDigests;
use super::document::{Content, Document, Origin};
use super::format::Format;
use super::jsonl::Record;
use super::refused::{Arrival, Mark, Refused};
use super::shard::Shard;
use super::shard::part::Line;
use super::source::{InputFile, Progress};
use crate::{Error, Result};

/// U+FEFF in UTF-8, which some editors put before the first line.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// What is kept of a record that is too long.
const KEPT_OF_CUT: usize = 64 << 10;

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

/// Where reading begins, as the outputs of an earlier run left it: see `OutputWriter::read_plan`.
#[derive(Clone, Debug, Default)]
pub struct ReadPlan {
    /// One for each file; those beyond begin at the beginning.
    pub(super) starts: Vec<Start>,
    /// All files share one output, hence one hash.
    pub(super) is_chained: bool,
    /// Where digests of the files go.
    pub(super) digests: InputDigests,
}

/// Where reading begins in one file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Start {
    /// With its first record.
    #[default]
    Beginning,
    /// Behind so many records, which are read again and must have this hash.
    After { records: u64, hash: u64 },
    /// At its end: all of it is read again, for its hash.
    End,
    /// Nowhere: its output is complete.
    Nowhere,
}

/// The documents of a list of files, in order.
///
/// JSON lines: each line that is not blank is one object, in valid UTF-8. A byte order mark before the first
/// line and blank lines are left out; `\r` before a line's end belongs to the record. An object with text is
/// read as text, even if it holds `input_ids` too, and one with ids as ids, even if it holds `messages`. A text file is one document, a byte order mark being part
/// of its text.
///
/// [`Error::Record`] concerns one record: the iterator goes on behind it. After any other error the rest of
/// that file is lost, and the iterator ends. [`Documents::arrivals`] gives such records whole.
pub struct Documents {
    files: std::iter::Enumerate<vec::IntoIter<InputFile>>,
    field: Arc<str>,
    limit: usize,
    shard: Option<Shard>,
    progress: Progress,
    plan: ReadPlan,
    /// The hash of the files before this one, where all share one.
    chain: u64,
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
    begun: u64,
    /// Records read so far.
    records: u64,
    hash: Xxh3,
    /// Bytes of the decompressed file used so far.
    offset: u64,
    /// The record at hand.
    buffer: Vec<u8>,
    /// Where it began.
    start: u64,
    /// It was longer than allowed; the rest of it is still to be passed over.
    is_cut: bool,
}

impl Documents {
    pub(super) fn new(files: Vec<InputFile>, options: ReadOptions, progress: Progress) -> Result<Self> {
        let field = options.text_field;
        if ["id", "input_ids", "toedit"].contains(&field.as_str()) {
            return Err(Error::Usage(format!(
                "the text field cannot be `{field}`, which has its own meaning"
            )));
        }
        let (files, limit) = (files.into_iter().enumerate(), options.max_document_bytes);
        let (field, plan, shard) = (field.into(), ReadPlan::default(), options.shard);
        Ok(Self { files, field, limit, shard, progress, plan, chain: 0, current: None })
    }

    /// Begins where an earlier run left off.
    pub fn with_plan(self, plan: ReadPlan) -> Self {
        Self { plan, ..self }
    }

    /// A handle on how far reading has come.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Documents, and the records among them that are none.
    pub fn arrivals(mut self) -> impl Iterator<Item = Result<Arrival>> {
        std::iter::from_fn(move || self.next_arrival())
    }

    fn next_arrival(&mut self) -> Option<Result<Arrival>> {
        let next = self.find_next();
        if next.is_err() {
            self.current = None;
            self.files = Vec::new().into_iter().enumerate();
        }
        next.transpose()
    }

    fn find_next(&mut self) -> Result<Option<Arrival>> {
        loop {
            if let Some(current) = &mut self.current {
                if let Some(arrival) = current.next_arrival(&self.field, self.limit)? {
                    return Ok(Some(arrival));
                }
                self.close();
            }
            if !self.advance()? {
                return Ok(None);
            }
        }
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
        let start = self.plan.starts.get(file).copied().unwrap_or_default();
        if start == Start::Nowhere {
            self.progress.read.fetch_add(input.bytes.unwrap_or(0), Ordering::Relaxed);
            return Ok(true);
        }
        let (progress, digests) = (self.progress.read.clone(), self.plan.digests.clone());
        // A text file is one record: the files are dealt out, and what is in them is not divided.
        let shard = shard.filter(|_| input.format == Format::JsonLines);
        let reader = Reader::open_input(&input.path, Source { progress, digests, index: file, shard })?;
        let seed = if self.plan.is_chained { self.chain } else { 0 };
        let current = self.current.insert(Current::new(reader, file, input.format, seed));
        current.skip(start, self.limit)?;
        Ok(true)
    }

    /// Leaves a file that was read to its end.
    fn close(&mut self) {
        if let Some(current) = self.current.take() {
            self.chain = current.hash.digest();
            self.plan.digests.set(current.file, |input| input.records = Some(current.records));
        }
    }
}

impl Iterator for Documents {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_arrival().map(|arrival| match arrival? {
            Arrival::Document(document) => Ok(document),
            Arrival::Refused(refused) => Err(refused.error()),
        })
    }
}

impl Current {
    fn new(reader: Reader, file: usize, format: Format, seed: u64) -> Self {
        Self {
            reader,
            file,
            format,
            line: 0,
            begun: 0,
            records: 0,
            hash: Xxh3::with_seed(seed),
            offset: 0,
            buffer: Vec::new(),
            start: 0,
            is_cut: false,
        }
    }

    /// Passes over what an earlier run has dealt with, and checks that it is what it was.
    fn skip(&mut self, start: Start, limit: usize) -> Result<()> {
        let (records, expected) = match start {
            Start::Beginning | Start::Nowhere => return Ok(()),
            Start::End => (u64::MAX, None),
            Start::After { records, hash } => (records, Some(hash)),
        };
        let mut hash = None;
        while self.records < records && self.next_record(limit)? {
            hash = Some(self.mark().hash);
        }
        match expected {
            Some(_) if hash != expected => Err(Error::file(
                self.reader.path(),
                "is not what it was when the unfinished output was begun: give the same input, or use --overwrite",
            )),
            _ => Ok(()),
        }
    }

    fn next_arrival(&mut self, field: &Arc<str>, limit: usize) -> Result<Option<Arrival>> {
        if !self.next_record(limit)? {
            return Ok(None);
        }
        let mark = self.mark();
        if self.is_cut {
            return Ok(Some(self.too_long(mark, limit)));
        }
        let text = match String::from_utf8(mem::take(&mut self.buffer)) {
            Ok(text) => text,
            Err(error) => return Ok(Some(self.not_utf8(mark, error))),
        };
        let (content, origin) = match self.format {
            Format::Text => (Content::Text(text), Origin::Text(field.clone())),
            Format::JsonLines => match Record::parse(text, field) {
                Ok((record, content)) => (content, Origin::Json(Box::new(record))),
                Err((line, reason)) => return Ok(Some(self.refuse(mark, line.into_bytes(), reason))),
            },
        };
        let (source, line) = (self.reader.path().clone(), self.line());
        Ok(Some(Arrival::Document(Document { source, line, mark, content, origin })))
    }

    /// Reads the next record into the buffer, as far as the limit allows; false at the end of the file.
    fn next_record(&mut self, limit: usize) -> Result<bool> {
        match self.format {
            Format::JsonLines => self.next_line(limit),
            Format::Text => self.whole_file(limit),
        }
    }

    /// Counts the record in the buffer and says how far reading has come.
    fn mark(&mut self) -> Mark {
        self.records += 1;
        self.hash.update(&self.buffer);
        self.hash.update(b"\n");
        Mark { file: self.file, records: self.records, offset: self.start, hash: self.hash.digest() }
    }

    /// Reads the shard's next line that is not blank, without its `\n`.
    fn next_line(&mut self, limit: usize) -> Result<bool> {
        loop {
            if mem::take(&mut self.is_cut) {
                let skipped = self.reader.skip_until(b'\n').map_err(|e| self.reader.error(e))?;
                self.offset += skipped as u64;
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
        self.start = self.offset;
        let mut window = (&mut self.reader).take((limit as u64).saturating_add(1));
        let count = window.read_until(b'\n', &mut self.buffer).map_err(|e| self.reader.error(e))?;
        self.offset += count as u64;
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
        self.offset += count as u64;
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
    fn not_utf8(&mut self, mark: Mark, error: std::string::FromUtf8Error) -> Arrival {
        let offset = error.utf8_error().valid_up_to();
        let raw = error.into_bytes();
        if self.format == Format::Text {
            self.line += raw[..offset].iter().filter(|&&byte| byte == b'\n').count() as u64;
            return self.refuse(mark, raw, "invalid utf-8 in this line");
        }
        self.refuse(mark, raw, format!("invalid utf-8 (byte {} of the line)", offset + 1))
    }
}
