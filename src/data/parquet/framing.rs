//! Documents into a Parquet output, by frames that are put together in the end.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::assemble::assemble;
use super::frame::FrameBuilder;
use super::guarded;
use super::layout::Layout;
use crate::data::document::Document;
use crate::data::frames::Framing;
use crate::data::patch::Patch;
use crate::data::refused::Refused;
use crate::data::source::InputFile;
use crate::data::writer::OutputColumns;
use crate::{Error, Result};

/// The frames of a Parquet output.
pub(in crate::data) struct RowFraming {
    path: PathBuf,
    layout: Arc<Layout>,
    builder: FrameBuilder,
}

impl RowFraming {
    /// Frames of the output `path`, whose columns follow from its inputs.
    ///
    /// # Errors
    /// Inputs that differ in their columns, or cannot be read.
    pub fn new(path: &Path, inputs: &[InputFile], columns: &OutputColumns) -> Result<Self> {
        let layout = Arc::new(Layout::plan(inputs, columns)?);
        let builder = FrameBuilder::new(path.to_owned(), layout.clone());
        Ok(Self { path: path.to_owned(), layout, builder })
    }
}

impl Framing for RowFraming {
    fn document(&mut self, document: &Document, patch: &Patch) -> Result<()> {
        self.builder.push(document, patch)
    }

    fn line(&mut self, _: &[u8]) -> Result<()> {
        Err(Error::file(&self.path, "lines of JSON cannot go into Parquet: expected .jsonl"))
    }

    fn pass(&mut self, refused: &Refused) -> Result<bool> {
        match &refused.row {
            Some(row) if !self.layout.leaves_out => {
                self.builder.push_row(row).map_err(|reason| refused.line.error(&refused.source, reason))?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn size(&self) -> usize {
        self.builder.size()
    }

    fn close(&mut self) -> Result<Vec<u8>> {
        self.builder.close()
    }

    fn is_assembled(&self) -> bool {
        true
    }

    fn assemble(&self, frames: &File, ends: &[u64], out: &mut (dyn Write + Send)) -> Result<()> {
        let frames = frames.try_clone().map_err(|e| Error::io(&self.path, e))?;
        guarded(&self.path, || assemble(&self.layout, frames, ends, out))
    }
}
