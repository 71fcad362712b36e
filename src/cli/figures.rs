//! A folder with figures: tables and pictures, each of which appears only when it is complete.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::data::{Sink, is_dash};
use crate::{Error, Result};

/// The folder, to be filled.
pub struct Figures {
    folder: PathBuf,
    overwrite: bool,
}

impl Figures {
    /// Makes the folder, if it is not there, after it was made sure that these files can be written: better to learn now
    /// than when the numbers are there.
    ///
    /// # Errors
    /// One of the files exists and `overwrite` is false; the folder cannot be made or written to.
    pub fn open(folder: &Path, overwrite: bool, names: &[&str]) -> Result<Self> {
        if is_dash(folder) {
            return Err(Error::Usage("figures are files in a folder: --output cannot be `-`".into()));
        }
        fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))?;
        names.iter().try_for_each(|name| Sink::check(&folder.join(name), overwrite))?;
        Ok(Self { folder: folder.to_owned(), overwrite })
    }

    /// Writes one of the files.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        let mut sink = Sink::create(&self.folder.join(name), self.overwrite)?;
        sink.write(text.as_bytes())?;
        sink.finish()
    }

    /// Writes one of the files as JSON.
    ///
    /// # Errors
    /// The system's.
    pub fn json(&self, name: &str, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string_pretty(value);
        self.write(name, &(text.map_err(|error| self.undrawn(name, error))? + "\n"))
    }

    /// Writes a picture, unless it could not be drawn.
    ///
    /// # Errors
    /// That, or the system's.
    pub fn picture(&self, name: &str, svg: Result<String, String>) -> Result<()> {
        self.write(name, &svg.map_err(|error| self.undrawn(name, error))?)
    }

    fn undrawn(&self, name: &str, error: impl std::fmt::Display) -> Error {
        Error::file(self.folder.join(name), format!("cannot be made: {error}"))
    }
}
