//! A file that appears under its name only when it is complete.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::{self, Stdout, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::compress::Encoder;
use super::format::Compression;
use super::names::parent;
use super::source::is_dash;
use crate::{Error, Result};

/// What errors call standard output.
pub const STANDARD_OUTPUT: &str = "standard output";

/// A compressed or plain file in the making. It grows as `.NAME.partial` beside its place, locked against
/// other processes, and takes its name in [`Sink::finish`]; dropped before, it leaves the partial file and
/// whatever stood under the name. `-` is standard output, written straight through.
pub struct Sink {
    path: PathBuf,
    overwrite: bool,
    encoder: Encoder<Target>,
}

/// What the bytes end in.
enum Target {
    File(File),
    Stdout(Stdout),
}

impl Sink {
    /// Whether [`Sink::create`] can be expected to work: to be asked before anything long begins. Changes
    /// nothing.
    ///
    /// # Errors
    /// The output exists and `overwrite` is false, or is no regular file; its folder is missing or not
    /// writable.
    pub fn check(path: &Path, overwrite: bool) -> Result<()> {
        if is_dash(path) {
            return Ok(());
        }
        check_free(path, overwrite)?;
        check_writable(parent(path))
    }

    /// Opens the partial file of `path`, emptying what an earlier run left in it. The compression is the one
    /// that the name asks for.
    ///
    /// # Errors
    /// As [`Sink::check`]; [`Error::Busy`] if another process is writing the same output; the system refuses.
    pub fn create(path: &Path, overwrite: bool) -> Result<Self> {
        let (target, compression) = if is_dash(path) {
            (Target::Stdout(io::stdout()), Compression::None)
        } else {
            let partial = partial_path(path);
            let file = lock_partial(&partial)?;
            // Only now: whoever held the lock before may just have finished this output.
            check_free(path, overwrite)?;
            file.set_len(0).map_err(|e| Error::io(&partial, e))?;
            (Target::File(file), Compression::from_name(path))
        };
        let name = if is_dash(path) { Path::new(STANDARD_OUTPUT) } else { path };
        let encoder = Encoder::new(target, compression).map_err(|e| Error::io(name, e))?;
        Ok(Self { path: name.to_owned(), overwrite, encoder })
    }

    /// Where the output appears; [`STANDARD_OUTPUT`] for `-`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    /// The system's; the output is then not complete and the sink of no further use.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.encoder.write_all(bytes).map_err(|e| Error::io(&self.path, e))
    }

    /// Completes the output: ends the compressed stream, writes and syncs every byte, gives the file its name
    /// and syncs the folder.
    ///
    /// # Errors
    /// Any byte could not be made durable, or another file has taken the name meanwhile: the partial file
    /// stays.
    pub fn finish(self) -> Result<()> {
        let Self { path, overwrite, encoder } = self;
        let target = encoder.finish().map_err(|e| Error::io(&path, e))?;
        let Target::File(file) = target else {
            return Ok(());
        };
        file.sync_all().map_err(|e| Error::io(&path, e))?;
        check_free(&path, overwrite)?;
        fs::rename(partial_path(&path), &path).map_err(|e| Error::io(&path, e))?;
        let folder = parent(&path);
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(|e| Error::io(folder, e))
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Stdout(stdout) => stdout.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.flush(),
            Self::Stdout(stdout) => stdout.flush(),
        }
    }
}

/// Refuses a name that is taken: by a file without `overwrite`, by anything else in any case.
pub(super) fn check_free(path: &Path, overwrite: bool) -> Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io(path, error)),
        Ok(_) if !overwrite => Err(Error::file(path, "exists already (--overwrite replaces it)")),
        Ok(metadata) if metadata.is_file() || metadata.is_symlink() => Ok(()),
        Ok(_) => Err(Error::file(path, "exists and is not a regular file")),
    }
}

/// Refuses a folder in which no file can be made, by making one that has no name.
pub(super) fn check_writable(folder: &Path) -> Result<()> {
    tempfile::tempfile_in(folder).map(drop).map_err(|e| Error::io(folder, e))
}

/// `.NAME.partial` beside `path`.
fn partial_path(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".partial");
    path.with_file_name(name)
}

/// Opens and locks a partial file without touching what is in it.
fn lock_partial(partial: &Path) -> Result<File> {
    let busy = || Error::Busy { path: partial.to_owned() };
    let mut options = File::options();
    let opened = options.write(true).create(true).truncate(false).open(partial);
    let file = opened.map_err(|e| Error::io(partial, e))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(busy()),
        // Some network file systems know no locks.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
        Err(TryLockError::Error(error)) => return Err(Error::io(partial, error)),
    }
    // Between opening and locking, its last owner may have renamed it to the final name: not ours to change.
    let ours = file.metadata().map_err(|e| Error::io(partial, e))?;
    match fs::symlink_metadata(partial) {
        Ok(named) if named.is_symlink() => Err(Error::file(partial, "is a link, expected a file of its own")),
        Ok(named) if (named.dev(), named.ino()) == (ours.dev(), ours.ino()) => Ok(file),
        _ => Err(busy()),
    }
}
