//! Arguments of `toedit eval`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::shared::{
    BosArg, CommitArgs, CommonArgs, InputArgs, Missing, ModelArgs, OnErrorArg, OutputArgs, RunArgs,
    WindowArgs,
};
use super::values::{at_least, between};
use crate::data::{DEFAULT_MAX_DOCUMENT_BYTES, ReadOptions};
use crate::{Error, Result};

/// Measures of a model.
#[derive(Args, Clone, Debug)]
pub struct EvalArgs {
    /// What to measure.
    #[command(subcommand)]
    pub measure: Measure,
}

/// The measures.
#[derive(Clone, Debug, Subcommand)]
pub enum Measure {
    /// How well the model predicts a corpus: e^(−mean log p)
    Perplexity(Box<PerplexityArgs>),
    /// Accuracy on multiple-choice questions, by summed and by length-normalised log-likelihood
    Choices(Box<SetArgs>),
    /// How well the model predicts the last word of a passage: greedy match and perplexity
    Lambada(Box<SetArgs>),
}

impl Measure {
    /// What every command takes.
    pub fn common(&self) -> &CommonArgs {
        match self {
            Self::Perplexity(args) => &args.common,
            Self::Choices(args) | Self::Lambada(args) => &args.common,
        }
    }
}

/// How well a model predicts a corpus.
#[derive(Args, Clone, Debug)]
pub struct PerplexityArgs {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// What to read.
    #[command(flatten)]
    pub input: InputArgs,
    /// Where to write the figures.
    #[command(flatten)]
    pub output: FigureArgs,
    /// What the mean is over.
    #[command(flatten)]
    pub mean: MeanArgs,
    /// How a document meets the window.
    #[command(flatten)]
    pub window: WindowArgs,
    /// Where and how to compute.
    #[command(flatten)]
    pub run: RunArgs,
    /// What every command takes.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Where to write the figures.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Output")]
pub struct FigureArgs {
    /// Write figures, counts and settings to this file as one JSON object
    #[arg(long, value_name = "FILE")]
    pub summary: Option<PathBuf>,
}

/// What the mean is over.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Mean")]
pub struct MeanArgs {
    /// Mean over batches of each batch's mean instead of over tokens, and the first 1024 tokens of a document alone
    /// (--max-length sets another number): the ToEdit paper's evaluation
    #[arg(long)]
    pub batch_mean: bool,
    /// Documents of a batch of that mean; other means do not depend on it
    #[arg(long, value_name = "N", value_parser = at_least(1), default_value_t = 8)]
    pub batch_size: usize,
}

/// How a model does on the items of sets.
#[derive(Args, Clone, Debug)]
pub struct SetArgs {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// What to read.
    #[command(flatten)]
    pub input: ItemArgs,
    /// What to write.
    #[command(flatten)]
    pub output: OutputArgs,
    /// How the output grows.
    #[command(flatten)]
    pub commit: CommitArgs,
    /// How an item meets the window.
    #[command(flatten)]
    pub context: ContextArgs,
    /// Where and how to compute.
    #[command(flatten)]
    pub run: RunArgs,
    /// What every command takes.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Which items to read.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Input")]
pub struct ItemArgs {
    /// JSON lines (plain, gzip or zstd), Parquet, folders of them, or `-`: a set each
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub input: Vec<PathBuf>,
    /// The longest line that is read, in bytes after decompression
    #[arg(long, value_name = "N", value_parser = at_least(1), default_value_t = DEFAULT_MAX_DOCUMENT_BYTES)]
    pub max_document_bytes: usize,
}

impl ItemArgs {
    /// How items are read: the context is their text.
    pub fn read_options(&self) -> ReadOptions {
        let max_document_bytes = self.max_document_bytes;
        ReadOptions { text_field: "context".to_owned(), max_document_bytes, ..ReadOptions::default() }
    }
}

/// How an item meets the model's window.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Windows")]
pub struct ContextArgs {
    /// Tokens that the model reads at once; longer contexts lose their beginning [default: the model's own, at most 2048]
    #[arg(long, value_name = "N", value_parser = at_least(2))]
    pub max_length: Option<usize>,
    /// Beginning-of-sequence token; auto does what the tokenizer does by itself
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = BosArg::Auto)]
    pub bos: BosArg,
    /// Tokens worked on at a time, up to 16777216; results do not depend on it
    #[arg(long, value_name = "N", value_parser = between(1, 1 << 24), help_heading = "Run")]
    pub batch_tokens: Option<usize>,
}

impl SetArgs {
    /// How an item meets the model's window.
    pub fn window(&self) -> WindowArgs {
        let ContextArgs { max_length, bos, batch_tokens } = self.context;
        WindowArgs { max_length, overlap: None, truncate: false, bos, batch_tokens }
    }

    /// Checks that everything needed was given to `toedit eval` and the measure's name.
    ///
    /// # Errors
    /// [`Error::Usage`] naming what is missing or does not go together.
    pub fn check(&self, measure: &str) -> Result<()> {
        Missing::default()
            .model(&self.model)
            .items(&self.input)
            .check(&format!("toedit eval {measure} --model assets/tiny --input {measure}.jsonl"))?;
        let flag = match self.commit.on_error {
            _ if self.output.output.is_some() => return self.commit.check(&self.output),
            OnErrorArg::Stop if !self.commit.resume => return Ok(()),
            OnErrorArg::Stop => "--resume".to_owned(),
            other => format!("--on-error {}", other.name()),
        };
        Err(Error::Usage(format!("{flag} is about an output: name one with --output")))
    }
}

impl PerplexityArgs {
    /// Checks that everything needed was given.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] naming what is missing.
    pub fn check(&self) -> Result<()> {
        Missing::default()
            .model(&self.model)
            .input(&self.input)
            .check("toedit eval perplexity --model assets/tiny --input assets/sample.jsonl")
    }
}
