//! The folder of a run: the trained model, metrics, and `checkpoints/step-…`, each as a model folder.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use super::checkpoint::{State, TRAINER};
use crate::model::save::recover;
use crate::{Error, Result};

const CHECKPOINTS: &str = "checkpoints";
const LOCK: &str = ".lock";
const PREFIX: &str = "step-";

/// The output of a run, held by one process at a time.
#[derive(Debug)]
pub struct Output {
    folder: PathBuf,
    keep_last: usize,
    /// Freed by the system when the process ends.
    _lock: File,
}

/// Where a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// In an empty place.
    New,
    /// In place of what an earlier run left.
    Overwrite,
    /// After the last checkpoint, if there is one.
    Resume,
}

impl Output {
    /// Takes hold of a folder, which is made where it is missing.
    ///
    /// # Errors
    /// [`Error::Busy`] where another process has it; what an earlier run left, unless `begin` says what to do with it.
    pub fn open(folder: &Path, begin: Begin, keep_last: usize) -> Result<Self> {
        fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))?;
        let path = folder.join(LOCK);
        let lock = File::create(&path).map_err(|error| Error::io(&path, error))?;
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(Error::Busy { path }),
            Err(TryLockError::Error(error)) => return Err(Error::io(&path, error)),
            Ok(()) => {}
        }
        let output = Self { folder: folder.to_owned(), keep_last, _lock: lock };
        let used = [TRAINER, super::metrics::METRICS, CHECKPOINTS].map(|name| folder.join(name));
        match begin {
            Begin::New if used.iter().any(|path| path.exists()) => {
                let reason = "an earlier run's output: use --resume to go on with it, or --overwrite";
                return Err(Error::file(folder, reason));
            }
            Begin::Overwrite => output.clear()?,
            _ => {}
        }
        Ok(output)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Removes an earlier run's checkpoints, and the sign that it was finished.
    fn clear(&self) -> Result<()> {
        for (_, folder) in self.checkpoints()? {
            fs::remove_dir_all(&folder).map_err(|error| Error::io(&folder, error))?;
        }
        let path = self.folder.join(TRAINER);
        if path.exists() { fs::remove_file(&path).map_err(|error| Error::io(&path, error)) } else { Ok(()) }
    }

    /// The place of the checkpoint of `step`.
    pub fn checkpoint(&self, step: u64) -> PathBuf {
        self.folder.join(CHECKPOINTS).join(format!("{PREFIX}{step:08}"))
    }

    /// The last checkpoint, with its state.
    ///
    /// # Errors
    /// As [`State::read`].
    pub fn last(&self) -> Result<Option<(PathBuf, State)>> {
        let Some((_, folder)) = self.checkpoints()?.pop() else { return Ok(None) };
        let state = State::read(&folder)?;
        Ok(Some((folder, state)))
    }

    /// Steps and folders of all checkpoints, ascending; those that were being replaced are put back.
    fn checkpoints(&self) -> Result<Vec<(u64, PathBuf)>> {
        let folder = self.folder.join(CHECKPOINTS);
        if !folder.is_dir() {
            return Ok(Vec::new());
        }
        let at_folder = |error| Error::io(&folder, error);
        let mut found = Vec::new();
        for entry in fs::read_dir(&folder).map_err(at_folder)? {
            let name = entry.map_err(at_folder)?.file_name();
            let Some(name) = name.to_str() else { continue };
            // A checkpoint in the making, or one that was being replaced, has a point before its name.
            let plain = name.trim_start_matches('.');
            let number = plain.strip_prefix(PREFIX).and_then(|rest| rest.split('.').next()?.parse().ok());
            let Some(step) = number else { continue };
            let path = self.checkpoint(step);
            if plain != name {
                recover(&path)?;
            }
            if path.join(TRAINER).is_file() {
                found.push((step, path));
            }
        }
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// Removes all checkpoints but the last ones and the one with the lowest held-out loss.
    ///
    /// # Errors
    /// The system's.
    pub fn prune(&self) -> Result<()> {
        let all = self.checkpoints()?;
        let loss = |path: &Path| State::read(path).ok()?.evaluation.filter(|loss| loss.is_finite());
        let losses = all.iter().filter_map(|(step, path)| Some((loss(path)?, *step)));
        let best = losses.min_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, step)| step);
        let old = all.len().saturating_sub(self.keep_last);
        for (_, path) in all[..old].iter().filter(|(step, _)| Some(*step) != best) {
            fs::remove_dir_all(path).map_err(|error| Error::io(path, error))?;
        }
        Ok(())
    }

    /// Puts the files of a checkpoint into the folder itself, each whole under its name, `trainer.json` last.
    ///
    /// # Errors
    /// The system's.
    pub fn publish(&self, checkpoint: &Path) -> Result<()> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |error| Error::io(path, error)
        };
        let mut names = Vec::new();
        for entry in fs::read_dir(checkpoint).map_err(at(checkpoint))? {
            names.push(entry.map_err(at(checkpoint))?.file_name());
        }
        names.sort_by_key(|name| (name == TRAINER, name.clone()));
        for name in names {
            let (from, to) = (checkpoint.join(&name), self.folder.join(&name));
            let partial = self.folder.join(format!(".{}.partial", name.to_string_lossy()));
            if partial.exists() {
                fs::remove_file(&partial).map_err(at(&partial))?;
            }
            // A file system without links gets a copy.
            if fs::hard_link(&from, &partial).is_err() {
                fs::copy(&from, &partial).map_err(at(&partial))?;
                File::open(&partial).and_then(|file| file.sync_all()).map_err(at(&partial))?;
            }
            fs::rename(&partial, &to).map_err(at(&to))?;
        }
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(at(&self.folder))
    }
}
