//! What an output asks of the file system, behind a trait: tests put one in its place that fails, or that forgets what was
//! not made durable.

use std::fmt::Debug;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::Path;

/// The calls that change files. Reading needs no stand-in.
pub trait Storage: Debug + Send + Sync {
    /// Makes a file where there is none; a link there is not followed.
    fn create(&self, path: &Path) -> io::Result<Box<dyn StoredFile>>;

    /// Gives a file another name, whose file, if there is one, goes.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;

    /// Locks a file against other processes until it is closed.
    fn lock(&self, file: &File) -> Result<(), TryLockError>;
}

/// A file in the making.
pub trait StoredFile: Debug + Send {
    /// Writes at its end.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes all that was written durable.
    fn sync(&mut self) -> io::Result<()>;

    /// The file, to be read by position.
    fn file(&self) -> &File;
}

/// The operating system's.
#[derive(Debug)]
pub struct System;

impl Storage for System {
    fn create(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        Ok(Box::new(File::options().read(true).write(true).create_new(true).open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    fn lock(&self, file: &File) -> Result<(), TryLockError> {
        file.try_lock()
    }
}

impl StoredFile for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn file(&self) -> &File {
        self
    }
}
