//! Token shards: a tokenised corpus as a folder of files that are mapped, not read, so that any number of tokens streams
//! through in the memory of a few.
//!
//! | file | holds |
//! |---|---|
//! | `tokens.json` | the [`Manifest`]: sizes, vocabulary, tokenizer; written last, so a folder without it is not complete |
//! | `shard-00000.bin` | token ids, little endian, two bytes each where the vocabulary has at most 65,536, else four |
//! | `shard-00000.ends` | where each document ends, in tokens from the shard's beginning, u64 little endian |
//! | `shard-00000.spans` | only where some tokens carry no loss: begin and end of each run that does, likewise, ascending |
//!
//! ```
//! use toedit::data::tokens::{TokenShards, TokenWriter, WriterConfig};
//! let folder = tempfile::tempdir().unwrap();
//! let mut writer = TokenWriter::create(folder.path(), WriterConfig::new(4096, Some(0)), false)?;
//! writer.push(&[5, 6, 7], None)?;
//! writer.push(&[8, 9], Some(&[1..2]))?;
//! writer.finish()?;
//! let shards = TokenShards::open(folder.path())?;
//! assert_eq!((shards.documents(), shards.tokens()), (2, 5));
//! assert_eq!(shards.document(1)?.loss, [1..2]);
//! # Ok::<(), toedit::Error>(())
//! ```

mod manifest;
mod shard;
mod shards;
mod writer;

pub use manifest::{MANIFEST, Manifest, ShardEntry};
pub use shards::{TokenDocument, TokenShards};
pub use writer::{DEFAULT_SHARD_TOKENS, TokenWriter, WriterConfig};

/// The kinds of a shard's files, by the ends of their names.
const TOKENS: &str = "bin";
const ENDS: &str = "ends";
const SPANS: &str = "spans";

/// The name of a shard's file.
fn shard_file(number: usize, kind: &str) -> String {
    format!("shard-{number:05}.{kind}")
}

/// The first of `0..len` for which `before` is false, all those ahead of it being true; `len` where there is none.
pub(crate) fn first_not(len: u64, before: impl Fn(u64) -> bool) -> u64 {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}
