//! Arguments of `toedit collapse`.

use std::path::PathBuf;

use clap::{Args, ValueEnum, value_parser};

use super::corpora::ReadArgs;
use super::generate::SamplingArgs;
use super::shared::{CommonArgs, Missing, RunArgs};
use super::values::{at_least, between, positive, share, threshold};
use crate::collapse::{CollapseConfig, Keep, Strategy};
use crate::train::Begin;
use crate::{Error, Result};

/// Train, generate or edit, train again: held-out perplexity and n-gram concentration by generation.
#[derive(Args, Clone, Debug)]
pub struct CollapseArgs {
    /// What humans wrote.
    #[command(flatten)]
    pub data: HumanArgs,
    /// How records are read.
    #[command(flatten)]
    pub read: ReadArgs,
    /// What is compared.
    #[command(flatten)]
    pub experiment: ExperimentArgs,
    /// How models learn.
    #[command(flatten)]
    pub training: CollapseTrainingArgs,
    /// What they write.
    #[command(flatten)]
    pub synthesis: SynthesisArgs,
    /// How they draw.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// How they edit.
    #[command(flatten)]
    pub edit: CollapseEditArgs,
    /// What is written.
    #[command(flatten)]
    pub output: CollapseOutputArgs,
    /// Where and how to compute.
    #[command(flatten)]
    pub run: RunArgs,
    /// What every command takes.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// What humans wrote.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Input")]
pub struct HumanArgs {
    /// Human text: JSON lines (plain, gzip or zstd), text files, or folders of them
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub data: Vec<PathBuf>,
    /// Held-out human text [default: some documents of --data, which no model learns from]
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub eval_data: Vec<PathBuf>,
    /// Human tokens to learn from at most; documents are chosen at random
    #[arg(long, value_name = "N", default_value_t = CollapseConfig::default().human.tokens, value_parser = value_parser!(u64).range(1..))]
    pub tokens: u64,
    /// Tokens of a document at most, so that no book stands for all
    #[arg(long, value_name = "N", value_parser = at_least(2), default_value_t = CollapseConfig::default().human.document_tokens)]
    pub document_tokens: usize,
    /// Tokens of the documents that are held out, as a share of those to learn from
    #[arg(long, value_name = "S", value_parser = positive, default_value_t = CollapseConfig::default().human.held_out_share, conflicts_with = "eval_data")]
    pub held_out_share: f64,
}

/// What is compared.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Experiment")]
pub struct ExperimentArgs {
    /// Models after the first one, which learns from human text
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..1 << 20))]
    pub generations: Option<u32>,
    /// What a generation learns from, one or more of them with commas, or repeated [default: all]
    #[arg(long, value_enum, value_name = "NAME", value_delimiter = ',')]
    pub strategy: Vec<CollapseStrategyArg>,
    /// Share of the tokens that is human with the strategy mix [default: 0.5]
    #[arg(long, value_name = "A", value_parser = share)]
    pub human_share: Option<f64>,
    /// Repeat all with this many seeds, from --seed on
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(1..=1 << 16))]
    pub seeds: u32,
}

/// What a generation learns from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CollapseStrategyArg {
    /// What the last generation wrote, and nothing else
    Replace,
    /// Human text and all that was written so far
    Accumulate,
    /// Human text by --human-share, and what the last generation wrote
    Mix,
    /// The last generation's data, human at first, edited by its model or the --prior
    Edit,
}

impl From<CollapseStrategyArg> for Strategy {
    fn from(arg: CollapseStrategyArg) -> Self {
        match arg {
            CollapseStrategyArg::Replace => Self::Replace,
            CollapseStrategyArg::Accumulate => Self::Accumulate,
            CollapseStrategyArg::Mix => Self::Mix,
            CollapseStrategyArg::Edit => Self::Edit,
        }
    }
}

/// How models learn, each generation's from scratch.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Training")]
pub struct CollapseTrainingArgs {
    /// Configuration of the models [default: a Llama of a million weights, which is built in]
    #[arg(long, value_name = "FILE")]
    pub config_json: Option<PathBuf>,
    /// Folder with the tokenizer, or the id of a model in the local Hugging Face cache [default: the one that lies beside
    /// --config-json]
    #[arg(long, value_name = "DIR", requires = "config_json")]
    pub tokenizer: Option<String>,
    /// Optimizer steps of each model
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..), default_value_t = CollapseConfig::default().training.steps)]
    pub steps: u64,
    /// Texts of a step
    #[arg(long, value_name = "N", value_parser = at_least(1), default_value_t = CollapseConfig::default().training.batch_size)]
    pub batch_size: usize,
    /// Tokens of a text and the one that begins it: documents are cut into texts
    #[arg(long, value_name = "T", value_parser = at_least(2), default_value_t = CollapseConfig::default().training.sequence_length)]
    pub sequence_length: usize,
    /// Peak of the learning rate, which falls to a tenth along a cosine
    #[arg(long, value_name = "R", value_parser = positive, default_value_t = CollapseConfig::default().training.learning_rate)]
    pub learning_rate: f64,
    /// Steps between checkpoints to go on from after a kill [default: only where a signal stops a model]
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    pub save_every: Option<u64>,
}

/// What models write.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Sampling")]
pub struct SynthesisArgs {
    /// Tokens of a human text that a synthetic one goes on from and does not have; 0 for texts from nothing
    #[arg(long, value_name = "N", default_value_t = CollapseConfig::default().synthesis.prefix_tokens)]
    pub prefix_tokens: usize,
    /// Texts that are written at a time; results do not depend on it
    #[arg(long, value_name = "N", value_parser = between(1, 4096), default_value_t = CollapseConfig::default().synthesis.batch_size, help_heading = "Run")]
    pub generate_batch_size: usize,
}

/// How models edit.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Editing")]
pub struct CollapseEditArgs {
    /// Edit with this model instead of each generation's own: a folder, or an id in the local Hugging Face cache, with the
    /// same tokenizer
    #[arg(long, value_name = "M")]
    pub prior: Option<String>,
    /// Resample tokens with p >= T [default: 0.99]
    #[arg(long, value_name = "T", value_parser = threshold, allow_negative_numbers = true, conflicts_with = "rule")]
    pub resample_above: Option<f64>,
    /// A rule such as 'p<=0.1:resample'; repeatable, the first that holds decides
    #[arg(long, value_name = "RULE")]
    pub rule: Vec<String>,
    /// Candidates of a replacement [default: 8]
    #[arg(long, value_name = "K", value_parser = at_least(1))]
    pub edit_top_k: Option<usize>,
    /// Divides the logits before a replacement is drawn [default: 1.5]
    #[arg(long, value_name = "B", value_parser = positive)]
    pub edit_temperature: Option<f64>,
}

impl CollapseEditArgs {
    /// The first flag that was given.
    fn given(&self) -> Option<&'static str> {
        let Self { prior, resample_above, rule, edit_top_k, edit_temperature } = self;
        let flags = [
            ("--prior", prior.is_some()),
            ("--resample-above", resample_above.is_some()),
            ("--rule", !rule.is_empty()),
            ("--edit-top-k", edit_top_k.is_some()),
            ("--edit-temperature", edit_temperature.is_some()),
        ];
        flags.into_iter().find(|(_, is_given)| *is_given).map(|(name, _)| name)
    }
}

/// What is written.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Output")]
pub struct CollapseOutputArgs {
    /// Folder for the table, its pictures, models and corpora
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Replace an earlier run's output
    #[arg(long, conflicts_with = "resume")]
    pub overwrite: bool,
    /// Go on where an earlier run of the same command was stopped or killed, to the same table
    #[arg(long)]
    pub resume: bool,
    /// Models and corpora that stay
    #[arg(long, value_enum, value_name = "WHICH", default_value_t = KeepArg::Last)]
    pub keep: KeepArg,
    /// Write the table, settings and times to this file as one JSON object
    #[arg(long, value_name = "FILE")]
    pub summary: Option<PathBuf>,
}

/// Models and corpora that stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KeepArg {
    /// Those of the first generation and of the last, and what accumulates
    Last,
    /// All
    All,
}

impl From<KeepArg> for Keep {
    fn from(arg: KeepArg) -> Self {
        match arg {
            KeepArg::Last => Self::Last,
            KeepArg::All => Self::All,
        }
    }
}

impl CollapseArgs {
    /// What is compared, each strategy once.
    pub fn strategies(&self) -> Vec<Strategy> {
        let named: Vec<Strategy> = self.experiment.strategy.iter().map(|name| (*name).into()).collect();
        Strategy::ALL.into_iter().filter(|strategy| named.is_empty() || named.contains(strategy)).collect()
    }

    /// Where the run begins.
    pub fn begin(&self) -> Begin {
        match (self.output.resume, self.output.overwrite) {
            (true, _) => Begin::Resume,
            (_, true) => Begin::Overwrite,
            _ => Begin::New,
        }
    }

    /// Checks that everything needed was given, and nothing that no strategy uses.
    ///
    /// # Errors
    /// [`Error::Usage`] naming what is missing or of no use.
    pub fn check(&self) -> Result<()> {
        Missing::default()
            .unless(
                !self.data.data.is_empty(),
                "--data PATH (human text: JSON lines or text files, or folders of them)",
            )
            .unless(self.experiment.generations.is_some(), "--generations N")
            .unless(self.output.output.is_some(), "--output DIR")
            .check("toedit collapse --data corpus.jsonl --generations 5 --seeds 3 --output collapse")?;
        let strategies = self.strategies();
        let mix = self.experiment.human_share.map(|_| "--human-share");
        for (flag, strategy) in [(mix, Strategy::Mix), (self.edit.given(), Strategy::Edit)] {
            if let Some(flag) = flag.filter(|_| !strategies.contains(&strategy)) {
                return Err(Error::Usage(format!("{flag} goes with --strategy {strategy} only")));
            }
        }
        Ok(())
    }
}
