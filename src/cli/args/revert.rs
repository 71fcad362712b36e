//! Arguments of `toedit revert`.

use std::path::PathBuf;

use clap::Args;

use super::shared::{CommonArgs, Missing, OutputArgs};
use crate::Result;

/// The original, from edited text and provenance.
#[derive(Args, Clone, Debug)]
pub struct RevertArgs {
    /// What `toedit edit --provenance` wrote, or `-`
    #[arg(value_name = "OUTPUT")]
    pub edited: PathBuf,
    /// Field of the record that holds the text
    #[arg(long, value_name = "NAME", default_value = "text")]
    pub text_field: String,
    /// What to write.
    #[command(flatten)]
    pub output: OutputArgs,
    /// What every command takes.
    #[command(flatten)]
    pub common: CommonArgs,
}

impl RevertArgs {
    /// Checks that everything needed was given.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] naming what is missing.
    pub fn check(&self) -> Result<()> {
        Missing::default().output(&self.output).check("toedit revert edited.jsonl --output original.jsonl")
    }
}
