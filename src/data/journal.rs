//! The journal of an output in the making: a line for what it is to be, one for each frame that is durable, one for its end.
//!
//! A line is a checksum of 16 hexadecimal digits, a space and a JSON object. The checksum covers the line before it too, so
//! that a journal is valid up to the first line that was torn, changed or moved.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::manifest::{Manifest, RecordCounts};
use super::refused::Mark;
use super::settings::Settings;
use super::storage::StoredFile;

/// The version of a journal's meaning.
const VERSION: u32 = 1;
/// The longest line that is read, bytes: a manifest of a million inputs has less.
const MAX_LINE: u64 = 1 << 30;

/// A line of a journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Line {
    /// The first.
    Begin(Begin),
    /// A frame is durable.
    Frame(Commit),
    /// All frames are there: what the manifest will say.
    End(Box<Manifest>),
}

/// What an output is to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Begin {
    pub version: u32,
    /// All that its bytes depend on.
    pub settings: Settings,
    /// Whether it may replace what has its name.
    pub overwrite: bool,
}

impl Begin {
    pub fn new(settings: Settings, overwrite: bool) -> Self {
        Self { version: VERSION, settings, overwrite }
    }
}

/// A frame, and all up to it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Commit {
    /// The output.
    pub output: Extent,
    /// The reject file.
    pub rejects: Extent,
    /// How far the input was read.
    #[serde(with = "MarkFields")]
    pub mark: Mark,
    pub records: RecordCounts,
    /// The command's own counts.
    pub counts: Value,
    /// What it took.
    pub seconds: f64,
}

/// A frame in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Extent {
    /// Where it ends.
    pub end: u64,
    /// XXH3-64 of its bytes.
    pub hash: u64,
}

/// [`Mark`] in a journal.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Mark")]
struct MarkFields {
    file: usize,
    records: u64,
    offset: u64,
    hash: u64,
}

/// Appends lines.
#[derive(Debug)]
pub(super) struct JournalWriter {
    file: Box<dyn StoredFile>,
    chain: u64,
}

impl JournalWriter {
    pub fn new(file: Box<dyn StoredFile>) -> Self {
        Self { file, chain: 0 }
    }

    /// Writes a line, which is durable after [`JournalWriter::sync`].
    pub fn append(&mut self, line: &Line) -> io::Result<()> {
        let json = serde_json::to_string(line)?;
        self.chain = xxh3_64_with_seed(json.as_bytes(), self.chain);
        self.file.append(format!("{:016x} {json}\n", self.chain).as_bytes())
    }

    pub fn sync(&mut self) -> io::Result<()> {
        self.file.sync()
    }
}

/// Reads lines up to the first that is not valid.
pub(super) struct JournalReader {
    file: BufReader<File>,
    chain: u64,
}

impl JournalReader {
    /// Opens a journal and reads its first line; none where that is not valid, or of another version.
    pub fn open(path: &Path) -> io::Result<Option<(Begin, Self)>> {
        let mut reader = Self { file: BufReader::new(File::open(path)?), chain: 0 };
        Ok(match reader.next_line()? {
            Some(Line::Begin(begin)) if begin.version == VERSION => Some((begin, reader)),
            _ => None,
        })
    }

    /// The next line; none after the last valid one.
    pub fn next_line(&mut self) -> io::Result<Option<Line>> {
        let mut bytes = Vec::new();
        (&mut self.file).take(MAX_LINE).read_until(b'\n', &mut bytes)?;
        Ok(self.parse(&bytes))
    }

    fn parse(&mut self, bytes: &[u8]) -> Option<Line> {
        let line = str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
        let (checksum, json) = line.split_once(' ')?;
        let chain = xxh3_64_with_seed(json.as_bytes(), self.chain);
        if checksum != format!("{chain:016x}") {
            return None;
        }
        self.chain = chain;
        serde_json::from_str(json).ok()
    }
}
