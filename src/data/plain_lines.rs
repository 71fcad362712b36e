//! Lines of JSON that are no documents, such as scores: one at a time, with their places.

use std::io::{BufRead, Read};
use std::path::Path;
use std::sync::Arc;
use std::vec;

use serde::de::DeserializeOwned;

use super::compress::Reader;
use super::source::{InputFile, Inputs, Progress};
use crate::{Error, Result};

/// A line that is not blank, without its end.
#[derive(Clone, Debug)]
pub struct Line {
    source: Arc<Path>,
    number: u64,
    text: Vec<u8>,
}

impl Line {
    /// Its value.
    ///
    /// # Errors
    /// [`Error::Record`] where it has another form.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.text).map_err(|error| {
            let message = error.to_string();
            // The parser numbers the lines of what it was given, which is this one.
            let reason = message.rsplit_once(" at line ").map_or(&*message, |(reason, _)| reason);
            self.error(format!("{reason} (byte {} of the line)", error.column()))
        })
    }

    /// Its number in the decompressed file, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Its bytes.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    /// An error about this line, naming file and line.
    pub fn error(&self, reason: impl Into<String>) -> Error {
        Error::Record { path: self.source.to_path_buf(), line: self.number, reason: reason.into() }
    }
}

/// The lines of files, in order. After an error there are none.
pub struct Lines {
    files: vec::IntoIter<InputFile>,
    limit: usize,
    progress: Progress,
    current: Option<Reader>,
    number: u64,
}

impl Inputs {
    /// The lines of all files, in order, none of them longer than `limit` bytes.
    pub fn lines(&self, limit: usize) -> Lines {
        let progress = Progress::of(self, None);
        let files = self.files().to_vec().into_iter();
        Lines { files, limit, progress, current: None, number: 0 }
    }
}

impl Lines {
    /// A handle on how far reading has come.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    fn next_line(&mut self) -> Result<Option<Line>> {
        loop {
            let Some(reader) = &mut self.current else {
                let Some(file) = self.files.next() else { return Ok(None) };
                self.current = Some(Reader::open(&file.path, self.progress.read.clone())?);
                self.number = 0;
                continue;
            };
            let mut text = Vec::new();
            let mut window = reader.by_ref().take((self.limit as u64).saturating_add(1));
            let count = window.read_until(b'\n', &mut text).map_err(|error| reader.error(error))?;
            self.number += 1;
            if text.last() == Some(&b'\n') {
                text.pop();
            }
            let line = Line { source: reader.path().clone(), number: self.number, text };
            if line.text.len() > self.limit {
                return Err(line.error(format!("a line of more than {} bytes, the limit", self.limit)));
            }
            if count == 0 {
                self.current = None;
            } else if !line.text.trim_ascii().is_empty() {
                return Ok(Some(line));
            }
        }
    }
}

impl Iterator for Lines {
    type Item = Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = self.next_line();
        if line.is_err() {
            self.current = None;
            self.files = Vec::new().into_iter();
        }
        line.transpose()
    }
}
