//! How commands read that have several corpora.

use clap::Args;

use super::values::at_least;
use crate::data::{DEFAULT_MAX_DOCUMENT_BYTES, ReadOptions};

/// How records are read.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Input")]
pub struct ReadArgs {
    /// Field of the record that holds the text
    #[arg(long, value_name = "NAME", default_value = "text")]
    pub text_field: String,
    /// The longest line or text file that is read, in bytes after decompression
    #[arg(long, value_name = "N", value_parser = at_least(1), default_value_t = DEFAULT_MAX_DOCUMENT_BYTES)]
    pub max_document_bytes: usize,
}

impl ReadArgs {
    /// How records are read.
    pub fn options(&self) -> ReadOptions {
        ReadOptions {
            text_field: self.text_field.clone(),
            max_document_bytes: self.max_document_bytes,
            ..ReadOptions::default()
        }
    }
}
