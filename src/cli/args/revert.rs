//! Arguments of `toedit revert`.

use std::path::PathBuf;

use clap::Args;

use super::shared::{CommitArgs, CommonArgs, Missing, OutputArgs};
use super::values::at_least;
use crate::Result;
use crate::data::ReadOptions;

/// The original, from edited text and provenance.
#[derive(Args, Clone, Debug)]
pub struct RevertArgs {
    /// What `toedit edit --provenance` wrote, or `-`
    #[arg(value_name = "OUTPUT")]
    pub edited: PathBuf,
    /// Field of the record that holds the text that was edited
    #[arg(long, alias = "response-field", value_name = "NAME", default_value = "text")]
    pub text_field: String,
    /// The longest line that is read, in bytes after decompression [default: no limit; provenance is longer than its text]
    #[arg(long, value_name = "N", value_parser = at_least(1))]
    pub max_document_bytes: Option<usize>,
    /// What to write.
    #[command(flatten)]
    pub output: OutputArgs,
    /// How the output grows.
    #[command(flatten)]
    pub commit: CommitArgs,
    /// What every command takes.
    #[command(flatten)]
    pub common: CommonArgs,
}

impl RevertArgs {
    /// How records are read.
    pub fn read_options(&self) -> ReadOptions {
        let max_document_bytes = self.max_document_bytes.unwrap_or(usize::MAX);
        ReadOptions { text_field: self.text_field.clone(), max_document_bytes, ..ReadOptions::default() }
    }

    /// Checks that everything needed was given.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] naming what is missing.
    pub fn check(&self) -> Result<()> {
        let example = "toedit revert edited.jsonl --output original.jsonl";
        Missing::default().output(&self.output).check(example)?;
        self.commit.check(&self.output)
    }
}
