//! The folder of an experiment.
//!
//! | what | where |
//! |---|---|
//! | settings | `experiment.json`, from the beginning |
//! | human texts | `human/train`, `human/held-out` |
//! | the built-in learner | `learner` |
//! | a generation | `seed-S/generation-0`, `seed-S/STRATEGY/generation-N` |
//! | in it | `data`, where it has data of its own, with `data.json`; `model`; `outcome.json`, when it is complete |
//! | what its model wrote | `synthetic` |

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::config::Strategy;
use crate::data::tokens::TokenShards;
use crate::data::{Sink, difference, hold, names};
use crate::model::folder::read_small;
use crate::model::save::discard;
use crate::train::Begin;
use crate::{Error, Result};

const EXPERIMENT: &str = "experiment.json";
const HUMAN: &str = "human";
const LEARNER: &str = "learner";
const SEED: &str = "seed-";
/// The largest of the small files, bytes.
const LIMIT: u64 = 1 << 20;

/// The folder, held by one process at a time.
#[derive(Debug)]
pub(super) struct Place {
    folder: PathBuf,
    begin: Begin,
    _lock: File,
}

impl Place {
    /// Takes hold of a folder. Nothing in it changes yet.
    ///
    /// # Errors
    /// [`Error::Busy`] where another process has it; a folder with anything but an earlier run's output, or with that
    /// unless `begin` says what to do with it.
    pub fn open(folder: &Path, begin: Begin) -> Result<Self> {
        let is_run = folder.join(EXPERIMENT).is_file();
        let is_own = |name: &String| name == LEARNER || name.starts_with('.');
        if !is_run && !names(folder)?.iter().all(is_own) {
            return Err(Error::file(folder, "holds other things: expected an empty folder, or a new one"));
        }
        if is_run && begin == Begin::New {
            let reason = "an earlier run's output: use --resume to go on with it, or --overwrite";
            return Err(Error::file(folder, reason));
        }
        Ok(Self { folder: folder.to_owned(), begin, _lock: hold(folder)? })
    }

    /// Begins: an earlier run goes, or is gone on with if it had these settings.
    ///
    /// # Errors
    /// Other settings, naming the first that differs; the system's.
    pub fn begin(&self, settings: &Map<String, Value>) -> Result<()> {
        let path = self.folder.join(EXPERIMENT);
        if self.begin == Begin::Overwrite {
            for name in names(&self.folder)?.iter().filter(|name| *name == HUMAN || name.starts_with(SEED)) {
                discard(&self.folder.join(name))?;
            }
        } else if let Some(then) = read::<Map<String, Value>>(&path)? {
            return match difference(&then, settings) {
                None => Ok(()),
                Some(difference) => {
                    let reason = format!("{difference}: go on with the same settings, or use --overwrite");
                    Err(Error::file(&path, reason))
                }
            };
        }
        write(&path, settings)
    }

    /// Where the built-in learner's files go.
    pub fn learner(&self) -> PathBuf {
        self.folder.join(LEARNER)
    }

    /// The corpus of human texts to train on, and the held-out one.
    pub fn human(&self) -> [PathBuf; 2] {
        ["train", "held-out"].map(|name| self.folder.join(HUMAN).join(name))
    }

    /// The folder of a generation; the first is the same for all strategies.
    pub fn generation(&self, seed: u64, strategy: Strategy, number: u32) -> Generation {
        let seed = self.folder.join(format!("{SEED}{seed}"));
        let parent = if number == 0 { seed } else { seed.join(strategy.name()) };
        Generation { folder: parent.join(format!("generation-{number}")) }
    }
}

/// The folder of a generation.
pub(super) struct Generation {
    folder: PathBuf,
}

impl Generation {
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// What is known of the data.
    pub fn data_file(&self) -> PathBuf {
        self.folder.join("data.json")
    }

    pub fn model(&self) -> PathBuf {
        self.folder.join("model")
    }

    /// What the model wrote.
    pub fn synthetic(&self) -> PathBuf {
        self.folder.join("synthetic")
    }

    pub fn outcome(&self) -> PathBuf {
        self.folder.join("outcome.json")
    }
}

/// Whether a corpus is complete.
pub(super) fn is_complete(corpus: &Path) -> bool {
    TokenShards::is_folder(corpus)
}

/// Removes a folder, if it is there.
pub(super) fn remove(folder: &Path) -> Result<()> {
    if folder.is_dir() { discard(folder) } else { Ok(()) }
}

/// Reads a small file, if it is there.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    if !path.is_file() {
        return Ok(None);
    }
    let malformed = |error| Error::file(path, format!("is damaged: {error}"));
    serde_json::from_slice(&read_small(path, LIMIT)?).map(Some).map_err(malformed)
}

/// Writes a small file, whole or not at all.
pub(super) fn write(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Error::file(path, error))?;
    let mut sink = Sink::create(path, true)?;
    sink.write(text.as_bytes())?;
    sink.finish()
}
