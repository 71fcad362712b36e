//! A Parquet file's bytes, by positioned reads within bounds.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::Compression;
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

use super::thrift::{self, PageSize};
use crate::data::digest::state;

/// Read at a time where a page header is looked for.
const BUFFER: usize = 64 << 10;
/// Bytes of most page headers, and of the longest: statistics may hold long values.
const HEADER: u64 = 256;
const MAX_HEADER: u64 = 16 << 20;
/// How often longer than it is a block of Snappy or LZ4 can become: 21 and 255 times. The crate makes room for all of it first.
const MAX_RATIO: u64 = 256;

/// A file, or bytes of it that are strung together.
#[derive(Clone)]
pub(super) struct Chunks {
    file: Arc<File>,
    /// Not empty, one after the other.
    ranges: Arc<[Range<u64>]>,
    length: u64,
}

impl Chunks {
    /// The whole file, as long as it is now.
    pub fn whole(file: File) -> io::Result<Self> {
        let all = 0..file.metadata()?.len();
        Ok(Self::of(Arc::new(file), vec![all]))
    }

    /// The bytes of `ranges` as if they followed each other.
    pub fn of(file: Arc<File>, ranges: Vec<Range<u64>>) -> Self {
        let length = ranges.iter().map(|range| range.end.saturating_sub(range.start)).sum();
        Self { file, ranges: ranges.into(), length }
    }

    /// Size and time of the last change of the file.
    pub fn file_state(&self) -> io::Result<(u64, Option<u64>)> {
        state(&self.file)
    }

    /// Checks the headers of the pages that lie in `range` one after the other.
    pub fn check_pages(&self, range: Range<u64>, compression: Compression) -> Result<()> {
        let is_block = matches!(compression, Compression::SNAPPY | Compression::LZ4 | Compression::LZ4_RAW);
        let mut at = range.start;
        while at < range.end {
            let page = self.page(at)?;
            if is_block && page.plain > MAX_RATIO.saturating_mul(page.stored) {
                return Err(ParquetError::General("a page is too short for what it says it holds".into()));
            }
            at = at.saturating_add(page.header).saturating_add(page.stored);
        }
        Ok(())
    }

    fn page(&self, start: u64) -> Result<PageSize> {
        let left = self.length.saturating_sub(start).min(MAX_HEADER);
        let mut size = HEADER.min(left);
        loop {
            let bytes = self.get_bytes(start, size as usize)?;
            match thrift::page(&bytes) {
                Ok(page) => return Ok(page),
                Err(reason) if size == left => return Err(ParquetError::General(reason.into())),
                Err(_) => size = (16 * size).min(left),
            }
        }
    }

    fn from(&self, start: u64) -> Stream {
        let (mut part, mut skipped) = (0, start);
        while let Some(range) = self.ranges.get(part) {
            let length = range.end.saturating_sub(range.start);
            if skipped < length {
                break;
            }
            skipped -= length;
            part += 1;
        }
        let at = self.ranges.get(part).map_or(0, |range| range.start + skipped);
        Stream { chunks: self.clone(), part, at }
    }
}

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.length
    }
}

impl ChunkReader for Chunks {
    type T = BufReader<Stream>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        Ok(BufReader::with_capacity(BUFFER, self.from(start)))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        if start.checked_add(length as u64).is_none_or(|end| end > self.length) {
            return Err(ParquetError::EOF(format!(
                "{length} bytes at byte {start} lie beyond the end, at byte {}",
                self.length
            )));
        }
        let mut bytes = vec![0; length];
        self.from(start).read_exact(&mut bytes)?;
        Ok(bytes.into())
    }
}

/// A position in the bytes, of its own: the file's own position plays no part. Its end is an error, where the crate would go on
/// passing over values that are not there.
pub(super) struct Stream {
    chunks: Chunks,
    part: usize,
    at: u64,
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(range) = self.chunks.ranges.get(self.part) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let left = usize::try_from(range.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let count = self.chunks.file.read_at(&mut buffer[..wanted], self.at)?;
        self.at += count as u64;
        if self.at == range.end {
            self.part += 1;
            self.at = self.chunks.ranges.get(self.part).map_or(0, |range| range.start);
        }
        Ok(count)
    }
}
