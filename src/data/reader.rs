//! From files to documents, one record at a time.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::vec;

use xxhash_rust::xxh3::Xxh3;

use super::compress::Source;
use super::digest::InputDigests;
use super::document::Document;
use super::format::Format;
use super::lines::Lines;
#[cfg(feature = "parquet")]
use super::parquet;
use super::refused::{Arrival, Mark};
use super::shard::Shard;
use super::source::{InputFile, Progress};
use crate::{Error, Result};

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
/// read as text, even if it holds `input_ids` too, and one with ids as ids, even if it holds `messages`. A text file is one
/// document, a byte order mark being part of its text.
///
/// Parquet: each row is a record, which counts as a line. The first of the columns of that name, `input_ids` and `messages`
/// that is not null in it is read.
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
    records: Box<dyn Records>,
    file: usize,
    /// Records read so far.
    count: u64,
    hash: Xxh3,
}

/// The records of one file, or of a shard's part of it.
pub(super) trait Records: Send {
    /// The file.
    fn path(&self) -> &Arc<Path>;

    /// Goes to the next record, whose document may have so many bytes; false at the end.
    fn advance(&mut self, limit: usize) -> Result<bool>;

    /// The bytes of the record at hand that its hash is of.
    fn raw(&self) -> &[u8];

    /// Where it began, a byte of the data.
    fn offset(&self) -> u64;

    /// The record at hand; it is not to be asked for twice.
    fn arrival(&mut self, mark: Mark, limit: usize) -> Arrival;
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
                if let Some(arrival) = current.next_arrival(self.limit)? {
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
        let source = Source { progress, digests, index: file, shard };
        let records = open(&input, source, &self.field)?;
        let seed = if self.plan.is_chained { self.chain } else { 0 };
        let current = self.current.insert(Current::new(records, file, seed));
        current.skip(start, self.limit)?;
        Ok(true)
    }

    /// Leaves a file that was read to its end.
    fn close(&mut self) {
        if let Some(current) = self.current.take() {
            self.chain = current.hash.digest();
            self.plan.digests.set(current.file, |input| input.records = Some(current.count));
        }
    }
}

/// Opens a file as what it is.
#[cfg(feature = "parquet")]
fn open(input: &InputFile, source: Source, field: &Arc<str>) -> Result<Box<dyn Records>> {
    if input.format != Format::Text && parquet::begins(&input.path)? {
        return Ok(Box::new(parquet::Rows::open(&input.path, field, source)?));
    }
    Ok(Box::new(Lines::open(input, source, field.clone())?))
}

/// Opens a file as what it is.
#[cfg(not(feature = "parquet"))]
fn open(input: &InputFile, source: Source, field: &Arc<str>) -> Result<Box<dyn Records>> {
    Ok(Box::new(Lines::open(input, source, field.clone())?))
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
    fn new(records: Box<dyn Records>, file: usize, seed: u64) -> Self {
        Self { records, file, count: 0, hash: Xxh3::with_seed(seed) }
    }

    /// Passes over what an earlier run has dealt with, and checks that it is what it was.
    fn skip(&mut self, start: Start, limit: usize) -> Result<()> {
        let (records, expected) = match start {
            Start::Beginning | Start::Nowhere => return Ok(()),
            Start::End => (u64::MAX, None),
            Start::After { records, hash } => (records, Some(hash)),
        };
        let mut hash = None;
        while self.count < records && self.records.advance(limit)? {
            hash = Some(self.mark().hash);
        }
        match expected {
            Some(_) if hash != expected => Err(Error::file(
                self.records.path(),
                "is not what it was when the unfinished output was begun: give the same input, or use --overwrite",
            )),
            _ => Ok(()),
        }
    }

    fn next_arrival(&mut self, limit: usize) -> Result<Option<Arrival>> {
        if !self.records.advance(limit)? {
            return Ok(None);
        }
        let mark = self.mark();
        Ok(Some(self.records.arrival(mark, limit)))
    }

    /// Counts the record at hand and says how far reading has come.
    fn mark(&mut self) -> Mark {
        self.count += 1;
        self.hash.update(self.records.raw());
        self.hash.update(b"\n");
        let offset = self.records.offset();
        Mark { file: self.file, records: self.count, offset, hash: self.hash.digest() }
    }
}
