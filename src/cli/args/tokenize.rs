//! Arguments of `toedit tokenize`.

use clap::Args;

use super::records::PromptArgs;
use super::shared::{BosArg, CommonArgs, InputArgs, Missing, OutputArgs};
use super::values::at_least;
use crate::Result;
use crate::data::ReadOptions;
use crate::data::tokens::DEFAULT_SHARD_TOKENS;

/// Memory-mapped token shards.
#[derive(Args, Clone, Debug)]
pub struct TokenizeArgs {
    /// Folder of the model whose tokenizer to use, or its id in the local Hugging Face cache; weights are not read
    #[arg(long, value_name = "M", help_heading = "Model")]
    pub model: Option<String>,
    /// What to read.
    #[command(flatten)]
    pub input: InputArgs,
    /// How records become tokens.
    #[command(flatten)]
    pub records: RecordArgs,
    /// What to write.
    #[command(flatten)]
    pub output: OutputArgs,
    /// Tokens of a shard, unless a single document has more
    #[arg(long, value_name = "N", default_value_t = DEFAULT_SHARD_TOKENS, help_heading = "Output",
        value_parser = clap::value_parser!(u64).range(1..))]
    pub shard_tokens: u64,
    /// Threads [default: the processors that the process may use]
    #[arg(long, value_name = "N", value_parser = at_least(1), help_heading = "Run")]
    pub threads: Option<usize>,
    /// What every command takes.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// How records become tokens.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Records")]
pub struct RecordArgs {
    /// Where prompt and response stand.
    #[command(flatten)]
    pub prompt: PromptArgs,
    /// Beginning-of-sequence token before each text; auto does what the tokenizer does by itself
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = BosArg::Auto)]
    pub bos: BosArg,
}

impl TokenizeArgs {
    /// How records are read.
    ///
    /// # Errors
    /// As [`PromptArgs::read_options`].
    pub fn read_options(&self) -> Result<ReadOptions> {
        self.records.prompt.read_options(self.input.read_options())
    }

    /// Checks that everything needed was given.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] naming what is missing.
    pub fn check(&self) -> Result<()> {
        Missing::default()
            .model_name(self.model.as_deref())
            .input(&self.input)
            .output(&self.output)
            .check("toedit tokenize --model assets/tiny --input assets/sample.jsonl --output tokens")
    }
}
