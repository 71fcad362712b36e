//! What `score` and `edit` set up alike: thread pool, device, model, tokenizer, windows.

use std::fs;
use std::path::Path;
use std::time::Instant;

use rayon::ThreadPool;
use serde::Serialize;
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

use super::args::{BosArg, ModelArgs, RunArgs, WindowArgs, pool};
use super::pipeline::{Job, name_record};
use super::signals::Interrupt;
use crate::data::{Content, Document, Settings};
use crate::device::Device;
use crate::model::{Config, LoadConfig, Model, folder};
use crate::ops::simd::instruction_sets;
use crate::score::{ScoreConfig, Scorer, Scores, Sequence, WindowConfig, default_batch_tokens, unknown_id};
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// The tokenizer's file in a model's folder.
const TOKENIZER: &str = "tokenizer.json";
/// Packs of a chunk on a device, where several are under way.
const PACKS: usize = 8;

/// A loaded model with its tokenizer.
pub struct Session {
    /// Threads of the arithmetic.
    pub pool: ThreadPool,
    /// Where it runs.
    pub device: Device,
    /// The prior.
    pub model: Model,
    /// None where the model folder has none: then documents must be ids.
    pub tokenizer: Option<Tokenizer>,
    /// How documents are laid out.
    pub score: ScoreConfig,
    /// What loading took.
    pub load_seconds: f64,
    bos: BosArg,
}

/// The settings of a session, for the summary.
#[derive(Serialize)]
pub struct SessionCard {
    model: String,
    /// Of configuration and weights.
    fingerprint: String,
    device: String,
    dtype: String,
    threads: usize,
    max_length: usize,
    overlap: usize,
    truncate: bool,
    batch_tokens: usize,
    bos: &'static str,
}

impl Session {
    /// Loads the model.
    ///
    /// # Errors
    /// Arguments that do not fit the model's configuration, before its weights are read; those of loading.
    pub fn open(
        model: &ModelArgs,
        run: &RunArgs,
        window: &WindowArgs,
        interrupt: &Interrupt,
    ) -> Result<Self> {
        let start = Instant::now();
        let name = model.model.as_deref().unwrap_or_default();
        let folder = folder::resolve(name)?;
        let config = Config::from_file(&folder.join(folder::CONFIG))?;
        check_bos(window.bos, &config, &folder)?;
        let (device, dtype) = run.place()?;
        let score = score_config(&config, device, window, interrupt)?;
        let pool = pool(run.threads)?;
        let load = LoadConfig { dtype, device, mmap: model.mmap };
        let loaded = pool.install(|| Model::load_with(&folder, load))?;
        let tokenizer = open_tokenizer(&loaded)?;
        let load_seconds = start.elapsed().as_secs_f64();
        Ok(Self { pool, device, model: loaded, tokenizer, score, load_seconds, bos: window.bos })
    }

    /// The session in words, for the summary.
    pub fn card(&self) -> SessionCard {
        let config = &self.score;
        SessionCard {
            model: self.model.folder().display().to_string(),
            fingerprint: format!("{:016x}", self.model.fingerprint()),
            device: self.device.to_string(),
            dtype: self.model.dtype().to_string(),
            threads: self.pool.current_num_threads(),
            max_length: config.windows.max_length(),
            overlap: config.windows.overlap(),
            truncate: config.windows.truncate(),
            batch_tokens: config.batch_tokens,
            bos: match self.bos {
                BosArg::Auto => "auto",
                BosArg::Always => "always",
                BosArg::Never => "never",
            },
        }
    }

    /// All of the session that results depend on.
    ///
    /// # Errors
    /// The tokenizer's file cannot be read.
    pub fn settings(&self, command: &str) -> Result<Settings> {
        let path = self.model.folder().join(TOKENIZER);
        let tokenizer = match &self.tokenizer {
            Some(_) => Some(fs::read(&path).map_err(|error| Error::io(&path, error))?),
            None => None,
        };
        let card = self.card();
        let settings = json!({
            "command": command,
            "version": env!("CARGO_PKG_VERSION"),
            "model": card.fingerprint,
            "tokenizer": tokenizer.map(|file| format!("{:016x}", xxh3_64(&file))),
            "device": device_setting(self.device),
            "dtype": card.dtype,
            "max_length": card.max_length,
            "overlap": card.overlap,
            "truncate": card.truncate,
            "bos": card.bos,
        });
        let Value::Object(settings) = settings else { unreachable!("an object was written") };
        Ok(settings)
    }

    /// Tokens to take through the model at a time: a device works on one pack while the host sees to another.
    pub fn chunk_tokens(&self) -> usize {
        let packs = if self.device == Device::Cpu { 1 } else { PACKS };
        self.score.batch_tokens.saturating_mul(packs)
    }

    /// The document's own ids.
    ///
    /// # Errors
    /// Text without a tokenizer; an id that the model does not have; a conversation.
    pub fn encode(&self, document: &Document) -> Result<Vec<u32>> {
        match (document.content(), &self.tokenizer) {
            (Content::Ids(ids), _) => match unknown_id(ids, self.model.config().vocab_size) {
                Some(reason) => Err(document.error(reason)),
                None => Ok(ids.clone()),
            },
            (Content::Text(text), Some(tokenizer)) => tokenizer.encode(text),
            (Content::Text(_), None) => Err(document.error(format!(
                "text, but {} has no tokenizer.json: give records with `input_ids`",
                self.model.folder().display()
            ))),
            (Content::Messages(_), _) => {
                Err(document.error("`messages` alone are for training: expected text, or `input_ids`"))
            }
        }
    }

    /// Scores of a chunk; an error names the record.
    ///
    /// # Errors
    /// As [`Scorer::score_sequences`].
    pub fn score_jobs<T>(&self, scorer: &Scorer, jobs: &[Job<T>]) -> Result<Vec<Scores>> {
        let sequences: Vec<_> = jobs.iter().map(|job| self.sequence(job)).collect();
        scorer.score_sequences(&sequences).map_err(|error| name_record(error, jobs))
    }

    /// The job's tokens as the model sees them.
    pub fn sequence<'a, T>(&'a self, job: &'a Job<T>) -> Sequence<'a> {
        Sequence { context: self.context(&job.document), ids: &job.ids }
    }

    /// The tokens before a document: context only.
    fn context(&self, document: &Document) -> &[u32] {
        match (self.bos, document.content(), &self.tokenizer) {
            (BosArg::Always, ..) => self.model.config().bos_token_id.as_slice(),
            (BosArg::Auto, Content::Text(_), Some(tokenizer)) => tokenizer.prefix(),
            _ => &[],
        }
    }
}

/// The arguments, and the model's defaults elsewhere.
fn score_config(
    config: &Config,
    device: Device,
    window: &WindowArgs,
    interrupt: &Interrupt,
) -> Result<ScoreConfig> {
    let default = ScoreConfig::of(config)?;
    let max_length = window.max_length.unwrap_or(default.windows.max_length());
    let overlap = window.overlap.unwrap_or(max_length / 2);
    let windows = WindowConfig::new(max_length, overlap)?.with_truncate(window.truncate);
    let batch_tokens = window.batch_tokens.unwrap_or(default_batch_tokens(device));
    let score = ScoreConfig { windows, batch_tokens, stop: Some(interrupt.flag()), ..default };
    score.validate(config)?;
    Ok(score)
}

fn check_bos(bos: BosArg, config: &Config, model: &Path) -> Result<()> {
    if bos == BosArg::Always && config.bos_token_id.is_none() {
        return Err(Error::Config {
            path: model.join(folder::CONFIG),
            field: "bos_token_id".to_owned(),
            reason: "missing, but --bos always needs it".to_owned(),
        });
    }
    Ok(())
}

/// What of a device the order of sums, hence the last bits, depends on.
pub fn device_setting(device: Device) -> String {
    match device {
        Device::Cuda(_) => "cuda".to_owned(),
        other => format!("{other} {}", instruction_sets().join(" ")).trim_end().to_owned(),
    }
}

fn open_tokenizer(model: &Model) -> Result<Option<Tokenizer>> {
    let path = model.folder().join(TOKENIZER);
    path.exists().then(|| Tokenizer::from_file(&path)).transpose()
}
