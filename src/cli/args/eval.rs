//! Arguments of `toedit eval`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::shared::{CommonArgs, InputArgs, Missing, ModelArgs, RunArgs, WindowArgs};
use super::values::at_least;
use crate::Result;

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
