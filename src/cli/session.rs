//! What `score` and `edit` set up alike: thread pool, device, model, tokenizer, windows.

use std::path::PathBuf;
use std::time::Instant;

use rayon::ThreadPool;
use serde::Serialize;
use serde_json::{Value, json};

use super::args::{DeviceArg, DtypeArg, ModelArgs, RunArgs, WindowArgs, pool};
use super::pipeline::{Job, name_record};
use super::signals::Interrupt;
use super::summary::DocumentCounts;
use crate::Result;
use crate::compose::{Bos, ComposeConfig, Composer, Layout};
use crate::data::Settings;
use crate::device::Device;
use crate::model::{Checkpoint, Config, LoadConfig, Model, folder};
use crate::score::cache::{Entry, TOP_K};
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
    device_name: String,
    dtype: String,
    /// What of the device results depend on.
    device_setting: String,
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
        session.dtype = model.dtype().to_string();
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
        let (device, dtype) = run.place()?;
        let mut session = Self::prepared(model, device, run, window, compose, interrupt)?;
        // The work that is left is the host's.
        (session.device, session.dtype) = (Device::Cpu, dtype.to_string());
        let checkpoint = Checkpoint::open(&session.folder, model.mmap)?;
        session.fingerprint = session.pool.install(|| checkpoint.fingerprint())?;
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
        Ok(Self {
            pool: pool(run.threads)?,
            device,
            config,
            composer,
            score,
            load_seconds: 0.0,
            folder,
            fingerprint: 0,
            device_name: device.to_string(),
            dtype: String::new(),
            device_setting: device.setting(),
        })
    }

    /// The session in words, for the summary.
    pub fn card(&self) -> SessionCard {
        let config = &self.score;
        SessionCard {
            model: self.folder.display().to_string(),
            fingerprint: format!("{:016x}", self.fingerprint),
            device: self.device_name.clone(),
            dtype: self.dtype.clone(),
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

    /// All of the session that results depend on.
    ///
    /// # Errors
    /// A file of the model cannot be read.
    pub fn settings(&self, command: &str) -> Result<Settings> {
        let card = self.card();
        let settings = json!({
            "command": command,
            "version": env!("CARGO_PKG_VERSION"),
            "model": card.fingerprint,
            "device": self.device_setting,
            "dtype": card.dtype,
            "max_length": card.max_length,
            "overlap": card.overlap,
            "truncate": card.truncate,
            "bos": card.bos,
            "prompt_field": card.prompt_field,
            "prompt_context": card.prompt_context,
        });
        let Value::Object(mut settings) = settings else { unreachable!("an object was written") };
        let files = self.composer.fingerprints()?;
        settings.extend(files.into_iter().map(|(name, hash)| (name.to_owned(), hash.into())));
        Ok(settings)
    }

    /// What scores depend on, for a cache that holds the `top_k` largest logits.
    ///
    /// # Errors
    /// As [`Session::settings`].
    pub fn cache_settings(&self, top_k: usize) -> Result<Settings> {
        let mut settings = self.settings("score")?;
        settings.remove("command");
        // Keys tell what is prompt and what response.
        settings.remove("prompt_field");
        settings.insert(TOP_K.to_owned(), top_k.into());
        Ok(settings)
    }

    /// What a cache must have been made with to stand for this run's model. A device and a type that are not asked for may
    /// be any: nothing is computed.
    ///
    /// # Errors
    /// As [`Session::settings`].
    pub fn cache_expected(&self, run: &RunArgs) -> Result<Settings> {
        let mut settings = self.cache_settings(0)?;
        settings.remove(TOP_K);
        let any = [("device", run.device == DeviceArg::Auto), ("dtype", run.dtype == DtypeArg::Auto)];
        any.into_iter().filter(|(_, any)| *any).for_each(|(name, _)| drop(settings.remove(name)));
        Ok(settings)
    }

    /// Takes device and type from those that a cache was made with.
    pub fn made_with(&mut self, settings: &Settings) {
        let name = |name: &str| settings.get(name).and_then(Value::as_str).unwrap_or("unknown").to_owned();
        (self.device_setting, self.dtype) = (name("device"), name("dtype"));
        self.device_name = self.device_setting.split(' ').next().unwrap_or_default().to_owned();
    }

    /// Tokens to take through the model at a time: a device works on one pack while the host sees to another.
    pub fn chunk_tokens(&self) -> usize {
        let packs = if self.device == Device::Cpu { 1 } else { PACKS };
        self.score.batch_tokens.saturating_mul(packs)
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

    fn bos_name(&self) -> &'static str {
        match self.composer.options().bos {
            Bos::Auto => "auto",
            Bos::Always => "always",
            Bos::Never => "never",
        }
    }

    /// A document in numbers.
    pub fn documents(&self, job: &Job<Layout>) -> DocumentCounts {
        DocumentCounts::of(&self.sequence(job), &self.score.windows).passed(job.extra.flaw())
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
