//! Folders that are written by one process at a time.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::Path;

use crate::{Error, Result};

const LOCK: &str = ".lock";

/// Makes a folder where it is missing, and takes hold of it. The system frees it when the file is closed.
///
/// # Errors
/// [`Error::Busy`] where another process has it; the system's.
pub(crate) fn hold(folder: &Path) -> Result<File> {
    fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))?;
    let path = folder.join(LOCK);
    let lock = File::create(&path).map_err(|error| Error::io(&path, error))?;
    match lock.try_lock() {
        Err(TryLockError::WouldBlock) => Err(Error::Busy { path }),
        Err(TryLockError::Error(error)) => Err(Error::io(&path, error)),
        Ok(()) => Ok(lock),
    }
}

/// The names in a folder, none where there is no folder; hidden ones too, but not those that are no text.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>> {
    let at_folder = |error| Error::io(folder, error);
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(at_folder)?,
    };
    let names = entries.map(|entry| Ok(entry.map_err(at_folder)?.file_name().into_string().ok()));
    names.filter_map(Result::transpose).collect()
}
