//! Arguments of `toedit score`.

use std::path::PathBuf;

use clap::Args;

use super::records::{ResponseArgs, no_resume};
use super::shared::{CommitArgs, CommonArgs, InputArgs, Missing, ModelArgs, OutputArgs, RunArgs, WindowArgs};
use super::values::at_least;
use crate::{Error, Result};

/// Log-probabilities and perplexity of each document.
#[derive(Args, Clone, Debug)]
pub struct ScoreArgs {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// What to read.
    #[command(flatten)]
    pub input: InputArgs,
    /// What is scored of them.
    #[command(flatten)]
    pub records: ResponseArgs,
    /// What to write.
    #[command(flatten)]
    pub output: OutputArgs,
    /// How the output grows.
    #[command(flatten)]
    pub commit: CommitArgs,
    /// What to write for each token.
    #[command(flatten)]
    pub tokens: TokenArgs,
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

/// What to write for each token.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Per token")]
pub struct TokenArgs {
    /// Write each token's id and log-probability
    #[arg(long)]
    pub per_token: bool,
    /// Write the entropy of each prediction, in nats (implies --per-token)
    #[arg(long)]
    pub entropy: bool,
    /// Write the rank of each token, 1 being the most likely (implies --per-token)
    #[arg(long)]
    pub rank: bool,
    /// Write the K most likely tokens with their log-probabilities (implies --per-token, but where --cache takes them)
    #[arg(long, value_name = "K", value_parser = at_least(1))]
    pub top_k: Option<usize>,
    /// Keep the scores and the K largest logits of each token in this folder, for `toedit edit --from-cache DIR`: 12 + 8·K
    /// bytes a token
    #[arg(long, value_name = "DIR", requires = "top_k")]
    pub cache: Option<PathBuf>,
}

impl TokenArgs {
    /// Whether anything is written per token.
    pub fn any(&self) -> bool {
        self.per_token || self.entropy || self.rank || (self.top_k.is_some() && self.cache.is_none())
    }
}

impl ScoreArgs {
    /// Checks that everything needed was given.
    ///
    /// # Errors
    /// [`Error::Usage`] naming what is missing.
    pub fn check(&self) -> Result<()> {
        Missing::default()
            .model(&self.model)
            .input(&self.input)
            .output(&self.output)
            .check("toedit score --model assets/tiny --input assets/sample.jsonl --output -")?;
        match &self.tokens.cache {
            Some(folder) if self.output.output.as_ref() == Some(folder) => {
                Err(Error::Usage(format!("--output and --cache are both {}", folder.display())))
            }
            Some(_) if self.commit.resume => Err(no_resume()),
            _ => self.commit.check(&self.output),
        }
    }
}
