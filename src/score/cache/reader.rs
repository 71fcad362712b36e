//! Reading a cache: in the order in which it was written without searching, in any other by the index.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde_json::Value;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::segment::{END, HASH, HEAD, Head, PLACE, START, TAIL, decode, number, place};
use super::{
    Entry, Key, MANIFEST, MANIFEST_LIMIT, Manifest, SegmentCard, TOP_K, damaged, read_error, segment_name,
};
use crate::data::Settings;
use crate::model::folder::read_small;
use crate::{Error, Result};

/// Bytes of an index that are read at a time.
const CHUNK: usize = 1 << 20;

/// A cache to read from. Nothing of it is held in memory but one document at a time.
#[derive(Debug)]
pub struct CacheReader {
    folder: PathBuf,
    settings: Settings,
    top_k: u32,
    segments: Vec<Segment>,
    /// Where the document after the last one stands: its segment and offset.
    next: (usize, u64),
}

/// An open segment.
#[derive(Debug)]
struct Segment {
    path: PathBuf,
    file: File,
    /// Where its documents begin and end.
    start: u64,
    end: u64,
    documents: u64,
}

impl CacheReader {
    /// Opens the cache in `folder` and checks that its segments are whole.
    ///
    /// # Errors
    /// Names the file: there is no cache, or it is damaged.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST);
        if !path.exists() {
            let reason =
                format!("no {MANIFEST}: no cache, or the run that writes it has not come to its end");
            return Err(Error::file(folder, reason));
        }
        let json = read_small(&path, MANIFEST_LIMIT)?;
        let manifest: Manifest =
            serde_json::from_slice(&json).map_err(|error| damaged(&path, &error.to_string()))?;
        let Manifest { settings, segments, .. } = manifest;
        let top_k = settings.get(TOP_K).and_then(Value::as_u64).and_then(|k| u32::try_from(k).ok());
        let top_k = top_k.ok_or_else(|| damaged(&path, "no setting `top_k`"))?;
        let open = |(number, card): (usize, &SegmentCard)| {
            Segment::open(folder.join(segment_name(number)), card, &settings)
        };
        let segments = segments.par_iter().enumerate().map(open).collect::<Result<Vec<_>>>()?;
        let start = segments.first().map_or(0, |segment| segment.start);
        Ok(Self { folder: folder.to_owned(), settings, top_k, segments, next: (0, start) })
    }

    /// How many of the largest logits it holds of each position.
    pub fn top_k(&self) -> usize {
        self.top_k as usize
    }

    /// What its scores depend on.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Refuses a cache that was made with other settings than `expected`; those that are not named there do not matter.
    ///
    /// # Errors
    /// Names the first difference, with both values.
    pub fn expect(&self, expected: &Settings) -> Result<()> {
        let differs = |(name, _): &(&String, &Value)| self.settings.get(*name) != expected.get(*name);
        let Some((name, wanted)) = expected.iter().find(differs) else { return Ok(()) };
        let found = self.settings.get(name).map_or("nothing".to_owned(), Value::to_string);
        let reason =
            format!("made with `{name}` {found}, this run has {wanted}: score again, or run as it was made");
        Err(Error::file(&self.folder, reason))
    }

    /// The scores of a document with `positions` scored positions; `None` where the cache has none.
    ///
    /// # Errors
    /// Names the segment that is damaged, or the cache if it was made from other scored positions.
    pub fn find(&mut self, key: Key, positions: usize) -> Result<Option<Entry>> {
        let (segment, offset) = match self.is_next(key)? {
            Some(place) => place,
            None => match self.search(key)? {
                Some(place) => place,
                None => return Ok(None),
            },
        };
        let (entry, end) = self.segments[segment].entry(offset, key, positions, self.top_k)?;
        self.next = match self.segments.get(segment + 1) {
            Some(after) if end == self.segments[segment].end => (segment + 1, after.start),
            _ => (segment, end),
        };
        Ok(Some(entry))
    }

    /// The place behind the last document, if this one stands there.
    fn is_next(&self, key: Key) -> Result<Option<(usize, u64)>> {
        let (number, offset) = self.next;
        let Some(segment) = self.segments.get(number).filter(|segment| offset < segment.end) else {
            return Ok(None);
        };
        Ok((segment.head(offset)?.key == key).then_some((number, offset)))
    }

    fn search(&self, key: Key) -> Result<Option<(usize, u64)>> {
        for (number, segment) in self.segments.iter().enumerate() {
            if let Some(offset) = segment.search(key)? {
                return Ok(Some((number, offset)));
            }
        }
        Ok(None)
    }
}

impl Segment {
    fn open(path: PathBuf, card: &SegmentCard, settings: &Settings) -> Result<Self> {
        let file = File::open(&path).map_err(|error| Error::io(&path, error))?;
        let bytes = file.metadata().map_err(|error| Error::io(&path, error))?.len();
        let wrong = |reason: &str| damaged(&path, reason);
        if bytes != card.bytes {
            return Err(wrong(&format!("{bytes} bytes, expected {}", card.bytes)));
        }
        let expected = serde_json::to_vec(settings).map_err(|error| wrong(&error.to_string()))?;
        let length = (expected.len() as u32).to_le_bytes();
        let hash = xxh3_64(&expected).to_le_bytes();
        let expected = [&START[..], &length, &expected, &hash].concat();
        let start = expected.len() as u64;
        let tail = bytes.checked_sub(TAIL as u64).filter(|tail| *tail >= start);
        let tail = tail.ok_or_else(|| wrong("too short"))?;
        let mut segment = Self { path: path.clone(), file, start, end: tail, documents: card.documents };
        let mut found = vec![0; expected.len()];
        segment.read(0, &mut found)?;
        if found != expected {
            return Err(wrong("begins otherwise than cache.json says"));
        }
        let mut last = [0; TAIL];
        segment.read(tail, &mut last)?;
        let [end, documents, hash] = [0, 8, 16].map(|at| number(&last, at));
        let length = documents.checked_mul(PLACE as u64).and_then(|length| end.checked_add(length));
        if last[24..] != *END || length != Some(tail) || end < start || documents != card.documents {
            return Err(wrong("ends otherwise than cache.json says"));
        }
        segment.end = end;
        if segment.index_hash(tail)? != hash || format!("{hash:016x}") != card.index {
            return Err(wrong("its index is not what was written"));
        }
        Ok(segment)
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        self.file.read_exact_at(bytes, offset).map_err(|error| read_error(&self.path, error))
    }

    /// The hash of the index, which ends at `tail`.
    fn index_hash(&self, tail: u64) -> Result<u64> {
        let mut hasher = Xxh3::new();
        let mut chunk = vec![0; CHUNK.min((tail - self.end) as usize)];
        let mut at = self.end;
        while at < tail {
            let chunk = &mut chunk[..CHUNK.min((tail - at) as usize)];
            self.read(at, chunk)?;
            hasher.update(chunk);
            at += chunk.len() as u64;
        }
        Ok(hasher.digest())
    }

    /// What stands before the scores of the document at `offset`.
    fn head(&self, offset: u64) -> Result<Head> {
        let mut bytes = [0; HEAD];
        self.read(offset, &mut bytes)?;
        Head::from_bytes(&bytes).ok_or_else(|| damaged(&self.path, &format!("no document at byte {offset}")))
    }

    /// The document at `offset`, and where it ends.
    fn entry(&self, offset: u64, key: Key, positions: usize, top_k: u32) -> Result<(Entry, u64)> {
        let wrong = |reason: &str| damaged(&self.path, &format!("the document at byte {offset} {reason}"));
        let head = self.head(offset)?;
        if head.key != key || head.positions != positions as u64 || head.k > top_k {
            return Err(wrong("is another than the index says"));
        }
        let scores = offset + HEAD as u64;
        let end = head.payload().and_then(|payload| scores.checked_add(payload)?.checked_add(HASH as u64));
        let end = end.filter(|end| *end <= self.end).ok_or_else(|| wrong("does not end in the segment"))?;
        let mut bytes = vec![0; (end - scores) as usize];
        self.read(scores, &mut bytes)?;
        Ok((decode(head, &bytes).ok_or_else(|| wrong("is not what was written"))?, end))
    }

    /// The first place of a document in the index, by bisection.
    fn search(&self, key: Key) -> Result<Option<u64>> {
        let wanted = (key.stream, key.tokens);
        let place_at = |index: u64| -> Result<[u8; PLACE]> {
            let mut bytes = place(key, 0);
            self.read(self.end + index * PLACE as u64, &mut bytes)?;
            Ok(bytes)
        };
        let (mut low, mut high) = (0, self.documents);
        while low < high {
            let middle = low + (high - low) / 2;
            let bytes = place_at(middle)?;
            if (number(&bytes, 0), number(&bytes, 8)) < wanted {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        if low == self.documents {
            return Ok(None);
        }
        let bytes = place_at(low)?;
        let offset = number(&bytes, 16);
        if (number(&bytes, 0), number(&bytes, 8)) != wanted {
            return Ok(None);
        }
        if offset < self.start || offset >= self.end {
            return Err(damaged(&self.path, "its index leads out of its documents"));
        }
        Ok(Some(offset))
    }
}
