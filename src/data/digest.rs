//! Fingerprints of whole files, those of inputs being made while they are read.

use std::fmt::Write as _;
use std::fs::{File, Metadata};
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::ops::Range;
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
        Self::of_part(path, 0..u64::MAX)
    }

    /// Reads these bytes of a file, as far as it has them.
    pub(super) fn of_part(path: &Path, part: Range<u64>) -> io::Result<Self> {
        let (mut file, mut hasher) = (File::open(path)?, Hasher::default());
        file.seek(SeekFrom::Start(part.start))?;
        let mut file = file.take(part.end.saturating_sub(part.start));
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
    /// The bytes that it is of, where a shard reads a part.
    pub part: Option<Range<u64>>,
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
    /// What comes before the rest of it.
    head: Cursor<Vec<u8>>,
    /// None once the end was seen.
    hasher: Option<Hasher>,
    /// Size and time of the last change, at first; none for a stream.
    before: Option<(u64, Option<u64>)>,
    digests: InputDigests,
    index: usize,
    /// How far reading has come.
    at: u64,
    /// The bytes that are hashed; `None` where that is all of them.
    part: Option<Range<u64>>,
    /// Where the file ends for the reader.
    stop: u64,
}

/// The bytes of a file that a shard looks at.
pub(super) struct Stretch {
    /// Those in which its records begin, which are hashed.
    pub part: Range<u64>,
    /// Where reading begins and ends.
    pub read: Range<u64>,
}

impl HashedFile {
    /// The digest goes into `digests` under `index`. A stream may lie in a file, of which it is a part.
    /// `head` are the first bytes, which have been read and will be given again.
    pub fn new(
        file: File,
        is_stream: bool,
        head: Vec<u8>,
        digests: InputDigests,
        index: usize,
    ) -> io::Result<Self> {
        let is_file = !is_stream && file.metadata()?.is_file();
        let before = if is_file { Some(state(&file)?) } else { None };
        let hasher = Some(Hasher::default());
        let head = Cursor::new(head);
        Ok(Self { file, head, hasher, before, digests, index, at: 0, part: None, stop: u64::MAX })
    }

    /// A part of a regular file, whose digest goes into `digests` under `index`.
    pub fn part(mut file: File, stretch: Stretch, digests: InputDigests, index: usize) -> io::Result<Self> {
        let Stretch { part, read } = stretch;
        file.seek(SeekFrom::Start(read.start))?;
        let before = Some(state(&file)?);
        let (part, hasher) = (Some(part), Some(Hasher::default()));
        let (at, stop, head) = (read.start, read.end, Cursor::default());
        Ok(Self { file, head, hasher, before, digests, index, at, part, stop })
    }

    /// Bytes of a regular file that are not hashed.
    pub fn rest(mut file: File, read: Range<u64>) -> io::Result<Self> {
        file.seek(SeekFrom::Start(read.start))?;
        let digests = InputDigests::default();
        let (at, stop) = (read.start, read.end);
        let head = Cursor::default();
        Ok(Self { file, head, hasher: None, before: None, digests, index: 0, at, part: None, stop })
    }

    /// Hashes what has just been read, as far as it is to be.
    fn note(&mut self, bytes: &[u8]) -> io::Result<()> {
        let start = self.at;
        self.at += bytes.len() as u64;
        let Some(hasher) = &mut self.hasher else { return Ok(()) };
        let is_end = match &self.part {
            None => {
                hasher.update(bytes);
                bytes.is_empty()
            }
            Some(part) => {
                let place = |at: u64| (at.clamp(start, self.at) - start) as usize;
                hasher.update(&bytes[place(part.start)..place(part.end).max(place(part.start))]);
                bytes.is_empty() || self.at >= part.end
            }
        };
        match self.hasher.take_if(|_| is_end) {
            Some(hasher) => self.end(&hasher),
            None => Ok(()),
        }
    }

    fn end(&self, hasher: &Hasher) -> io::Result<()> {
        if let Some(before) = self.before {
            let expected = self.part.as_ref().map_or(before.0, |part| part.end.saturating_sub(part.start));
            if state(&self.file)? != before || hasher.bytes() != expected {
                return Err(io::Error::other(Changed));
            }
        }
        self.digests.set(self.index, |input| {
            input.digest = Some(hasher.digest());
            input.part = self.part.clone();
            input.modified = self.before.and_then(|(_, modified)| modified);
        });
        Ok(())
    }
}

/// Size and time of the last change.
pub(super) fn state(file: &File) -> io::Result<(u64, Option<u64>)> {
    let metadata = file.metadata()?;
    Ok((metadata.len(), modified(&metadata)))
}

impl Read for HashedFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.stop.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let count = match self.head.read(&mut buffer[..wanted])? {
            0 => self.file.read(&mut buffer[..wanted])?,
            count => count,
        };
        if !buffer.is_empty() {
            self.note(&buffer[..count])?;
        }
        Ok(count)
    }
}
