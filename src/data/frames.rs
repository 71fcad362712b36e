//! How documents become the bytes of a frame: a part of an output that can be read by itself.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::compress::Encoder;
use super::document::Document;
use super::format::{Compression, Format};
use super::patch::Patch;
use super::refused::Refused;
use crate::{Error, Result};

/// Bytes of a frame before compression, unless its last document goes beyond: large enough that compression does not suffer,
/// small enough that little is done again after a run was killed.
pub const DEFAULT_FRAME_BYTES: usize = 1 << 20;

/// Collects documents into frames. The frames of an output one after the other are the output, unless it is assembled.
pub(super) trait Framing: Send {
    /// Adds a document.
    fn document(&mut self, document: &Document, patch: &Patch) -> Result<()>;

    /// Adds a line of JSON, which has no line's end.
    fn line(&mut self, line: &[u8]) -> Result<()>;

    /// Adds a record as it stands; false where the format cannot hold it.
    fn pass(&mut self, refused: &Refused) -> Result<bool>;

    /// Bytes in the open frame before compression: a pure function of what was added.
    fn size(&self) -> usize;

    /// Closes the frame and gives its bytes.
    fn close(&mut self) -> Result<Vec<u8>>;

    /// Whether the output is not its frames one after the other, but made of them: [`Framing::assemble`].
    fn is_assembled(&self) -> bool {
        false
    }

    /// Writes the output that is made of the frames in a file, which end at these bytes.
    fn assemble(&self, _: &File, _: &[u64], _: &mut (dyn Write + Send)) -> Result<()> {
        Ok(())
    }
}

/// JSON lines or a text, plain or compressed: gzip members, zstd frames.
pub(super) struct ByteFraming {
    /// For messages.
    path: PathBuf,
    format: Format,
    compression: Compression,
    frame: Option<Encoder<Vec<u8>>>,
    size: usize,
}

impl ByteFraming {
    pub fn new(path: &Path, format: Format, compression: Compression) -> Self {
        Self { path: path.to_owned(), format, compression, frame: None, size: 0 }
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.size += bytes.len();
        let at_path = |error| Error::io(&self.path, error);
        let frame = match &mut self.frame {
            Some(frame) => frame,
            None => self.frame.insert(Encoder::new(Vec::new(), self.compression).map_err(at_path)?),
        };
        frame.write_all(bytes).map_err(at_path)
    }
}

impl Framing for ByteFraming {
    fn document(&mut self, document: &Document, patch: &Patch) -> Result<()> {
        let bytes = document.render(patch, self.format)?;
        match self.format {
            Format::JsonLines | Format::Parquet => self.line(&bytes),
            Format::Text => self.append(&bytes),
        }
    }

    fn line(&mut self, line: &[u8]) -> Result<()> {
        self.append(line)?;
        self.append(b"\n")
    }

    fn pass(&mut self, refused: &Refused) -> Result<bool> {
        match (refused.passed(self.format), self.format) {
            (Some(bytes), Format::Text) => self.append(bytes).map(|()| true),
            (Some(bytes), _) => self.line(bytes).map(|()| true),
            (None, _) => Ok(false),
        }
    }

    fn size(&self) -> usize {
        self.size
    }

    fn close(&mut self) -> Result<Vec<u8>> {
        self.size = 0;
        let frame = match self.frame.take() {
            Some(frame) => Ok(frame),
            // Compressed nothing is something.
            None => Encoder::new(Vec::new(), self.compression),
        };
        frame.and_then(Encoder::finish).map_err(|error| Error::io(&self.path, error))
    }
}
