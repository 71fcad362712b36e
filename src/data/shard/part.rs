//! The part of a file that a shard reads: where its records begin, and how many lines lie before them.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use zstd::stream::read::Decoder;

use super::Shard;
use super::frames::{self, Share};
use crate::Error;
use crate::data::format::Compression;

/// Read at a time where lines are counted.
const BUFFER: usize = 256 << 10;

/// What a shard reads of a file.
#[derive(Debug)]
pub(in crate::data) enum Part {
    /// All of it.
    Whole,
    /// All of it too, but its records are dealt out in turn.
    Dealt,
    /// The records that begin in these bytes of a plain file.
    Bytes(Range<u64>),
    /// The records that begin in these frames of a zstd file.
    Frames(Share),
}

impl Part {
    /// The part of `shard`. A stream may lie in a file, of which it is a part.
    ///
    /// # Errors
    /// The system's, and those of [`frames::share`].
    pub fn plan(
        file: &File,
        is_stream: bool,
        compression: Compression,
        shard: Option<Shard>,
    ) -> io::Result<Self> {
        let Some(shard) = shard else { return Ok(Self::Whole) };
        let metadata = file.metadata()?;
        if is_stream || !metadata.is_file() {
            return Ok(Self::Dealt);
        }
        match compression {
            Compression::None => Ok(Self::Bytes(shard.range(metadata.len()))),
            Compression::Gzip => Ok(Self::Dealt),
            Compression::Zstd => {
                Ok(frames::share(file, metadata.len(), shard)?.map_or(Self::Dealt, Self::Frames))
            }
        }
    }
}

/// How the data before a shard's first frame ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::data) enum Seam {
    /// There is none.
    Beginning,
    /// With a line's end.
    Newline,
    /// Inside a line.
    Inside,
}

impl Seam {
    /// Decodes the last frame before `share`; all frames before it where that one turns out to be empty.
    ///
    /// # Errors
    /// The system's, and those of corrupt data.
    pub fn before(file: &File, share: &Share) -> io::Result<Self> {
        let start = share.bytes.start;
        let mut last = last_byte(file, share.previous..start)?;
        if last.is_none() && share.previous > 0 {
            last = last_byte(file, 0..start)?;
        }
        Ok(match last {
            None => Self::Beginning,
            Some(b'\n') => Self::Newline,
            Some(_) => Self::Inside,
        })
    }
}

fn last_byte(file: &File, frames: Range<u64>) -> io::Result<Option<u8>> {
    let mut last = None;
    if frames.is_empty() {
        return Ok(last);
    }
    each_buffer(&mut decode(file, frames)?, |bytes| last = bytes.last().copied().or(last))?;
    Ok(last)
}

/// The data of these frames.
fn decode(file: &File, frames: Range<u64>) -> io::Result<impl BufRead> {
    let mut decoder = Decoder::new(bytes(file, frames)?)?;
    decoder.window_log_max(31)?;
    Ok(BufReader::with_capacity(BUFFER, decoder))
}

/// These bytes of a file, whose position moves there.
fn bytes(file: &File, range: Range<u64>) -> io::Result<io::Take<File>> {
    let mut file = file.try_clone()?;
    file.seek(SeekFrom::Start(range.start))?;
    Ok(file.take(range.end.saturating_sub(range.start)))
}

fn each_buffer(reader: &mut impl BufRead, mut look: impl FnMut(&[u8])) -> io::Result<()> {
    loop {
        let buffer = reader.fill_buf()?;
        let length = buffer.len();
        if length == 0 {
            return Ok(());
        }
        look(buffer);
        reader.consume(length);
    }
}

/// What lies before a shard's first record. Counted when it is asked for, by reading the file once more: only
/// messages need it.
#[derive(Debug)]
pub(in crate::data) struct Before {
    path: Arc<Path>,
    compression: Compression,
    /// Bytes of the file to look at.
    bytes: u64,
    /// Data behind them that was passed over, up to a line's end if there is any.
    skipped: u64,
    counted: OnceLock<Result<Extent, String>>,
}

/// How much data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::data) struct Extent {
    /// Lines that end in it.
    pub lines: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Before {
    pub fn new(path: Arc<Path>, compression: Compression, bytes: u64, skipped: u64) -> Self {
        Self { path, compression, bytes, skipped, counted: OnceLock::new() }
    }

    /// Its extent, or why it cannot be counted.
    pub fn extent(&self) -> Result<Extent, &str> {
        let counted = self.counted.get_or_init(|| self.count().map_err(|error| error.to_string()));
        counted.as_ref().copied().map_err(String::as_str)
    }

    fn count(&self) -> io::Result<Extent> {
        let file = File::open(&self.path)?;
        let mut extent = Extent { lines: u64::from(self.skipped > 0), bytes: self.skipped };
        let look = |buffer: &[u8]| {
            extent.lines += buffer.iter().filter(|&&byte| byte == b'\n').count() as u64;
            extent.bytes += buffer.len() as u64;
        };
        match self.compression {
            Compression::Zstd => each_buffer(&mut decode(&file, 0..self.bytes)?, look)?,
            Compression::None | Compression::Gzip => {
                each_buffer(&mut BufReader::with_capacity(BUFFER, bytes(&file, 0..self.bytes)?), look)?;
            }
        }
        Ok(extent)
    }
}

/// A line of a file, from 1, counted from where the reader began.
#[derive(Clone, Debug)]
pub(in crate::data) struct Line {
    pub number: u64,
    /// None where the reader began with the file.
    pub before: Option<Arc<Before>>,
}

impl Line {
    /// Its number in the whole file; in what the reader has seen of it, should the rest have become unreadable.
    pub fn in_file(&self) -> u64 {
        let before = self.before.as_ref().and_then(|before| before.extent().ok());
        self.number + before.unwrap_or_default().lines
    }

    /// The byte of the whole file's data that is byte `offset` of what the reader has seen of it.
    pub fn offset_in_file(&self, offset: u64) -> u64 {
        let before = self.before.as_ref().and_then(|before| before.extent().ok());
        offset + before.unwrap_or_default().bytes
    }

    /// An error about this line of `path`.
    pub fn error(&self, path: &Path, mut reason: String) -> Error {
        if let Some(Err(error)) = self.before.as_ref().map(|before| before.extent()) {
            reason += &format!(" (the line is counted from where the shard begins: {error})");
        }
        Error::Record { path: path.to_owned(), line: self.in_file(), reason }
    }
}

impl From<u64> for Line {
    fn from(number: u64) -> Self {
        Self { number, before: None }
    }
}
