//! One part of a run that several processes share, decided by the inputs alone.

mod environment;
pub(super) mod frames;
pub(super) mod part;

use std::ffi::OsStr;
use std::fmt;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::format::Compression;
use super::source::is_dash;
use crate::{Error, Result};

/// Shard `index` of `count`. Each record of the inputs belongs to exactly one shard, whichever process asks:
///
/// | input | shard of a record |
/// |---|---|
/// | plain JSON lines | that in whose share of the file's bytes the record's first byte lies |
/// | zstd of at least `count` frames | that in whose share of the file's bytes the frame begins in which the record begins |
/// | gzip, fewer zstd frames, standard input, pipes | record `r` belongs to shard `r mod count`: every shard reads them whole |
/// | Parquet | that to which the row group belongs; the rows are shared out where there are fewer groups than shards |
/// | text | that of the file's number among the inputs, modulo `count` |
///
/// ```
/// use toedit::data::Shard;
/// let shard: Shard = "2/8".parse()?;
/// assert_eq!((shard.index(), shard.count()), (2, 8));
/// assert_eq!(shard.rename("out/corpus.jsonl.zst".as_ref()).to_str(), Some("out/corpus-00002-of-00008.jsonl.zst"));
/// # Ok::<(), toedit::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shard {
    index: u32,
    count: u32,
}

impl Shard {
    /// Shard `index`, from 0, of `count`.
    ///
    /// # Errors
    /// [`Error::Usage`] unless `index < count`.
    pub fn new(index: u32, count: u32) -> Result<Self> {
        if index >= count {
            return Err(Error::Usage(format!(
                "shard {index}/{count}: expected I/N with I from 0 to N-1, as in 0/8 for the first of eight"
            )));
        }
        Ok(Self { index, count })
    }

    /// The shard that the environment assigns to this process: a task of a Slurm array
    /// (`SLURM_ARRAY_TASK_ID`), a rank of OpenMPI (`OMPI_COMM_WORLD_RANK`) or of torchrun (`RANK`).
    ///
    /// # Errors
    /// [`Error::Usage`] if none of them is there, if two of them contradict each other, or if the tasks of the
    /// array are not evenly spaced.
    pub fn from_env() -> Result<Self> {
        environment::shard(|name| std::env::var(name).ok())
    }

    /// Its number, from 0.
    pub fn index(self) -> u32 {
        self.index
    }

    /// How many shards there are.
    pub fn count(self) -> u32 {
        self.count
    }

    /// The name of this shard's part of the output `path`: `name.ext` becomes `name-00000-of-00008.ext`.
    /// Standard output keeps its name.
    pub fn rename(self, path: &Path) -> PathBuf {
        let Some(name) = path.file_name().filter(|_| !is_dash(path)) else {
            return path.to_owned();
        };
        let plain = match Compression::from_name(path) {
            Compression::None => name,
            Compression::Gzip | Compression::Zstd => path.file_stem().unwrap_or(name),
        };
        let stem = Path::new(plain).file_stem().unwrap_or(plain);
        let extension = &name.as_bytes()[stem.len()..];
        let mut renamed = stem.to_owned();
        renamed.push(format!("-{:05}-of-{:05}", self.index, self.count));
        renamed.push(OsStr::from_bytes(extension));
        path.with_file_name(renamed)
    }

    /// Whether item `number` of a sequence that is dealt out in turn is this shard's.
    pub(super) fn owns(self, number: u64) -> bool {
        number % u64::from(self.count) == u64::from(self.index)
    }

    /// This shard's share of `length` things in a row; the shares of all shards follow each other without a
    /// gap.
    pub(super) fn range(self, length: u64) -> Range<u64> {
        let bound = |index: u32| {
            let bound = u128::from(length) * u128::from(index) / u128::from(self.count);
            u64::try_from(bound).unwrap_or(length)
        };
        bound(self.index)..bound(self.index + 1)
    }
}

/// As it is written on the command line: `2/8`.
impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl FromStr for Shard {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = text.split_once('/').and_then(|(index, count)| Some((digits(index)?, digits(count)?)));
        let Some((index, count)) = parts else {
            return Err(Error::Usage(format!(
                "shard `{text}`: expected I/N, as in 0/8 for the first of eight"
            )));
        };
        Self::new(index, count)
    }
}

/// A number without a sign.
fn digits(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}
