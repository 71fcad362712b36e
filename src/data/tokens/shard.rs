//! One shard: three mapped files, checked when they are opened.

use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use super::manifest::ShardEntry;
use super::{ENDS, SPANS, TOKENS, first_not, shard_file};
use crate::map::map;
use crate::model::folder::open_regular;
use crate::{Error, Result};

/// Bytes of a number in `.ends` and `.spans`.
const WORD: u64 = 8;

/// A mapped shard. Positions and documents count from its own beginning.
pub(super) struct Shard {
    path: PathBuf,
    /// Bytes of a token.
    width: usize,
    pub tokens: u64,
    pub documents: u64,
    ids: Mmap,
    ends: Mmap,
    spans: Option<Mmap>,
}

impl Shard {
    pub fn open(folder: &Path, number: usize, entry: &ShardEntry, bytes_per_token: u32) -> Result<Self> {
        let path = |kind| folder.join(shard_file(number, kind));
        let ids = map_exactly(&path(TOKENS), entry.tokens, bytes_per_token.into())?;
        let ends = map_exactly(&path(ENDS), entry.documents, WORD)?;
        let spans = entry.spans.map(|count| map_exactly(&path(SPANS), count, 2 * WORD)).transpose()?;
        let (tokens, documents, width) = (entry.tokens, entry.documents, bytes_per_token as usize);
        let shard = Self { path: path(TOKENS), width, tokens, documents, ids, ends, spans };
        shard.check_ends().map_err(|reason| Error::file(path(ENDS), reason))?;
        shard.check_spans().map_err(|reason| Error::file(path(SPANS), reason))?;
        Ok(shard)
    }

    fn check_ends(&self) -> Result<(), String> {
        let mut last = 0;
        for document in 0..self.documents {
            let end = word(&self.ends, document);
            if end < last {
                return Err(format!("document {document} ends at token {end}, before its beginning {last}"));
            }
            last = end;
        }
        if last != self.tokens {
            return Err(format!("the last document ends at token {last}: expected {}", self.tokens));
        }
        Ok(())
    }

    fn check_spans(&self) -> Result<(), String> {
        let mut last = 0;
        for number in 0..self.span_count() {
            let Range { start, end } = self.span(number);
            if start < last || end <= start || end > self.tokens {
                return Err(format!(
                    "tokens {start} to {end} after {last} of {}: not ascending",
                    self.tokens
                ));
            }
            last = end;
        }
        Ok(())
    }

    /// The tokens of a document.
    pub fn document(&self, document: u64) -> Range<u64> {
        let start = document.checked_sub(1).map_or(0, |before| word(&self.ends, before));
        start..word(&self.ends, document).max(start)
    }

    /// The document that holds the token at `position`.
    pub fn document_at(&self, position: u64) -> u64 {
        first_not(self.documents, |document| word(&self.ends, document) <= position)
    }

    /// The id at `position`, whatever it is.
    pub fn id(&self, position: u64) -> u32 {
        let at = position as usize * self.width;
        decode(self.ids.get(at..at + self.width).unwrap_or_default())
    }

    /// Appends the ids of `range`, which lies within the shard, all below `vocabulary`.
    pub fn read(&self, range: Range<u64>, vocabulary: u32, out: &mut Vec<u32>) -> Result<()> {
        let bytes = range.start as usize * self.width..range.end as usize * self.width;
        let first = out.len();
        out.extend(self.ids[bytes].chunks_exact(self.width).map(decode));
        match out[first..].iter().position(|&id| id >= vocabulary) {
            None => Ok(()),
            Some(place) => {
                let (position, id) = (range.start + place as u64, out[first + place]);
                let reason = format!("token {position} has id {id}: expected less than {vocabulary}");
                Err(Error::file(&self.path, reason))
            }
        }
    }

    /// Appends the runs within `range` that carry loss, moved so that the range begins at `base`.
    pub fn loss(&self, range: Range<u64>, base: usize, out: &mut Vec<Range<usize>>) {
        let mut add = |run: Range<u64>| {
            let place =
                |position: u64| (position.clamp(range.start, range.end) - range.start) as usize + base;
            let run = place(run.start)..place(run.end);
            match out.last_mut() {
                _ if run.is_empty() => {}
                // Runs that touch are one.
                Some(last) if last.end == run.start => last.end = run.end,
                _ => out.push(run),
            }
        };
        if self.spans.is_none() {
            return add(range.clone());
        }
        self.spans_in(&range).for_each(add);
    }

    /// Whether a token of `range` carries loss.
    pub fn has_loss(&self, range: &Range<u64>) -> bool {
        !range.is_empty() && (self.spans.is_none() || self.spans_in(range).next().is_some())
    }

    /// The runs that reach into `range`.
    fn spans_in(&self, range: &Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let (count, end) = (self.span_count(), range.end);
        let first = first_not(count, |number| self.span(number).end <= range.start);
        (first..count).map(|number| self.span(number)).take_while(move |run| run.start < end)
    }

    fn span_count(&self) -> u64 {
        self.spans.as_ref().map_or(0, |spans| spans.len() as u64 / (2 * WORD))
    }

    fn span(&self, number: u64) -> Range<u64> {
        let spans = self.spans.as_deref().unwrap_or_default();
        word(spans, 2 * number)..word(spans, 2 * number + 1)
    }
}

/// The number at `index`.
fn word(bytes: &[u8], index: u64) -> u64 {
    let at = (index * WORD) as usize;
    u64::from_le_bytes(bytes[at..at + WORD as usize].try_into().expect("eight bytes"))
}

/// An id of two or four bytes.
fn decode(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |id, &byte| id << 8 | u32::from(byte))
}

/// Maps a file of `count` items of `size` bytes.
fn map_exactly(path: &Path, count: u64, size: u64) -> Result<Mmap> {
    let (file, len) = open_regular(path)?;
    if count.checked_mul(size) != Some(len) {
        let expected = u128::from(count) * u128::from(size);
        return Err(Error::file(path, format!("{len} bytes: expected {expected}, as tokens.json says")));
    }
    map(&file).map_err(|source| Error::io(path, source))
}
