//! The folder of a run: the trained model, metrics, and `checkpoints/step-…`, each as a model folder.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::checkpoint::{OPTIMIZER, State, TRAINER};
use super::metrics::{EVALUATIONS, METRICS, PLOT};
use crate::data::{hold, names};
use crate::model::save::{COMPANIONS, discard, is_model, recover};
use crate::{Error, Result};

const CHECKPOINTS: &str = "checkpoints";
const PREFIX: &str = "step-";

/// The output of a run, held by one process at a time.
#[derive(Debug)]
pub struct Output {
    folder: PathBuf,
    begin: Begin,
    keep_last: usize,
    /// Freed by the system when the process ends.
    _lock: File,
}

/// Where a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// In a folder without a run or a model.
    New,
    /// In place of the run or the model that is there.
    Overwrite,
    /// After the last checkpoint, if there is one.
    Resume,
}

impl Output {
    /// The folder in a run's folder for the tokens of what it reads.
    pub const TOKENS: &str = "tokens";

    /// Takes hold of a folder, which is made where it is missing. Of what is in it nothing changes before the run begins.
    ///
    /// `keep_last` checkpoints are kept, at least one; `reads` are the files and folders that the run is made from.
    ///
    /// # Errors
    /// [`Error::Busy`] where another process has it; what is there, unless `begin` says what to do with it; something
    /// among `reads` that the run would replace.
    pub fn open(folder: &Path, begin: Begin, keep_last: usize, reads: &[&Path]) -> Result<Self> {
        check_reads(folder, reads)?;
        if begin != Begin::Overwrite {
            check_model(folder)?;
        }
        let lock = hold(folder)?;
        if begin == Begin::New && is_run(&names(folder)?) {
            let reason = "an earlier run's output: use --resume to go on with it, or --overwrite";
            return Err(Error::file(folder, reason));
        }
        Ok(Self { folder: folder.to_owned(), begin, keep_last: keep_last.max(1), _lock: lock })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the run begins.
    pub fn begin(&self) -> Begin {
        self.begin
    }

    /// Removes what an earlier run left, but for its metrics, which tell that there was one until the next run empties
    /// them, and its tokens. What no run writes stays.
    ///
    /// # Errors
    /// The system's.
    pub fn clear(&self) -> Result<()> {
        self.unfinish()?;
        for (_, folder) in self.checkpoints()? {
            discard(&folder)?;
        }
        self.remove_files(&[])
    }

    /// Removes first the sign that the folder is complete.
    fn unfinish(&self) -> Result<()> {
        remove_file(&self.folder.join(TRAINER))?;
        sync(&self.folder)
    }

    /// Removes the files of a published checkpoint but those to `keep`.
    fn remove_files(&self, keep: &[String]) -> Result<()> {
        let names = names(&self.folder)?;
        let is_stale = |name: &&String| {
            let partial = name.strip_prefix('.').and_then(|name| name.strip_suffix(".partial"));
            is_published(partial.unwrap_or(name)) && !keep.contains(name)
        };
        names.iter().filter(is_stale).try_for_each(|name| remove_file(&self.folder.join(name)))
    }

    /// The place of the checkpoint of `step`.
    pub fn checkpoint(&self, step: u64) -> PathBuf {
        self.folder.join(CHECKPOINTS).join(format!("{PREFIX}{step:08}"))
    }

    /// The last checkpoint, with its state; the folder itself where the run is finished and its checkpoints are gone.
    ///
    /// # Errors
    /// As [`State::read`].
    pub fn last(&self) -> Result<Option<(PathBuf, State)>> {
        let is_finished = || self.folder.join(TRAINER).is_file().then(|| self.folder.clone());
        let last = self.checkpoints()?.pop().map(|(_, folder)| folder);
        let Some(folder) = last.or_else(is_finished) else { return Ok(None) };
        let state = State::read(&folder)?;
        Ok(Some((folder, state)))
    }

    /// Steps and folders of all checkpoints, ascending; those that were being replaced are put back.
    fn checkpoints(&self) -> Result<Vec<(u64, PathBuf)>> {
        let mut found = Vec::new();
        for name in names(&self.folder.join(CHECKPOINTS))? {
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

    /// Removes all checkpoints but the last ones and the one with the lowest held-out loss. Those that are not regular,
    /// made where a run was stopped, go as soon as there is a later one: then all is as if it had not been stopped.
    ///
    /// # Errors
    /// The system's.
    pub fn prune(&self, is_regular: impl Fn(u64) -> bool) -> Result<()> {
        let mut between = self.checkpoints()?;
        let last = between.last().map(|(step, _)| *step);
        let regular: Vec<_> = between.extract_if(.., |(step, _)| is_regular(*step)).collect();
        between.retain(|(step, _)| Some(*step) != last);
        let loss = |path: &Path| State::read(path).ok()?.evaluation.filter(|loss| loss.is_finite());
        let losses = regular.iter().filter_map(|(step, path)| Some((loss(path)?, *step)));
        let best = losses.min_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, step)| step);
        let old = &regular[..regular.len().saturating_sub(self.keep_last)];
        let old = old.iter().filter(|(step, _)| Some(*step) != best);
        old.chain(&between).try_for_each(|(_, folder)| discard(folder))
    }

    /// Puts the files of a checkpoint into the folder itself, each whole under its name, `trainer.json` last: the folder
    /// has it only while all others are those of the same step.
    ///
    /// # Errors
    /// The system's.
    pub fn publish(&self, checkpoint: &Path) -> Result<()> {
        self.unfinish()?;
        let mut names = names(checkpoint)?;
        names.sort_by_key(|name| (name == TRAINER, name.clone()));
        self.remove_files(&names)?;
        names.iter().try_for_each(|name| self.link(&checkpoint.join(name), name))?;
        sync(&self.folder)
    }

    /// Gives a file that does not change a second place, in the folder itself.
    fn link(&self, from: &Path, name: &str) -> Result<()> {
        let partial = self.folder.join(format!(".{name}.partial"));
        remove_file(&partial)?;
        // A file system without links gets a copy.
        if fs::hard_link(from, &partial).is_err() {
            fs::copy(from, &partial).map_err(|error| Error::io(&partial, error))?;
            sync(&partial)?;
        }
        if name == TRAINER {
            sync(&self.folder)?;
        }
        let to = self.folder.join(name);
        fs::rename(&partial, &to).map_err(|error| Error::io(&to, error))
    }
}

/// Whether a checkpoint in a run's folder, or the picture of its metrics, is a file of this name.
fn is_published(name: &str) -> bool {
    is_model(name) || COMPANIONS.contains(&name) || [OPTIMIZER, TRAINER, PLOT].contains(&name)
}

/// Whether a run was here, finished or not.
fn is_run(names: &[String]) -> bool {
    names.iter().any(|name| [TRAINER, METRICS, CHECKPOINTS].contains(&name.as_str()))
}

/// Refuses a folder with a model that no run made.
fn check_model(folder: &Path) -> Result<()> {
    let names = names(folder)?;
    match names.iter().find(|name| is_model(name)) {
        Some(name) if !is_run(&names) => {
            let reason = format!(
                "holds `{name}` of a model that no run here made: choose another folder, or use --overwrite"
            );
            Err(Error::file(folder, reason))
        }
        _ => Ok(()),
    }
}

/// Refuses to replace what the run is made from.
fn check_reads(folder: &Path, reads: &[&Path]) -> Result<()> {
    let Ok(folder) = real(folder) else { return Ok(()) };
    // What is not there is told where it is read.
    let inside = |path: &Path| Some(real(path).ok()?.strip_prefix(&folder).ok()?.to_owned());
    let Some(path) = reads.iter().find(|path| inside(path).is_some_and(|inside| is_replaced(&inside))) else {
        return Ok(());
    };
    Err(Error::file(path, "lies where the run writes: choose another --output"))
}

/// Whether a run replaces what has this path in its folder, or the folder's own, which is empty.
fn is_replaced(inside: &Path) -> bool {
    let Some(name) = inside.iter().next().map(|name| name.to_string_lossy()) else { return true };
    is_published(&name) || [METRICS, EVALUATIONS, CHECKPOINTS, Output::TOKENS].contains(&&*name)
}

/// The path of what is there, free of links.
fn real(path: &Path) -> std::io::Result<PathBuf> {
    if path.as_os_str().is_empty() { Path::new(".").canonicalize() } else { path.canonicalize() }
}

/// Removes a file if it is there.
fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io(path, error)),
        _ => Ok(()),
    }
}

/// Makes a file or a folder durable.
fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|error| Error::io(path, error))
}
