//! Writing a cache.

use std::fs::{self, File, Permissions, TryLockError};
use std::io::{BufWriter, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use xxhash_rust::xxh3::xxh3_64;

use super::segment::{END, HASH, HEAD, Head, START, encode, place};
use super::{
    Entry, Key, MANIFEST, Manifest, SEGMENT_BYTES, SEGMENT_DOCUMENTS, SegmentCard, segment_name, sync_folder,
};
use crate::data::Settings;
use crate::{Error, Result};

/// Bytes that are collected before they are written.
const BUFFER: usize = 1 << 20;
/// What keeps another process away.
const LOCK: &str = ".lock";
/// How the names of segments begin and end before they have their own.
const PREFIX: &str = ".scores-";
const SUFFIX: &str = ".partial";

/// Writes the scores of documents as they come. Dropped before [`CacheWriter::finish`] it leaves what was there before.
pub struct CacheWriter {
    folder: PathBuf,
    settings: Settings,
    limits: (usize, u64),
    /// Closed, under names of their own.
    closed: Vec<(NamedTempFile, SegmentCard)>,
    open: Option<Open>,
    documents: u64,
    /// Held until the end.
    _lock: File,
}

/// The segment that grows.
struct Open {
    file: BufWriter<NamedTempFile>,
    bytes: u64,
    index: Vec<(Key, u64)>,
}

impl CacheWriter {
    /// Whether [`CacheWriter::create`] can be expected to work: to be asked before anything long begins. Changes nothing.
    ///
    /// # Errors
    /// A cache is there and `overwrite` is false; the folder holds anything else.
    pub fn check(folder: &Path, overwrite: bool) -> Result<()> {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::io(folder, error)),
        };
        for entry in entries {
            let name = entry.map_err(|error| Error::io(folder, error))?.file_name();
            let name = name.to_string_lossy();
            if name == MANIFEST && !overwrite {
                return Err(Error::file(folder, "holds a cache already (--overwrite replaces it)"));
            }
            if name != MANIFEST && !name.starts_with("scores-") && !name.starts_with('.') {
                let reason = format!("holds `{name}`, expected a folder for the cache alone");
                return Err(Error::file(folder, reason));
            }
        }
        Ok(())
    }

    /// Begins a cache in `folder`, which is made if it is missing, of scores that depend on `settings`.
    ///
    /// # Errors
    /// As [`CacheWriter::check`]; [`Error::Busy`] if another process writes there; the system's.
    pub fn create(folder: &Path, settings: Settings, overwrite: bool) -> Result<Self> {
        Self::with_limits(folder, settings, overwrite, (SEGMENT_DOCUMENTS, SEGMENT_BYTES))
    }

    /// [`CacheWriter::create`] with segments of other sizes, in documents and bytes.
    ///
    /// # Errors
    /// As [`CacheWriter::create`].
    #[doc(hidden)]
    pub fn with_limits(
        folder: &Path,
        settings: Settings,
        overwrite: bool,
        limits: (usize, u64),
    ) -> Result<Self> {
        Self::check(folder, overwrite)?;
        fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))?;
        let (lock, alone) = lock(&folder.join(LOCK))?;
        if alone {
            remove_partials(folder)?;
        }
        // Only now: another process may just have finished.
        Self::check(folder, overwrite)?;
        let folder = folder.to_owned();
        Ok(Self { folder, settings, limits, closed: Vec::new(), open: None, documents: 0, _lock: lock })
    }

    /// Adds a document.
    ///
    /// # Errors
    /// The system's; the cache is then of no further use.
    pub fn push(&mut self, key: Key, entry: &Entry) -> Result<()> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.begin()?,
        };
        let head = Head { key, positions: entry.statistics.len() as u64, k: entry.k as u32 };
        let scores = encode(entry);
        let written = open.file.write_all(&head.to_bytes()).and_then(|()| open.file.write_all(&scores));
        written.map_err(|error| Error::io(&self.folder, error))?;
        open.index.push((key, open.bytes));
        open.bytes += (HEAD + scores.len()) as u64;
        self.documents += 1;
        let (documents, bytes) = self.limits;
        if open.index.len() >= documents || open.bytes >= bytes {
            self.close(open)
        } else {
            self.open = Some(open);
            Ok(())
        }
    }

    /// Completes the cache: every byte is made durable, the segments take their names, then `cache.json` says that they are
    /// a cache.
    ///
    /// # Errors
    /// The system's: then there is no cache, or the one from before.
    pub fn finish(mut self) -> Result<()> {
        if let Some(open) = self.open.take() {
            self.close(open)?;
        }
        let Self { folder, settings, closed, documents, .. } = self;
        let refused = |error| Error::io(&folder, error);
        let manifest = folder.join(MANIFEST);
        // From here on until the end it is none.
        match fs::remove_file(&manifest) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(refused(error)),
            _ => sync_folder(&folder)?,
        }
        let mut segments = Vec::with_capacity(closed.len());
        for (number, (file, card)) in closed.into_iter().enumerate() {
            let path = folder.join(segment_name(number));
            file.persist(path).map_err(|error| refused(error.error))?;
            segments.push(card);
        }
        remove_from(&folder, segments.len())?;
        sync_folder(&folder)?;
        let mut file = partial(&folder)?;
        let json = serde_json::to_vec_pretty(&Manifest { settings, documents, segments });
        let json = json.map_err(|error| Error::file(&manifest, error))?;
        file.write_all(&json).and_then(|()| file.as_file().sync_all()).map_err(refused)?;
        file.persist(&manifest).map_err(|error| refused(error.error))?;
        sync_folder(&folder)
    }

    fn begin(&self) -> Result<Open> {
        let settings =
            serde_json::to_vec(&self.settings).map_err(|error| Error::file(&self.folder, error))?;
        let mut file = BufWriter::with_capacity(BUFFER, partial(&self.folder)?);
        let length = (settings.len() as u32).to_le_bytes();
        let hash = xxh3_64(&settings).to_le_bytes();
        for bytes in [&START[..], &length, &settings, &hash] {
            file.write_all(bytes).map_err(|error| Error::io(&self.folder, error))?;
        }
        let bytes = (START.len() + length.len() + settings.len() + HASH) as u64;
        Ok(Open { file, bytes, index: Vec::new() })
    }

    /// Ends a segment with its index.
    fn close(&mut self, open: Open) -> Result<()> {
        let Open { mut file, bytes, mut index } = open;
        let refused = |error| Error::io(&self.folder, error);
        index.sort_unstable();
        let places: Vec<u8> = index.iter().flat_map(|(key, offset)| place(*key, *offset)).collect();
        let (documents, hash) = (index.len() as u64, xxh3_64(&places));
        file.write_all(&places).map_err(refused)?;
        for number in [bytes, documents, hash] {
            file.write_all(&number.to_le_bytes()).map_err(refused)?;
        }
        file.write_all(END).map_err(refused)?;
        let file = file.into_inner().map_err(|error| refused(error.into_error()))?;
        file.as_file().sync_all().map_err(refused)?;
        let bytes = file.as_file().metadata().map_err(refused)?.len();
        let card = SegmentCard { bytes, documents, index: format!("{hash:016x}") };
        self.closed.push((file, card));
        Ok(())
    }
}

/// A hidden file of a name of its own, which goes when it is dropped.
fn partial(folder: &Path) -> Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX).suffix(SUFFIX);
    builder.permissions(Permissions::from_mode(0o666));
    builder.tempfile_in(folder).map_err(|error| Error::io(folder, error))
}

/// Removes segments of an earlier cache that had more.
fn remove_from(folder: &Path, first: usize) -> Result<()> {
    for number in first.. {
        let path = folder.join(segment_name(number));
        match fs::remove_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => break,
            removed => removed.map_err(|error| Error::io(&path, error))?,
        }
    }
    Ok(())
}

/// Removes what runs that were killed have left.
fn remove_partials(folder: &Path) -> Result<()> {
    let refused = |error| Error::io(folder, error);
    for entry in fs::read_dir(folder).map_err(refused)? {
        let entry = entry.map_err(refused)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(PREFIX) && name.ends_with(SUFFIX) {
            fs::remove_file(entry.path()).map_err(|error| Error::io(entry.path(), error))?;
        }
    }
    Ok(())
}

/// Opens and locks a file, and says whether that keeps others away; where the file system knows no locks, names of their own
/// keep processes apart.
fn lock(path: &Path) -> Result<(File, bool)> {
    let opened = File::options().write(true).create(true).truncate(false).open(path);
    let file = opened.map_err(|error| Error::io(path, error))?;
    match file.try_lock() {
        Ok(()) => Ok((file, true)),
        Err(TryLockError::WouldBlock) => Err(Error::Busy { path: path.to_owned() }),
        Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => Ok((file, false)),
        Err(TryLockError::Error(error)) => Err(Error::io(path, error)),
    }
}
