//! Scores kept in files, so that many rules share one pass over the model.
//!
//! A cache is a folder: `cache.json` with the settings that the scores depend on and a list of segments, and the segments,
//! `scores-00000.bin` and so on. It holds for every scored position the raw statistics ([`Statistics`]) and the K largest
//! logits with their ids, 12 + 8·K bytes a token, and 40 bytes and an index entry of 24 for a document.
//!
//! A segment, all numbers little endian: the magic `toedits1`, a u32 length and as many bytes of settings (the JSON of
//! `cache.json`'s), the XXH3-64 of those bytes; then documents in the order in which they were scored; then the index,
//! `(stream, tokens, offset)` as u64, ascending; at last the index's offset, its number of entries, its XXH3-64, and the
//! magic `toedite1`. A document: `(stream, tokens, positions)` as u64 and K as u32, a u32 check of those; the statistics of
//! each position, three f32; its largest logits, best first, as u32 id and f32; the XXH3-64 of statistics and logits.
//!
//! `stream` is that of the document's random numbers, `tokens` a hash of what the model sees; together they are the key.
//! A segment closes at [`SEGMENT_DOCUMENTS`] documents, or where its bytes pass [`SEGMENT_BYTES`], so that memory is bounded
//! whatever the size of the corpus. Segments grow under hidden names of their process's own; all get their names and
//! `cache.json` is written when the run has come to its end, so a cache is whole or is none.

mod reader;
mod segment;
mod writer;

use std::fs::File;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

pub use reader::CacheReader;
pub use writer::CacheWriter;

use super::{Scope, Sequence, Statistics};
use crate::data::Settings;
use crate::ops::draw::Candidate;
use crate::{Error, Result};

/// Documents of a segment at most.
pub const SEGMENT_DOCUMENTS: usize = 1 << 20;
/// Bytes after which a segment takes no further document.
pub const SEGMENT_BYTES: u64 = 4 << 30;

/// The file that makes a folder a cache.
const MANIFEST: &str = "cache.json";
/// The largest such file that is read.
const MANIFEST_LIMIT: u64 = 64 << 20;

/// The scores of one document, by scored position in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entry {
    /// Raw statistics of each position.
    pub statistics: Vec<Statistics>,
    /// How many of the largest logits each position has: K, or the vocabulary's size where that is less.
    pub k: usize,
    /// The `k` largest logits of each position, best first.
    pub largest: Vec<Candidate>,
}

/// Which document an entry is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The stream of its random numbers.
    pub stream: u64,
    /// A hash of what the model sees: context, tokens, and which of them are scored.
    pub tokens: u64,
}

impl Key {
    /// Of a document that is laid out as `sequence`.
    pub fn new(stream: u64, sequence: &Sequence) -> Self {
        let mut hasher = Xxh3::new();
        let mut numbers = |numbers: &mut dyn Iterator<Item = u64>| {
            let bytes: Vec<u8> = numbers.flat_map(u64::to_le_bytes).collect();
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(&bytes);
        };
        for ids in [sequence.context, sequence.ids] {
            numbers(&mut ids.iter().map(|id| u64::from(*id)));
        }
        let (kind, runs) = match sequence.scope {
            Scope::All => (0, &[][..]),
            Scope::Within(runs) => (1, runs),
            Scope::Apart(runs) => (2, runs),
        };
        let ends = runs.iter().flat_map(|run| [run.start as u64, run.end as u64]);
        numbers(&mut std::iter::once(kind).chain(ends));
        Self { stream, tokens: hasher.digest() }
    }
}

/// The setting that says how many of the largest logits are kept.
pub const TOP_K: &str = "top_k";

/// `cache.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    settings: Settings,
    documents: u64,
    segments: Vec<SegmentCard>,
}

/// A segment as `cache.json` names it.
#[derive(Debug, Serialize, Deserialize)]
struct SegmentCard {
    bytes: u64,
    documents: u64,
    /// The XXH3-64 of its index, in hexadecimal.
    index: String,
}

/// The name of a segment.
fn segment_name(number: usize) -> String {
    format!("scores-{number:05}.bin")
}

/// Makes names durable.
fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| Error::io(folder, error))
}

/// A file that is not as it was written.
fn damaged(path: &Path, reason: &str) -> Error {
    Error::file(path, format!("{reason}: the cache is damaged, score again"))
}

/// [`damaged`] where a file ends early, else the system's reason.
fn read_error(path: &Path, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => damaged(path, "ends early"),
        _ => Error::io(path, error),
    }
}
