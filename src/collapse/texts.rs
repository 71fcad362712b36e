//! Corpora of texts: token shards of which each document is a text behind the token that begins it.

use std::path::Path;

use crate::data::tokens::{TokenShards, TokenWriter, WriterConfig};
use crate::train::data::Vocabulary;
use crate::{Error, Result};

/// Texts that are read and worked on at a time.
pub(super) const CHUNK: u64 = 256;

/// What texts are made of: the tokenizer's ids, and the one that begins each text.
pub(super) struct Alphabet {
    pub vocabulary: Vocabulary,
    pub start: u32,
}

impl Alphabet {
    /// # Errors
    /// No tokenizer, or one with more tokens than the model; a configuration without a token that begins a text.
    pub fn new(vocabulary: Vocabulary) -> Result<Self> {
        let name = Path::new(&vocabulary.name);
        let Some(tokenizer) = &vocabulary.tokenizer else {
            return Err(Error::file(name, "has no tokenizer.json: give --tokenizer a folder that has one"));
        };
        if tokenizer.len() > vocabulary.size as usize {
            let (tokens, size) = (tokenizer.len(), vocabulary.size);
            return Err(Error::file(name, format!("a tokenizer of {tokens} tokens for a model of {size}")));
        }
        let start = vocabulary.bos.or(vocabulary.eos).ok_or_else(|| {
            Error::Usage(
                "the configuration has neither bos_token_id nor eos_token_id, with which texts begin".into(),
            )
        })?;
        Ok(Self { vocabulary, start })
    }

    /// Begins a corpus.
    pub fn writer(&self, folder: &Path) -> Result<TextWriter> {
        let config = WriterConfig {
            tokenizer: self.vocabulary.name.clone(),
            tokenizer_hash: self.vocabulary.tokenizer_hash.clone(),
            ..WriterConfig::new(self.vocabulary.size, None)
        };
        Ok(TextWriter { writer: TokenWriter::create(folder, config, true)?, row: vec![self.start] })
    }

    /// The text of ids; what is no UTF-8, as where a piece ends within a character, is replaced.
    pub fn decode(&self, ids: &[u32]) -> String {
        let tokenizer = self.vocabulary.tokenizer.as_ref().expect("`new` has seen it");
        let bytes: Vec<u8> = ids.iter().flat_map(|id| tokenizer.bytes(*id)).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// A corpus in the making.
pub(super) struct TextWriter {
    writer: TokenWriter,
    row: Vec<u32>,
}

impl TextWriter {
    /// Appends a text, which is not to have the token that begins it.
    pub fn push(&mut self, ids: &[u32]) -> Result<()> {
        self.row.truncate(1);
        self.row.extend_from_slice(ids);
        self.writer.push(&self.row, None)
    }

    /// Completes it.
    pub fn finish(self) -> Result<()> {
        self.writer.finish().map(drop)
    }
}

/// A corpus.
pub(super) struct Texts {
    shards: TokenShards,
}

impl Texts {
    /// Opens a folder that is complete.
    pub fn open(folder: &Path) -> Result<Self> {
        Ok(Self { shards: TokenShards::open(folder)? })
    }

    /// Their number.
    pub fn len(&self) -> u64 {
        self.shards.documents()
    }

    /// Their tokens, without those that begin them.
    pub fn tokens(&self) -> u64 {
        self.shards.tokens() - self.len()
    }

    /// Tokens of each.
    pub fn lengths(&self) -> impl Iterator<Item = u32> {
        let length = |index| self.shards.document_range(index);
        (0..self.len()).map(length).map(|range| (range.end - range.start).saturating_sub(1) as u32)
    }

    /// A text, without the token that begins it.
    pub fn text(&self, index: u64) -> Result<Vec<u32>> {
        let range = self.shards.document_range(index);
        let mut ids = Vec::new();
        self.shards.read((range.start + 1).min(range.end)..range.end, &mut ids)?;
        Ok(ids)
    }

    /// All texts in order, some at a time: the first one's number, and they.
    pub fn chunks(&self) -> impl Iterator<Item = Result<(u64, Vec<Vec<u32>>)>> {
        (0..self.len()).step_by(CHUNK as usize).map(|first| {
            let texts = (first..self.len().min(first + CHUNK)).map(|index| self.text(index));
            Ok((first, texts.collect::<Result<_>>()?))
        })
    }
}
