//! The settings of an experiment.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::data::ReadOptions;
use crate::device::Device;
use crate::edit::{self, EditConfig};
use crate::generate::Sampling;
use crate::model::{Config, Dtype};
use crate::random::Stream;
use crate::train::TrainConfig;
use crate::train::schedule::{Decay, Schedule, default_warmup};
use crate::{Error, Result};

/// What a generation's model learns from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// What the last generation wrote, and nothing else.
    Replace,
    /// Human text and all that was written so far.
    Accumulate,
    /// Human text by its share of the tokens, and what the last generation wrote.
    Mix,
    /// The last generation's data, human at first, edited by the model that was trained on them, or by a prior.
    Edit,
}

impl Strategy {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Replace, Self::Accumulate, Self::Mix, Self::Edit];

    /// The name: `replace`, `accumulate`, `mix` or `edit`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Replace => "replace",
            Self::Accumulate => "accumulate",
            Self::Mix => "mix",
            Self::Edit => "edit",
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Strategy {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|strategy| strategy.name() == name).ok_or_else(|| {
            Error::Usage(format!("strategy `{name}`: expected replace, accumulate, mix or edit"))
        })
    }
}

/// Which models and corpora stay when they are not needed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Those of the first generation and of the last.
    Last,
    /// All.
    All,
}

/// Which human text there is.
#[derive(Clone, Debug)]
pub struct HumanConfig {
    /// Tokens to train on at most; documents are chosen at random.
    pub tokens: u64,
    /// Tokens of a document at most, so that no book stands for all.
    pub document_tokens: usize,
    /// Tokens of held-out documents, as a share of those to train on, where no held-out data are given.
    pub held_out_share: f64,
    /// How records are read.
    pub read: ReadOptions,
}

/// How each generation's model is trained, from scratch.
#[derive(Clone, Copy, Debug)]
pub struct TrainingConfig {
    /// Optimizer steps, the same whatever the data's size.
    pub steps: u64,
    /// Texts of a step.
    pub batch_size: usize,
    /// Tokens of a row (T), the one that begins it included.
    pub sequence_length: usize,
    /// The peak; it falls to a tenth along a cosine.
    pub learning_rate: f64,
    /// Steps between checkpoints to go on from after a kill; a signal leaves one anyway.
    pub save_every: Option<u64>,
}

impl TrainingConfig {
    /// The trainer's settings.
    ///
    /// # Errors
    /// A learning rate out of its range.
    pub fn train_config(&self, seed: u64) -> Result<TrainConfig> {
        let Self { steps, batch_size, sequence_length, learning_rate, .. } = *self;
        let warmup = default_warmup(steps);
        let schedule = Schedule::new(Decay::Cosine, learning_rate, learning_rate / 10.0, warmup, steps)?;
        Ok(TrainConfig { batch_size, seed, ..TrainConfig::new(steps, sequence_length, schedule) })
    }
}

/// How synthetic texts are written.
#[derive(Clone, Copy, Debug)]
pub struct SynthesisConfig {
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Tokens of a human text that a synthetic one goes on from; 0 for texts from nothing.
    pub prefix_tokens: usize,
    /// Texts at a time; results do not depend on it.
    pub batch_size: usize,
}

/// Where the learner's configuration and tokenizer lie.
#[derive(Clone, Debug)]
pub struct LearnerFiles {
    /// `config.json`.
    pub config: PathBuf,
    /// The folder with `tokenizer.json`.
    pub tokenizer: PathBuf,
}

/// An experiment.
#[derive(Clone, Debug)]
pub struct CollapseConfig {
    /// What to compare.
    pub strategies: Vec<Strategy>,
    /// Models after the first one, which learns from human text.
    pub generations: u32,
    /// The first seed; also that of the choice of documents, which all share.
    pub seed: u64,
    /// Seeds, one after the other.
    pub seeds: u32,
    /// Which human text there is.
    pub human: HumanConfig,
    /// How models are trained.
    pub training: TrainingConfig,
    /// How synthetic texts are written.
    pub synthesis: SynthesisConfig,
    /// Share of the tokens that is human, of [`Strategy::Mix`].
    pub human_share: f64,
    /// How [`Strategy::Edit`] edits; seed and generation are the experiment's.
    pub edit: EditConfig,
    /// A model that edits in place of each generation's own. It has the learner's tokenizer.
    pub prior: Option<PathBuf>,
    /// What stays.
    pub keep: Keep,
    /// Where everything runs.
    pub device: Device,
    /// The type of the products.
    pub dtype: Dtype,
    /// Looked at all the time: a signal's number other than 0 ends the run with [`Error::Stopped`].
    pub stop: Option<Arc<AtomicUsize>>,
}

impl Default for CollapseConfig {
    /// All strategies over five generations of the built-in learner, on the CPU: with three seeds less than two hours on two
    /// cores.
    fn default() -> Self {
        let read = ReadOptions::default();
        let training = TrainingConfig {
            steps: 1000,
            batch_size: 16,
            sequence_length: 128,
            learning_rate: 3e-3,
            save_every: None,
        };
        Self {
            strategies: Strategy::ALL.to_vec(),
            generations: 5,
            seed: 0,
            seeds: 1,
            human: HumanConfig { tokens: 1_000_000, document_tokens: 2048, held_out_share: 0.1, read },
            training,
            synthesis: SynthesisConfig { sampling: Sampling::default(), prefix_tokens: 16, batch_size: 64 },
            human_share: 0.5,
            edit: EditConfig::new(edit::Strategy::UpRevise),
            prior: None,
            keep: Keep::Last,
            device: Device::Cpu,
            dtype: Dtype::auto(Device::Cpu),
            stop: None,
        }
    }
}

impl CollapseConfig {
    /// Checks the ranges, against the learner's configuration too.
    ///
    /// # Errors
    /// [`Error::Usage`] naming what is out of its range.
    pub fn validate(&self, model: &Config) -> Result<()> {
        self.training.train_config(self.seed)?.check(model)?;
        self.synthesis.sampling.validate()?;
        let (name, positions) = model.context();
        let (prefix, row) = (self.synthesis.prefix_tokens, self.training.sequence_length);
        let HumanConfig { tokens, document_tokens, held_out_share, .. } = self.human;
        let last = self.seed.checked_add(self.seeds.into()).filter(|end| *end <= 1 << 32);
        let checks = [
            (
                prefix.checked_add(row).is_some_and(|length| length <= positions),
                format!(
                    "{prefix} prefix tokens and {row} of a row: the model's {name} is {positions}, which a prompt and \
                     its text share"
                ),
            ),
            (!self.strategies.is_empty(), "no strategy: expected at least one".to_owned()),
            (self.seeds >= 1 && last.is_some(), "seeds: expected at least one, all below 2³²".to_owned()),
            (
                (1..=Stream::MAX_GENERATION).contains(&self.generations),
                format!("{} generations: expected 1 to {}", self.generations, Stream::MAX_GENERATION),
            ),
            (
                (0.0..=1.0).contains(&self.human_share),
                format!("human share {}: expected 0 to 1", self.human_share),
            ),
            (
                held_out_share.is_finite() && held_out_share > 0.0,
                format!("held-out share {held_out_share}: expected above 0"),
            ),
            (tokens > 0 && document_tokens > 0, "no human tokens: expected at least one".to_owned()),
            (self.synthesis.batch_size > 0, "batch size 0: expected at least 1".to_owned()),
        ];
        match checks.into_iter().find(|(holds, _)| !holds) {
            None => Ok(()),
            Some((_, reason)) => Err(Error::Usage(reason)),
        }
    }

    /// Whether any strategy needs what is asked.
    pub fn has(&self, strategy: Strategy) -> bool {
        self.strategies.contains(&strategy)
    }

    /// Tokens of a text at most: of a row without the one that begins it.
    pub(super) fn text_tokens(&self) -> usize {
        self.training.sequence_length - 1
    }

    /// All of it that the table depends on. `prior` identifies the prior.
    pub(super) fn settings(&self, prior: Option<String>) -> Map<String, Value> {
        let Self { human, training, synthesis, edit: editing, .. } = self;
        let Sampling { temperature, top_k, top_p, min_p, repetition_penalty } = synthesis.sampling;
        let mut settings = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "strategies": self.strategies,
            "generations": self.generations,
            "seed": self.seed,
            "seeds": self.seeds,
            "tokens": human.tokens,
            "document_tokens": human.document_tokens,
            "held_out_share": human.held_out_share,
            "text_field": human.read.text_field,
            "steps": training.steps,
            "batch_size": training.batch_size,
            "sequence_length": training.sequence_length,
            "learning_rate": training.learning_rate,
            "prefix_tokens": synthesis.prefix_tokens,
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
            "min_p": min_p,
            "repetition_penalty": repetition_penalty,
            "device": self.device.setting(),
            "dtype": self.dtype.to_string(),
        });
        if self.has(Strategy::Mix) {
            settings["human_share"] = self.human_share.into();
        }
        if self.has(Strategy::Edit) {
            let rules: Vec<_> = editing.rules().iter().map(ToString::to_string).collect();
            settings["edit_rules"] = rules.into();
            settings["edit_sampler"] = json!(editing.sampler());
            settings["edit_temperature"] = editing.temperature().into();
            settings["prior"] = prior.into();
        }
        let Value::Object(settings) = settings else { unreachable!("an object was written") };
        settings
    }
}

impl LearnerFiles {
    /// A Llama of about a million weights and the tokenizer of 4,096 tokens that the smallest experiments use, written to a
    /// folder.
    ///
    /// # Errors
    /// The system's.
    pub fn built_in(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))?;
        let config = folder.join("config.json");
        let files = [
            (config.clone(), &include_bytes!("small.json")[..]),
            (folder.join("tokenizer.json"), &include_bytes!("../../assets/tiny/tokenizer.json")[..]),
        ];
        for (path, bytes) in files {
            std::fs::write(&path, bytes).map_err(|error| Error::io(&path, error))?;
        }
        Ok(Self { config, tokenizer: folder.to_owned() })
    }
}
