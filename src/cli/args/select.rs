//! Arguments of `toedit select`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::corpora::ReadArgs;
use super::shared::{CommonArgs, Missing, OutputArgs, PoolArgs};
use super::values::{at_least, pair, positive};
use crate::{Error, Result};

/// Documents of a corpus, chosen.
#[derive(Args, Clone, Debug)]
pub struct SelectArgs {
    /// What to choose by.
    #[command(subcommand)]
    pub rule: SelectRule,
}

/// What to choose by.
#[derive(Clone, Debug, Subcommand)]
pub enum SelectRule {
    /// DSIR: documents drawn so that their n-grams are like those of a target corpus
    Dsir(Box<DsirArgs>),
    /// Documents whose perplexity, which `toedit score` wrote, lies in a range
    Perplexity(Box<PerplexityRangeArgs>),
}

/// By importance weights.
#[derive(Args, Clone, Debug)]
pub struct DsirArgs {
    /// What to choose from.
    #[command(flatten)]
    pub input: CorpusArgs,
    /// What the choice is to be like: text of the same kinds
    #[arg(long, value_name = "PATH", num_args = 1.., help_heading = "Choice")]
    pub target: Vec<PathBuf>,
    /// Documents to choose; all if there are no more
    #[arg(long, value_name = "N", value_parser = at_least(1), help_heading = "Choice")]
    pub documents: Option<usize>,
    /// What to write.
    #[command(flatten)]
    pub output: OutputArgs,
    /// How to run.
    #[command(flatten)]
    pub run: PoolArgs,
    /// What every command takes.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// By perplexity.
#[derive(Args, Clone, Debug)]
pub struct PerplexityRangeArgs {
    /// What to choose from.
    #[command(flatten)]
    pub input: CorpusArgs,
    /// What `toedit score` wrote about these inputs, in their order
    #[arg(long, value_name = "PATH", num_args = 1.., help_heading = "Choice")]
    pub scores: Vec<PathBuf>,
    /// The least perplexity that is chosen
    #[arg(long, value_name = "P", value_parser = positive, help_heading = "Choice")]
    pub min_perplexity: Option<f64>,
    /// The greatest perplexity that is chosen
    #[arg(long, value_name = "P", value_parser = positive, help_heading = "Choice")]
    pub max_perplexity: Option<f64>,
    /// Choose between two quantiles of all documents' perplexities instead, as in 0.25,0.75
    #[arg(long, value_name = "A,B", value_parser = pair, help_heading = "Choice",
        conflicts_with_all = ["min_perplexity", "max_perplexity"])]
    pub quantiles: Option<[f64; 2]>,
    /// What to write.
    #[command(flatten)]
    pub output: OutputArgs,
    /// What every command takes.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// What to choose from.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Input")]
pub struct CorpusArgs {
    /// JSON lines (plain, gzip or zstd), text files, or folders of them
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub input: Vec<PathBuf>,
    /// How records are read.
    #[command(flatten)]
    pub read: ReadArgs,
}

const INPUT: &str = "--input PATH (JSON lines or text files, or folders of them)";

impl DsirArgs {
    /// Checks that everything needed was given.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] naming what is missing.
    pub fn check(&self) -> Result<()> {
        Missing::default()
            .unless(!self.input.input.is_empty(), INPUT)
            .unless(!self.target.is_empty(), "--target PATH (of the same kinds)")
            .unless(self.documents.is_some(), "--documents N")
            .output(&self.output)
            .check(
                "toedit select dsir --input raw.jsonl --target wanted.jsonl --documents 1000 --output chosen.jsonl",
            )
    }
}

impl PerplexityRangeArgs {
    /// Checks that everything needed was given, and that the range holds something.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] naming what is missing or wrong.
    pub fn check(&self) -> Result<()> {
        if let (Some(min), Some(max)) = (self.min_perplexity, self.max_perplexity)
            && min > max
        {
            return Err(Error::Usage(format!("--min-perplexity {min} exceeds --max-perplexity {max}")));
        }
        let is_range =
            self.quantiles.is_some() || self.min_perplexity.is_some() || self.max_perplexity.is_some();
        Missing::default()
            .unless(!self.input.input.is_empty(), INPUT)
            .unless(!self.scores.is_empty(), "--scores PATH (of toedit score)")
            .unless(is_range, "--min-perplexity P, --max-perplexity P or --quantiles A,B")
            .output(&self.output)
            .check(
                "toedit select perplexity --input raw.jsonl --scores scores.jsonl --max-perplexity 50 --output chosen.jsonl",
            )
    }
}
