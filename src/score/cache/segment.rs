//! The bytes of a segment.

use xxhash_rust::xxh3::xxh3_64;

use super::{Entry, Key};
use crate::ops::draw::Candidate;
use crate::score::Statistics;

/// What a segment begins with.
pub(super) const START: &[u8; 8] = b"toedits1";
/// What it ends with.
pub(super) const END: &[u8; 8] = b"toedite1";
/// Bytes of what stands before a document's scores.
pub(super) const HEAD: usize = 32;
/// Bytes of the hash behind them.
pub(super) const HASH: usize = 8;
/// Bytes of an entry of the index.
pub(super) const PLACE: usize = 24;
/// Bytes behind the index.
pub(super) const TAIL: usize = 32;
/// Bytes of a position's statistics.
const STATISTICS: usize = 12;
/// Bytes of a logit with its id.
const CANDIDATE: usize = 8;

/// What stands before a document's scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub key: Key,
    pub positions: u64,
    pub k: u32,
}

impl Head {
    pub fn to_bytes(self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        for (number, at) in [self.key.stream, self.key.tokens, self.positions].into_iter().zip([0, 8, 16]) {
            bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        bytes[24..28].copy_from_slice(&self.k.to_le_bytes());
        let check = xxh3_64(&bytes[..28]) as u32;
        bytes[28..].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// `None` where the check fails.
    pub fn from_bytes(bytes: &[u8; HEAD]) -> Option<Self> {
        let (start, check) = bytes.split_at(28);
        if (xxh3_64(start) as u32).to_le_bytes() != check {
            return None;
        }
        let key = Key { stream: number(bytes, 0), tokens: number(bytes, 8) };
        let k = u32::from_le_bytes([bytes[24], bytes[25], bytes[26], bytes[27]]);
        Some(Self { key, positions: number(bytes, 16), k })
    }

    /// Bytes of the scores; `None` where no file can have as many.
    pub fn payload(self) -> Option<u64> {
        let position = STATISTICS as u64 + CANDIDATE as u64 * u64::from(self.k);
        self.positions.checked_mul(position).filter(|bytes| *bytes <= i64::MAX as u64 / 2)
    }
}

/// The little-endian u64 at byte `at`.
pub(super) fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

/// An entry's scores, and their hash.
pub(super) fn encode(entry: &Entry) -> Vec<u8> {
    let len = entry.statistics.len() * STATISTICS + entry.largest.len() * CANDIDATE;
    let mut bytes = Vec::with_capacity(len + HASH);
    for Statistics { target, max, rest } in &entry.statistics {
        bytes.extend([target, max, rest].into_iter().flat_map(|number| number.to_le_bytes()));
    }
    for Candidate { id, logit } in &entry.largest {
        bytes.extend_from_slice(&id.to_le_bytes());
        bytes.extend_from_slice(&logit.to_le_bytes());
    }
    bytes.extend_from_slice(&xxh3_64(&bytes).to_le_bytes());
    bytes
}

/// The entry of a document from what [`encode`] made of it; `None` where that is damaged, or not what a model gives.
pub(super) fn decode(head: Head, bytes: &[u8]) -> Option<Entry> {
    let (scores, hash) = bytes.split_at_checked(bytes.len().checked_sub(HASH)?)?;
    if xxh3_64(scores) != number(hash, 0) || Some(scores.len() as u64) != head.payload() {
        return None;
    }
    let (statistics, largest) = scores.split_at(head.positions as usize * STATISTICS);
    let word = |bytes: &[u8], at: usize| -> [u8; 4] { bytes[at..at + 4].try_into().expect("4 bytes") };
    let float = |bytes: &[u8], at: usize| f32::from_le_bytes(word(bytes, at));
    let statistics: Vec<_> = statistics
        .chunks_exact(STATISTICS)
        .map(|bytes| Statistics { target: float(bytes, 0), max: float(bytes, 4), rest: float(bytes, 8) })
        .collect();
    let candidate =
        |bytes: &[u8]| Candidate { id: u32::from_le_bytes(word(bytes, 0)), logit: float(bytes, 4) };
    let largest: Vec<_> = largest.chunks_exact(CANDIDATE).map(candidate).collect();
    let sound = statistics.iter().all(Statistics::is_finite) && largest.iter().all(|c| c.logit.is_finite());
    sound.then_some(Entry { statistics, k: head.k as usize, largest })
}

/// A document's place in the index.
pub(super) fn place(key: Key, offset: u64) -> [u8; PLACE] {
    let mut bytes = [0; PLACE];
    for (number, at) in [key.stream, key.tokens, offset].into_iter().zip([0, 8, 16]) {
        bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
    }
    bytes
}
