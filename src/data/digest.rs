//! Fingerprints of whole files, those of inputs being made while they are read.

use std::fmt::Write as _;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Bytes that are hashed at a time.
const BUFFER: usize = 256 << 10;

/// A file as it lies on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// Its size.
    pub bytes: u64,
    /// SHA-256 in hexadecimal digits.
    pub sha256: String,
}

impl Digest {
    /// Reads a file to its end.
    ///
    /// # Errors
    /// The system's.
    pub fn of(path: &Path) -> io::Result<Self> {
        let (mut file, mut hasher) = (File::open(path)?, Hasher::default());
        let mut buffer = vec![0; BUFFER];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(hasher.digest()),
                Ok(count) => hasher.update(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// A [`Digest`] in the making.
#[derive(Clone, Debug, Default)]
pub(super) struct Hasher {
    bytes: u64,
    sha256: Sha256,
}

impl Hasher {
    pub fn update(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.sha256.update(bytes);
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Of everything so far.
    pub fn digest(&self) -> Digest {
        let mut sha256 = String::with_capacity(64);
        for byte in self.sha256.clone().finalize() {
            let _ = write!(sha256, "{byte:02x}");
        }
        Digest { bytes: self.bytes, sha256 }
    }
}

/// What is known of an input file once it has been read to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct InputDigest {
    /// None before the end.
    pub digest: Option<Digest>,
    /// When it was last changed, in nanoseconds since 1970; none for a stream.
    pub modified: Option<u64>,
    /// Its records, those that were refused among them; none before the end.
    pub records: Option<u64>,
}

/// What is known of each input file. Clones share it: the reader fills it, the writer takes from it.
#[derive(Clone, Debug, Default)]
pub(super) struct InputDigests(Arc<Mutex<Vec<InputDigest>>>);

impl InputDigests {
    pub fn get(&self, file: usize) -> InputDigest {
        let files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        files.get(file).cloned().unwrap_or_default()
    }

    pub fn set(&self, file: usize, change: impl FnOnce(&mut InputDigest)) {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if files.len() <= file {
            files.resize_with(file + 1, InputDigest::default);
        }
        change(&mut files[file]);
    }
}

/// When a file was last changed, in nanoseconds since 1970.
pub(super) fn modified(metadata: &Metadata) -> Option<u64> {
    let since = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_nanos()).ok()
}

/// Why a file that changes is not read further.
#[derive(Debug, thiserror::Error)]
#[error("changed while it was read: start again once it is at rest")]
pub(super) struct Changed;

/// A file that is hashed while it is read. One that changes meanwhile is an error: what was made of it would be of
/// neither state.
pub(super) struct HashedFile {
    file: File,
    /// None once the end was seen.
    hasher: Option<Hasher>,
    /// Size and time of the last change, at first; none for a stream.
    before: Option<(u64, Option<u64>)>,
    digests: InputDigests,
    index: usize,
}

impl HashedFile {
    /// The digest goes into `digests` under `index`. A stream may lie in a file, of which it is a part.
    pub fn new(file: File, is_stream: bool, digests: InputDigests, index: usize) -> io::Result<Self> {
        let is_file = !is_stream && file.metadata()?.is_file();
        let before = if is_file { Some(state(&file)?) } else { None };
        Ok(Self { file, hasher: Some(Hasher::default()), before, digests, index })
    }

    fn end(&self, hasher: &Hasher) -> io::Result<()> {
        if let Some(before) = self.before
            && (state(&self.file)? != before || hasher.bytes() != before.0)
        {
            return Err(io::Error::other(Changed));
        }
        self.digests.set(self.index, |input| {
            input.digest = Some(hasher.digest());
            input.modified = self.before.and_then(|(_, modified)| modified);
        });
        Ok(())
    }
}

fn state(file: &File) -> io::Result<(u64, Option<u64>)> {
    let metadata = file.metadata()?;
    Ok((metadata.len(), modified(&metadata)))
}

impl Read for HashedFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..count]);
        }
        if count == 0
            && !buffer.is_empty()
            && let Some(hasher) = self.hasher.take()
        {
            self.end(&hasher)?;
        }
        Ok(count)
    }
}
