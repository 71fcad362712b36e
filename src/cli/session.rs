//! What `score` and `edit` set up alike: thread pool, device, model, tokenizer, windows.

use std::path::PathBuf;
use std::time::Instant;

use rayon::ThreadPool;
use serde::Serialize;
use serde_json::Value;

use super::args::{DeviceArg, DtypeArg, ModelArgs, RunArgs, WindowArgs, pool};
use super::pipeline::{Job, name_record};
use super::signals::Interrupt;
use crate::Result;
use crate::compose::{Bos, ComposeConfig, Composer, Layout, Record};
use crate::data::Document;
use crate::device::Device;
use crate::model::{Checkpoint, Config, LoadConfig, Model, folder};
use crate::score::cache::{Entry, Settings, TOP_K};
use crate::score::{ScoreConfig, Scorer, Scores, Sequence, WindowConfig, default_batch_tokens};

/// Packs of a chunk on a device, where several are under way.
const PACKS: usize = 8;

/// What a run does with a model, and how records become what the model sees.
pub struct Session {
    /// Threads of the arithmetic.
    pub pool: ThreadPool,
    /// Where it runs.
    pub device: Device,
    /// The model's configuration.
    pub config: Config,
    /// Makes sequences of documents.
    pub composer: Composer,
    /// How documents are laid out.
    pub score: ScoreConfig,
    /// What loading took.
    pub load_seconds: f64,
    folder: PathBuf,
    fingerprint: u64,
    /// The names of device and type.
    place: [String; 2],
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
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_field: Option<String>,
    prompt_context: bool,
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
        compose: ComposeConfig,
        interrupt: &Interrupt,
    ) -> Result<(Self, Model)> {
        let start = Instant::now();
        let (device, dtype) = run.place()?;
        let mut session = Self::prepared(model, device, run, window, compose, interrupt)?;
        let load = LoadConfig { dtype, device, mmap: model.mmap };
        let model = session.pool.install(|| Model::load_with(&session.folder, load))?;
        session.fingerprint = model.fingerprint();
        session.place = [device.to_string(), model.dtype().to_string()];
        session.load_seconds = start.elapsed().as_secs_f64();
        Ok((session, model))
    }

    /// For scores that a cache holds: the model's files are hashed, but its weights are not loaded.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub fn without_model(
        model: &ModelArgs,
        run: &RunArgs,
        window: &WindowArgs,
        compose: ComposeConfig,
        interrupt: &Interrupt,
    ) -> Result<Self> {
        let start = Instant::now();
        let mut session = Self::prepared(model, Device::Cpu, run, window, compose, interrupt)?;
        let checkpoint = Checkpoint::open(&session.folder, model.mmap)?;
        session.fingerprint = session.pool.install(|| checkpoint.fingerprint())?;
        session.place = [run.device.to_string(), format!("{:?}", run.dtype).to_lowercase()];
        session.load_seconds = start.elapsed().as_secs_f64();
        Ok(session)
    }

    /// All but the model.
    fn prepared(
        model: &ModelArgs,
        device: Device,
        run: &RunArgs,
        window: &WindowArgs,
        compose: ComposeConfig,
        interrupt: &Interrupt,
    ) -> Result<Self> {
        let folder = folder::resolve(model.model.as_deref().unwrap_or_default())?;
        let config = Config::from_file(&folder.join(folder::CONFIG))?;
        let composer = Composer::open(&folder, &config, compose)?;
        let score = score_config(&config, device, window, interrupt)?;
        let (pool, place) = (pool(run.threads)?, <[String; 2]>::default());
        Ok(Self { pool, device, config, composer, score, load_seconds: 0.0, folder, fingerprint: 0, place })
    }

    /// The session in words, for the summary.
    pub fn card(&self) -> SessionCard {
        let config = &self.score;
        SessionCard {
            model: self.folder.display().to_string(),
            fingerprint: format!("{:016x}", self.fingerprint),
            device: self.place[0].clone(),
            dtype: self.place[1].clone(),
            threads: self.pool.current_num_threads(),
            max_length: config.windows.max_length(),
            overlap: config.windows.overlap(),
            truncate: config.windows.truncate(),
            batch_tokens: config.batch_tokens,
            bos: self.bos_name(),
            prompt_field: self.composer.options().prompt_field.clone(),
            prompt_context: self.composer.options().prompt_context,
        }
    }

    /// Tokens to take through the model at a time: a device works on one pack while the host sees to another.
    pub fn chunk_tokens(&self) -> usize {
        let packs = if self.device == Device::Cpu { 1 } else { PACKS };
        self.score.batch_tokens.saturating_mul(packs)
    }

    /// Encodes a document; to be edited, its tokens' bytes are found too.
    ///
    /// # Errors
    /// As [`Composer::compose`].
    pub fn prepare(&self, document: Document, align: bool) -> Result<Job<Layout>> {
        let Record { document, ids, layout } = self.composer.compose(document, align)?;
        Ok(Job { document, ids, extra: layout })
    }

    /// Scores of a chunk, and where `keep` is set what a cache keeps of them; an error names the record.
    ///
    /// # Errors
    /// As [`Scorer::score_entries`].
    pub fn score_jobs(
        &self,
        scorer: &Scorer,
        jobs: &[Job<Layout>],
        keep: bool,
    ) -> Result<Vec<(Scores, Option<Entry>)>> {
        let sequences: Vec<_> = jobs.iter().map(|job| self.sequence(job)).collect();
        let scores = if keep {
            let entries = scorer.score_entries(&sequences);
            entries.map(|all| all.into_iter().map(|(scores, entry)| (scores, Some(entry))).collect())
        } else {
            let scores = scorer.score_sequences(&sequences);
            scores.map(|all| all.into_iter().map(|scores| (scores, None)).collect())
        };
        scores.map_err(|error| name_record(error, jobs))
    }

    /// What scores depend on, for a cache that holds the `top_k` largest logits.
    pub fn cache_settings(&self, top_k: usize) -> Settings {
        let windows = &self.score.windows;
        let [device, dtype] = self.place.clone();
        let settings: [(&str, Value); 10] = [
            ("version", env!("CARGO_PKG_VERSION").into()),
            ("model", format!("{:016x}", self.fingerprint).into()),
            ("device", device.into()),
            ("dtype", dtype.into()),
            ("max_length", windows.max_length().into()),
            ("overlap", windows.overlap().into()),
            ("truncate", windows.truncate().into()),
            ("bos", self.bos_name().into()),
            ("prompt_context", self.composer.options().prompt_context.into()),
            (TOP_K, top_k.into()),
        ];
        settings.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
    }

    /// What a cache must have been made with to stand for this run's model. A device and a type that are not asked for may
    /// be any: nothing is computed.
    pub fn cache_expected(&self, run: &RunArgs) -> Settings {
        let mut settings = self.cache_settings(0);
        settings.remove(TOP_K);
        for (name, any) in [("device", run.device == DeviceArg::Auto), ("dtype", run.dtype == DtypeArg::Auto)]
        {
            if any {
                settings.remove(name);
            }
        }
        settings
    }

    /// Takes device and type of its card from those that a cache was made with.
    pub fn made_with(&mut self, settings: &Settings) {
        let name = |name: &str| settings.get(name).and_then(Value::as_str).unwrap_or("unknown").to_owned();
        self.place = ["device", "dtype"].map(name);
    }

    fn bos_name(&self) -> &'static str {
        match self.composer.options().bos {
            Bos::Auto => "auto",
            Bos::Always => "always",
            Bos::Never => "never",
        }
    }

    /// The job's tokens as the model sees them.
    pub fn sequence<'a>(&'a self, job: &'a Job<Layout>) -> Sequence<'a> {
        self.composer.sequence(&job.document, &job.ids, &job.extra)
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
