//! Arguments about prompts and responses.

use clap::Args;

use super::shared::BosArg;
use crate::compose::ComposeConfig;
use crate::data::ReadOptions;
use crate::{Error, Result};

/// Where a record has its prompt and its response.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Records")]
pub struct PromptArgs {
    /// Field with the prompt of a response: context that is neither trained on, scored nor edited
    #[arg(long, value_name = "NAME", requires = "response_field")]
    pub prompt_field: Option<String>,
    /// Field with the response, instead of --text-field
    #[arg(long, value_name = "NAME", requires = "prompt_field")]
    pub response_field: Option<String>,
}

impl PromptArgs {
    /// How records are read, given how they are without prompts.
    ///
    /// # Errors
    /// [`Error::Usage`] if both are the same field.
    pub fn read_options(&self, options: ReadOptions) -> Result<ReadOptions> {
        let text_field = self.response_field.clone().unwrap_or(options.text_field);
        if self.prompt_field.as_ref() == Some(&text_field) {
            return Err(Error::Usage(format!("prompt and response are both the field `{text_field}`")));
        }
        Ok(ReadOptions { text_field, ..options })
    }
}

/// Where a record has its response, and what it is scored behind.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Records")]
pub struct ResponseArgs {
    /// Where prompt and response stand.
    #[command(flatten)]
    pub prompt: PromptArgs,
    /// Score each response alone instead of behind its prompt, or the conversation before it
    #[arg(long)]
    pub no_prompt_context: bool,
}

impl ResponseArgs {
    /// How records become sequences.
    pub fn compose(&self, bos: BosArg) -> ComposeConfig {
        let prompt_field = self.prompt.prompt_field.clone();
        ComposeConfig { bos: bos.into(), prompt_field, prompt_context: !self.no_prompt_context }
    }
}

/// Why a run that writes a cache begins at the beginning.
pub(super) fn no_resume() -> Error {
    let reason = "--cache begins anew, since it would lack what an earlier run has scored: leave out --resume, or --cache";
    Error::Usage(reason.into())
}
