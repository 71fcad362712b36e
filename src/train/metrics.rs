//! What a run leaves on record: JSON lines, one per optimizer step and one per evaluation, and the same for TensorBoard.
//!
//! Each line is in its file when the call returns, and a run that is resumed from a checkpoint drops the lines that
//! came after it: the steps are taken again.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};

use super::tensorboard::EventFile;
use crate::{Error, Result};

/// The file of [`StepMetrics`].
pub const METRICS: &str = "metrics.jsonl";
/// The file of [`Evaluation`]s.
pub const EVALUATIONS: &str = "evaluations.jsonl";
/// The picture of both.
pub const PLOT: &str = "loss.svg";
/// More than any line of ours has, bytes.
const LINE_LIMIT: u64 = 1 << 16;

/// One optimizer step. What is not finite is written as null and read as NaN.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// From 1.
    pub step: u64,
    /// Mean −log p of the step's targets in nats, before the update.
    #[serde(deserialize_with = "nullable")]
    pub loss: f64,
    /// The rate of the update.
    pub learning_rate: f64,
    /// L2 norm over all gradients, before clipping.
    #[serde(deserialize_with = "nullable")]
    pub gradient_norm: f64,
    /// Tokens of the batch ÷ seconds of the step.
    pub tokens_per_second: f64,
}

/// One pass over the held-out documents. What is not finite is written as null and read as NaN.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Steps taken before it.
    pub step: u64,
    /// Mean −log p of all targets in nats.
    #[serde(deserialize_with = "nullable")]
    pub loss: f64,
    /// e^loss.
    #[serde(deserialize_with = "nullable")]
    pub perplexity: f64,
    /// Targets.
    pub tokens: u64,
}

fn nullable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// A line of a file that is ordered by steps.
pub trait Stepped: Serialize + DeserializeOwned {
    /// The step that it is about.
    fn step(&self) -> u64;
    /// Its numbers under TensorBoard's names.
    fn scalars(&self) -> Vec<(&'static str, f64)>;
}

impl Stepped for StepMetrics {
    fn step(&self) -> u64 {
        self.step
    }

    fn scalars(&self) -> Vec<(&'static str, f64)> {
        vec![
            ("train/loss", self.loss),
            ("train/learning_rate", self.learning_rate),
            ("train/gradient_norm", self.gradient_norm),
            ("train/tokens_per_second", self.tokens_per_second),
        ]
    }
}

impl Stepped for Evaluation {
    fn step(&self) -> u64 {
        self.step
    }

    fn scalars(&self) -> Vec<(&'static str, f64)> {
        vec![("eval/loss", self.loss), ("eval/perplexity", self.perplexity)]
    }
}

/// The records of a run.
pub struct Metrics {
    steps: Lines<StepMetrics>,
    evaluations: Lines<Evaluation>,
    events: Option<EventFile>,
}

impl Metrics {
    /// Begins afresh in `folder`, which exists; `log_dir` is TensorBoard's, and made where it is missing.
    ///
    /// # Errors
    /// The system's.
    pub fn create(folder: &Path, log_dir: Option<&Path>) -> Result<Self> {
        Self::open(folder, log_dir, None)
    }

    /// Goes on after `step`: lines of later steps are cut off, with whatever a run that was killed left unfinished.
    /// An evaluation of `step` itself stays; evaluate before the checkpoint is saved.
    ///
    /// # Errors
    /// The system's.
    pub fn resume(folder: &Path, log_dir: Option<&Path>, step: u64) -> Result<Self> {
        Self::open(folder, log_dir, Some(step))
    }

    /// Keeps the lines up to a step, or none.
    fn open(folder: &Path, log_dir: Option<&Path>, last: Option<u64>) -> Result<Self> {
        let first = last.map_or(0, |step| step.saturating_add(1));
        Ok(Self {
            steps: Lines::open(folder.join(METRICS), last)?,
            evaluations: Lines::open(folder.join(EVALUATIONS), last)?,
            events: log_dir.map(|folder| EventFile::create(folder, first)).transpose()?,
        })
    }

    /// Adds an optimizer step.
    ///
    /// # Errors
    /// The system's.
    pub fn step(&mut self, step: &StepMetrics) -> Result<()> {
        self.steps.write(step)?;
        log(&mut self.events, step)
    }

    /// Adds an evaluation.
    ///
    /// # Errors
    /// The system's.
    pub fn evaluation(&mut self, evaluation: &Evaluation) -> Result<()> {
        self.evaluations.write(evaluation)?;
        log(&mut self.events, evaluation)
    }

    /// Makes durable what was written: to be done before a checkpoint takes its name, so that it never knows more steps
    /// than the record.
    ///
    /// # Errors
    /// The system's.
    pub fn sync(&self) -> Result<()> {
        self.steps.sync()?;
        self.evaluations.sync()?;
        self.events.as_ref().map_or(Ok(()), EventFile::sync)
    }
}

fn log(events: &mut Option<EventFile>, line: &impl Stepped) -> Result<()> {
    events.as_mut().map_or(Ok(()), |events| events.scalars(line.step(), &line.scalars()))
}

/// The lines of a file, in order; none where there is no such file. They end at the first that is not whole.
///
/// # Errors
/// The system's.
pub fn read<T: Stepped>(path: &Path) -> Result<impl Iterator<Item = T> + use<T>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        opened => Some(opened.map_err(|error| Error::io(path, error))?),
    };
    let mut reader = file.map(BufReader::new);
    Ok(std::iter::from_fn(move || Some(next_line(reader.as_mut()?)?.0)))
}

/// The next line and its length in bytes; none where what follows is no whole line of `T`.
fn next_line<T: Stepped>(reader: &mut impl BufRead) -> Option<(T, u64)> {
    let mut line = Vec::new();
    reader.take(LINE_LIMIT).read_until(b'\n', &mut line).ok()?;
    let json = line.strip_suffix(b"\n")?;
    Some((serde_json::from_slice(json).ok()?, line.len() as u64))
}

/// A file of JSON lines that grows.
struct Lines<T> {
    path: PathBuf,
    file: File,
    line: PhantomData<T>,
}

impl<T: Stepped> Lines<T> {
    /// Opens the file for more, cut behind the last line of a step up to `last`, or emptied.
    fn open(path: PathBuf, last: Option<u64>) -> Result<Self> {
        let open = || -> std::io::Result<File> {
            let mut file = File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
            let mut reader = BufReader::new(&file);
            let mut kept = 0;
            while let Some((line, length)) = next_line::<T>(&mut reader)
                && Some(line.step()) <= last
            {
                kept += length;
            }
            file.set_len(kept)?;
            file.seek(SeekFrom::Start(kept))?;
            Ok(file)
        };
        let file = open().map_err(|error| Error::io(&path, error))?;
        Ok(Self { path, file, line: PhantomData })
    }

    fn write(&mut self, line: &T) -> Result<()> {
        let mut json = serde_json::to_vec(line).map_err(|error| Error::file(&self.path, error))?;
        json.push(b'\n');
        self.file.write_all(&json).map_err(|error| Error::io(&self.path, error))
    }

    fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|error| Error::io(&self.path, error))
    }
}
