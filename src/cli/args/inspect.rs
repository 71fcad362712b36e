//! Arguments of `toedit inspect`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::shared::CommonArgs;
use super::values::at_least;
use crate::data::{DEFAULT_MAX_DOCUMENT_BYTES, ReadOptions};

/// Documents of a page, unless told otherwise: as many as a browser shows without delay.
const PAGE_LIMIT: usize = 1000;

/// Edited records, to look at.
#[derive(Args, Clone, Debug)]
pub struct InspectArgs {
    /// What `toedit edit --provenance` wrote, or `-`
    #[arg(value_name = "FILE")]
    pub edited: PathBuf,
    /// Show the first N records [default: all; 1000 with --html]
    #[arg(long, value_name = "N", value_parser = at_least(1))]
    pub limit: Option<usize>,
    /// Write one self-contained page for a browser instead (`-` for standard output)
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Replace an existing page
    #[arg(long, requires = "html")]
    pub overwrite: bool,
    /// Colour; auto is for terminals, unless NO_COLOR is set
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = ColorArg::Auto, conflicts_with = "html")]
    pub color: ColorArg,
    /// Field of the record that holds the text that was edited
    #[arg(long, alias = "response-field", value_name = "NAME", default_value = "text")]
    pub text_field: String,
    /// The longest line that is read, in bytes after decompression
    #[arg(long, value_name = "N", value_parser = at_least(1), default_value_t = DEFAULT_MAX_DOCUMENT_BYTES)]
    pub max_document_bytes: usize,
    /// What every command takes.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ColorArg {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// In any case, as a pager wants it.
    Always,
    /// In no case.
    Never,
}

impl InspectArgs {
    /// How records are read.
    pub fn read_options(&self) -> ReadOptions {
        let (text_field, max_document_bytes) = (self.text_field.clone(), self.max_document_bytes);
        ReadOptions { text_field, max_document_bytes, ..ReadOptions::default() }
    }

    /// How many records are shown.
    pub fn limit(&self) -> usize {
        self.limit.unwrap_or(if self.html.is_some() { PAGE_LIMIT } else { usize::MAX })
    }
}
