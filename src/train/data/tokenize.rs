//! Documents to token shards, in parallel and in order.

use std::path::Path;

use rayon::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::encode::{Encoded, Encoder};
use crate::data::tokens::{Manifest, TokenShards, TokenWriter, WriterConfig};
use crate::data::{Document, Inputs, ReadOptions};
use crate::{Error, Result};

/// Documents that are encoded at a time, and about their bytes unless a single one has more.
const CHUNK_DOCUMENTS: usize = 4096;
const CHUNK_BYTES: usize = 8 << 20;

/// How documents are read and shards written.
#[derive(Clone, Debug)]
pub struct TokenizeConfig {
    /// How records are read.
    pub read: ReadOptions,
    /// Tokens of a shard.
    pub shard_tokens: u64,
}

/// What has been done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokenized {
    /// Documents written.
    pub documents: u64,
    /// Those of them without a token.
    pub empty: u64,
    /// Tokens written.
    pub tokens: u64,
    /// Those of them that carry loss.
    pub loss_tokens: u64,
}

impl Tokenized {
    fn add(&mut self, encoded: &Encoded) {
        let tokens = encoded.ids.len();
        let loss = encoded.loss.as_ref().map_or(tokens, |runs| runs.iter().map(ExactSizeIterator::len).sum());
        self.documents += 1;
        self.empty += u64::from(tokens == 0);
        self.tokens += tokens as u64;
        self.loss_tokens += loss as u64;
    }
}

/// Writes the tokens of `documents`, encoded on the current thread pool, and tells `watch` after each chunk how far it is;
/// an error from there ends the run.
///
/// # Errors
/// The first that reading, encoding or writing meets; the output is not complete then.
pub fn tokenize(
    documents: impl Iterator<Item = Result<Document>>,
    encoder: &Encoder,
    mut writer: TokenWriter,
    mut watch: impl FnMut(&Tokenized) -> Result<()>,
) -> Result<(Manifest, Tokenized)> {
    let mut done = Tokenized::default();
    let mut documents = documents.fuse();
    loop {
        let chunk = next_chunk(&mut documents)?;
        if chunk.is_empty() {
            break;
        }
        // The first error in the documents' order, however the threads ran.
        let encoded: Vec<Result<Encoded>> =
            chunk.par_iter().map(|document| encoder.encode(document)).collect();
        for (document, encoded) in chunk.iter().zip(encoded) {
            let encoded = encoded?;
            writer.push(&encoded.ids, encoded.loss.as_deref()).map_err(|error| match error {
                Error::Document { reason, .. } => document.error(reason),
                other => other,
            })?;
            done.add(&encoded);
        }
        watch(&done)?;
    }
    Ok((writer.finish()?, done))
}

fn next_chunk(documents: &mut impl Iterator<Item = Result<Document>>) -> Result<Vec<Document>> {
    let (mut chunk, mut bytes) = (Vec::new(), 0);
    while chunk.len() < CHUNK_DOCUMENTS && bytes < CHUNK_BYTES {
        let Some(document) = documents.next().transpose()? else { break };
        bytes += document.bytes();
        chunk.push(document);
    }
    Ok(chunk)
}

impl TokenizeConfig {
    /// What the writer of `encoder`'s tokens must know; `inputs` where finished shards are to be known again.
    pub fn writer(&self, encoder: &Encoder, inputs: Option<&Inputs>) -> WriterConfig {
        let vocabulary = encoder.vocabulary;
        WriterConfig {
            shard_tokens: self.shard_tokens,
            tokenizer: vocabulary.name.clone(),
            tokenizer_hash: vocabulary.tokenizer_hash.clone(),
            fingerprint: inputs.and_then(|inputs| self.fingerprint(encoder, inputs)),
            ..WriterConfig::new(vocabulary.size, vocabulary.eos)
        }
    }

    /// A hash of the settings, the vocabulary, and each input's place, size and time of change; `None` where an input is
    /// a stream, which is never the same again.
    fn fingerprint(&self, encoder: &Encoder, inputs: &Inputs) -> Option<String> {
        let Self { read, shard_tokens } = self;
        let Encoder { vocabulary, bos, prompt_field } = encoder;
        let fields = (&read.text_field, read.max_document_bytes, prompt_field);
        let mut text = format!("{:?}", (fields, shard_tokens, bos, vocabulary.fingerprint));
        text += &inputs.identity()?;
        Some(format!("{:016x}", xxh3_64(text.as_bytes())))
    }
}

/// The shards of `inputs` in `folder`: those that lie there if they are finished and of the same inputs and settings, else
/// new ones in their place.
///
/// # Errors
/// As [`tokenize`] and [`TokenShards::open`].
pub fn tokenize_into(
    inputs: &Inputs,
    encoder: &Encoder,
    config: &TokenizeConfig,
    folder: &Path,
    watch: impl FnMut(&Tokenized) -> Result<()>,
) -> Result<TokenShards> {
    let wanted = config.writer(encoder, Some(inputs));
    if TokenShards::is_folder(folder) && wanted.fingerprint.is_some() {
        let shards = TokenShards::open(folder);
        if let Ok(shards) = shards
            && shards.manifest().fingerprint == wanted.fingerprint
        {
            return Ok(shards);
        }
    }
    let writer = TokenWriter::create(folder, wanted, true)?;
    tokenize(inputs.documents(config.read.clone())?, encoder, writer, watch)?;
    TokenShards::open(folder)
}
