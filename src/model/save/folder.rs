//! A folder that appears under its name complete, in place of the one that was there.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::model::folder::{is_plain_name, open_regular};
use crate::{Error, Result};

/// A folder in the making. It grows as `.NAME.partial` beside its place; [`SaveFolder::commit`] gives it its name.
/// Dropped before, it goes, and what stood under the name stays.
///
/// A folder cannot be renamed onto another, so the old one is first renamed to `.NAME.previous`, and deleted when the
/// new one has its name. Killed at any moment, this leaves the old folder or the new one, whole, under the name, or the old
/// one as `.NAME.previous` and nothing under the name; [`recover`] then puts it back. [`SaveFolder::create`] begins with
/// that, and whoever looks for a folder to resume from must do so too.
///
/// One process at a time may save to a name: that is for the caller to see to.
///
/// ```
/// use toedit::model::save::SaveFolder;
/// let place = tempfile::tempdir()?;
/// let target = place.path().join("checkpoint");
/// let folder = SaveFolder::create(&target)?;
/// folder.file("trainer.json", b"{}")?;
/// assert!(!target.exists());
/// folder.commit()?;
/// assert!(target.join("trainer.json").exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SaveFolder {
    place: Place,
    committed: bool,
}

impl SaveFolder {
    /// Begins a folder that is to be `target`; the folders that it lies in are made.
    ///
    /// # Errors
    /// `target` is there and no folder; the system's.
    pub fn create(target: &Path) -> Result<Self> {
        let place = Place::of(target)?;
        place.recover()?;
        make_folders(&place.parent)?;
        fs::create_dir(&place.partial).map_err(|error| Error::io(&place.partial, error))?;
        Ok(Self { place, committed: false })
    }

    /// Where the folder is until it has its name.
    pub fn path(&self) -> &Path {
        &self.place.partial
    }

    /// Writes a file and makes it durable.
    ///
    /// # Errors
    /// The system's.
    pub fn file(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.write(name, |file| file.write_all(bytes))
    }

    /// Copies a regular file (links are followed) and makes the copy durable.
    ///
    /// # Errors
    /// The file is something else, or the system's.
    pub fn copy(&self, source: &Path, name: &str) -> Result<()> {
        let (mut source, _) = open_regular(source)?;
        self.write(name, |file| io::copy(&mut source, file).map(drop))
    }

    /// Gives the folder its name, in place of any other.
    ///
    /// # Errors
    /// The system's; the folder under the name is then the old one, or [`recover`] brings it back.
    pub fn commit(mut self) -> Result<()> {
        let Place { target, parent, partial, previous } = &self.place;
        sync_folder(partial)?;
        let replaced = is_folder(target)?;
        if replaced {
            rename(target, previous, parent)?;
        }
        if let Err(error) = rename(partial, target, parent) {
            self.place.recover()?;
            return Err(error);
        }
        self.committed = true;
        if replaced { self.place.discard_previous() } else { Ok(()) }
    }

    /// Makes a new file, durable with all that `write` writes.
    pub(super) fn write<R>(&self, name: &str, write: impl FnOnce(&mut File) -> io::Result<R>) -> Result<R> {
        let path = self.new_path(name);
        let make = || {
            let mut file = File::create_new(&path)?;
            let written = write(&mut file)?;
            file.sync_all()?;
            Ok(written)
        };
        make().map_err(|error| Error::io(&path, error))
    }

    /// The path of a file to be made.
    ///
    /// # Panics
    /// If the name is not a plain one: names of files are the program's own.
    pub(super) fn new_path(&self, name: &str) -> PathBuf {
        assert!(is_plain_name(name), "{name:?}");
        self.place.partial.join(name)
    }
}

impl Drop for SaveFolder {
    fn drop(&mut self) {
        if !self.committed {
            // What cannot be removed now is removed by whoever saves here next.
            let _ = remove(&self.place.partial);
        }
    }
}

/// Settles what a process that was killed while it saved `target` has left: an old folder goes back to its name where that
/// is free, else it goes; so does a partial one. Afterwards `target` is whole, if it is there.
///
/// # Errors
/// The system's.
pub fn recover(target: &Path) -> Result<()> {
    Place::of(target)?.recover()
}

/// Removes a folder so that, killed on the way, it is there whole or not at all: what is left has the name of a partial
/// one, which [`recover`] removes.
///
/// # Errors
/// The system's.
pub fn discard(target: &Path) -> Result<()> {
    let place = Place::of(target)?;
    remove(&place.partial)?;
    rename(&place.target, &place.partial, &place.parent)?;
    remove(&place.partial)
}

/// A folder's name and those beside it that are used on the way.
struct Place {
    target: PathBuf,
    parent: PathBuf,
    partial: PathBuf,
    previous: PathBuf,
}

impl Place {
    fn of(target: &Path) -> Result<Self> {
        let name = target.file_name().ok_or_else(|| Error::file(target, "expected the name of a folder"))?;
        let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new(".")).to_owned();
        let beside = |ending: &str| {
            let mut hidden = OsString::from(".");
            hidden.push(name);
            hidden.push(ending);
            parent.join(hidden)
        };
        let (partial, previous) = (beside(".partial"), beside(".previous"));
        Ok(Self { target: parent.join(name), parent, partial, previous })
    }

    fn recover(&self) -> Result<()> {
        if is_folder(&self.previous)? {
            if is_folder(&self.target)? {
                self.discard_previous()?;
            } else {
                rename(&self.previous, &self.target, &self.parent)?;
            }
        }
        is_folder(&self.target)?;
        remove(&self.partial)
    }

    /// Deletes the old folder under the partial one's name: half deleted, it must not be taken for whole.
    fn discard_previous(&self) -> Result<()> {
        remove(&self.partial)?;
        rename(&self.previous, &self.partial, &self.parent)?;
        remove(&self.partial)
    }
}

/// Whether there is a folder; anything else is in the way.
fn is_folder(path: &Path) -> Result<bool> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io(path, error)),
        Ok(metadata) if metadata.is_dir() => Ok(true),
        Ok(_) => Err(Error::file(path, "exists and is not a folder")),
    }
}

/// Renames durably.
fn rename(from: &Path, to: &Path, parent: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|error| Error::io(to, error))?;
    sync_folder(parent)
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io(folder, error)),
        _ => Ok(()),
    }
}

fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| Error::io(folder, error))
}

/// Makes a folder and those above it.
fn make_folders(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))
}
