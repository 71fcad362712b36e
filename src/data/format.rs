//! What a file's name says about its content.

use std::ffi::OsStr;
use std::path::Path;

/// How documents lie in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line (`.jsonl`, `.json`).
    JsonLines,
    /// One document, the whole file (`.txt`).
    Text,
    /// One document a row (`.parquet`).
    Parquet,
}

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// As it stands.
    None,
    /// Gzip (`.gz`).
    Gzip,
    /// Zstandard (`.zst`).
    Zstd,
}

impl Format {
    /// The format that the name asks for, a compression suffix aside; `None` where the extension is not
    /// known.
    pub fn from_name(path: &Path) -> Option<Self> {
        let inner = match Compression::from_name(path) {
            Compression::None => path.file_name(),
            _ => path.file_stem(),
        };
        let extension = Path::new(inner?).extension()?.to_ascii_lowercase();
        match extension.to_str()? {
            "jsonl" | "json" => Some(Self::JsonLines),
            "txt" => Some(Self::Text),
            // It compresses its own columns.
            "parquet" if Compression::from_name(path) == Compression::None => Some(Self::Parquet),
            _ => None,
        }
    }
}

impl Compression {
    /// The compression that the name asks for.
    pub fn from_name(path: &Path) -> Self {
        match path.extension().map(OsStr::to_ascii_lowercase) {
            Some(extension) if extension == "gz" => Self::Gzip,
            Some(extension) if extension == "zst" => Self::Zstd,
            _ => Self::None,
        }
    }

    /// The compression that a file's first bytes show; a zstd file may begin with a skippable frame.
    pub(super) fn from_magic(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }
}
