//! Arguments of `toedit analyze`.

use std::path::PathBuf;

use clap::Args;

use super::corpora::ReadArgs;
use super::shared::{CommonArgs, Missing, OutputArgs};
use super::values::at_least;
use crate::Result;

/// What a corpus is like.
#[derive(Args, Clone, Debug)]
pub struct AnalyzeArgs {
    /// What to read.
    #[command(flatten)]
    pub input: AnalyzeInputArgs,
    /// How records are read.
    #[command(flatten)]
    pub read: ReadArgs,
    /// What to write: analysis.json, tables and pictures in a folder.
    #[command(flatten)]
    pub output: OutputArgs,
    /// Threads [default: the processors that the process may use]
    #[arg(long, value_name = "N", value_parser = at_least(1), help_heading = "Run")]
    pub threads: Option<usize>,
    /// What every command takes.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// What to read.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Input")]
pub struct AnalyzeInputArgs {
    /// A corpus, whose n-grams are counted: JSON lines (plain, gzip or zstd), text files, folders of them, or `-`
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub input: Vec<PathBuf>,
    /// Another one beside it
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub against: Vec<PathBuf>,
    /// What `toedit score` wrote about the corpus: perplexities, and with `--per-token` probabilities of tokens
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub scores: Vec<PathBuf>,
    /// The same about the other one
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub against_scores: Vec<PathBuf>,
    /// What the corpus is called in pictures
    #[arg(long, value_name = "NAME", default_value = "input", help_heading = "Output")]
    pub name: String,
    /// What the other one is called
    #[arg(long, value_name = "NAME", default_value = "against", help_heading = "Output")]
    pub against_name: String,
}

impl AnalyzeArgs {
    /// Checks that everything needed was given.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] naming what is missing.
    pub fn check(&self) -> Result<()> {
        let AnalyzeInputArgs { input, scores, .. } = &self.input;
        Missing::default()
            .unless(
                !input.is_empty() || !scores.is_empty(),
                "--input PATH (JSON lines or text files, or folders of them), or --scores PATH (of toedit score)",
            )
            .output(&self.output)
            .check("toedit analyze --input human.jsonl --against generated.jsonl --output analysis")
    }
}
