//! Arguments of `toedit mix`.

use std::path::PathBuf;

use clap::Args;

use super::corpora::ReadArgs;
use super::shared::{CommonArgs, Missing, OutputArgs, PoolArgs};
use super::values::share;
use crate::Result;

/// A corpus of human and synthetic text.
#[derive(Args, Clone, Debug)]
pub struct MixArgs {
    /// What to read.
    #[command(flatten)]
    pub input: MixInputArgs,
    /// How records are read.
    #[command(flatten)]
    pub read: ReadArgs,
    /// How much of each.
    #[command(flatten)]
    pub mixture: MixtureArgs,
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

/// What to read.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Input")]
pub struct MixInputArgs {
    /// Human text: JSON lines (plain, gzip or zstd), text files, or folders of them
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub human: Vec<PathBuf>,
    /// Synthetic text, of the same kinds
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub synthetic: Vec<PathBuf>,
    /// Folder of the model whose tokenizer counts the tokens, or its id in the local Hugging Face cache; without, records
    /// need `input_ids`
    #[arg(long, value_name = "M", help_heading = "Mixture")]
    pub model: Option<String>,
}

/// How much of each.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Mixture")]
pub struct MixtureArgs {
    /// Share of the tokens that is human, from 0 to 1
    #[arg(long, value_name = "A", value_parser = share)]
    pub human_share: Option<f64>,
    /// Tokens in all
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub tokens: Option<u64>,
}

impl MixArgs {
    /// Tokens of each corpus: human, synthetic.
    pub fn targets(&self) -> [u64; 2] {
        let MixtureArgs { human_share, tokens } = self.mixture;
        let tokens = tokens.unwrap_or_default();
        let human = (human_share.unwrap_or_default() * tokens as f64).round() as u64;
        [human.min(tokens), tokens - human.min(tokens)]
    }

    /// Checks that everything needed was given. A corpus of which nothing is wanted is not needed.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] naming what is missing.
    pub fn check(&self) -> Result<()> {
        let (MixInputArgs { human, synthetic, .. }, mixture) = (&self.input, &self.mixture);
        let is_known = mixture.human_share.is_some() && mixture.tokens.is_some();
        let [human_tokens, synthetic_tokens] = self.targets();
        let is_given = |paths: &[PathBuf], tokens| !paths.is_empty() || is_known && tokens == 0;
        Missing::default()
            .unless(is_given(human, human_tokens), "--human PATH (JSON lines or text files, or folders of them)")
            .unless(is_given(synthetic, synthetic_tokens), "--synthetic PATH (of the same kinds)")
            .unless(mixture.human_share.is_some(), "--human-share A (from 0 to 1)")
            .unless(mixture.tokens.is_some(), "--tokens N")
            .output(&self.output)
            .check(
                "toedit mix --model assets/tiny --human human.jsonl --synthetic generated.jsonl --human-share 0.5 \
                 --tokens 1000000 --output mixture.jsonl",
            )
    }
}
