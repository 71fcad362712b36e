//! `tokens.json`: what a folder of token shards holds.

use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::{TOKENS, shard_file};
use crate::model::folder::read_small;
use crate::{Error, Result};

/// The manifest's name.
pub const MANIFEST: &str = "tokens.json";

const FORMAT: &str = "toedit-tokens";
const VERSION: u32 = 1;
/// Far above the manifest of a million shards.
const LIMIT: u64 = 256 << 20;

/// The content of `tokens.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    format: String,
    version: u32,
    /// Ids are below it.
    pub vocab_size: u32,
    /// 2 or 4.
    pub bytes_per_token: u32,
    /// Documents of all shards.
    pub documents: u64,
    /// Tokens of all shards.
    pub tokens: u64,
    /// The id that ends a text.
    pub eos_token_id: Option<u32>,
    /// Between how many neighbouring documents there is no such id yet.
    pub separators: u64,
    /// Whose tokenizer made the ids.
    pub tokenizer: String,
    /// A hash of that tokenizer's file, where known.
    pub tokenizer_hash: Option<String>,
    /// Of all that the tokens depend on, where known.
    pub fingerprint: Option<String>,
    /// Whether some tokens carry no loss.
    pub response_spans: bool,
    /// The shards in order.
    pub shards: Vec<ShardEntry>,
}

/// One shard of a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardEntry {
    /// The file with its tokens.
    pub file: String,
    /// Its documents.
    pub documents: u64,
    /// Its tokens.
    pub tokens: u64,
    /// Runs of tokens that carry loss; null where all do.
    pub spans: Option<u64>,
    /// xxh3 of its documents in order: ids, ends, and the runs that carry loss.
    pub hash: String,
}

impl Manifest {
    /// A manifest of nothing yet.
    pub(super) fn new(vocab_size: u32, eos_token_id: Option<u32>) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            vocab_size,
            bytes_per_token: bytes_per_token(vocab_size),
            documents: 0,
            tokens: 0,
            eos_token_id,
            separators: 0,
            tokenizer: String::new(),
            tokenizer_hash: None,
            fingerprint: None,
            response_spans: false,
            shards: Vec::new(),
        }
    }

    /// Reads and checks the manifest of a folder.
    ///
    /// # Errors
    /// There is none; it is no manifest, of another version, or contradicts itself.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST);
        let bytes = read_small(&path, LIMIT).map_err(|error| match error {
            Error::Io { source, .. } if source.kind() == ErrorKind::NotFound => Error::file(
                folder,
                "no tokens.json: not a folder of token shards, or one that was never finished (`toedit tokenize` makes one)",
            ),
            other => other,
        })?;
        let manifest: Self =
            serde_json::from_slice(&bytes).map_err(|error| Error::file(&path, error.to_string()))?;
        manifest.check().map_err(|reason| Error::file(&path, reason))?;
        Ok(manifest)
    }

    /// A hash of what is trained on: the documents, wherever they came from.
    pub fn content_hash(&self) -> String {
        let content = (self.vocab_size, self.eos_token_id, &self.shards);
        let json = serde_json::to_vec(&content).expect("a manifest is plain data");
        format!("{:016x}", xxh3_64(&json))
    }

    fn check(&self) -> Result<(), String> {
        if self.format != FORMAT || self.version != VERSION {
            let (format, version) = (&self.format, self.version);
            return Err(format!("format `{format}` version {version}: expected {FORMAT} version {VERSION}"));
        }
        let width = bytes_per_token(self.vocab_size);
        if self.bytes_per_token != width {
            let (found, vocabulary) = (self.bytes_per_token, self.vocab_size);
            return Err(format!("{found} bytes per token: expected {width} for {vocabulary} ids"));
        }
        if let Some(eos) = self.eos_token_id.filter(|&eos| eos >= self.vocab_size) {
            return Err(format!("eos_token_id {eos}: expected less than {}", self.vocab_size));
        }
        let misnamed = |(number, shard): &(usize, &ShardEntry)| shard.file != shard_file(*number, TOKENS);
        if let Some((number, shard)) = self.shards.iter().enumerate().find(misnamed) {
            return Err(format!("shard `{}`: expected `{}`", shard.file, shard_file(number, TOKENS)));
        }
        let total = |count: fn(&ShardEntry) -> u64| {
            self.shards.iter().try_fold(0u64, |sum, shard| sum.checked_add(count(shard)))
        };
        let (documents, tokens) = (total(|shard| shard.documents), total(|shard| shard.tokens));
        if documents != Some(self.documents) || tokens != Some(self.tokens) {
            return Err("its shards do not add up to its documents and tokens".to_owned());
        }
        if self.separators > self.documents.saturating_sub(1) {
            return Err(format!("{} separators for {} documents", self.separators, self.documents));
        }
        Ok(())
    }
}

/// Two where every id fits.
fn bytes_per_token(vocab_size: u32) -> u32 {
    if vocab_size <= 1 << 16 { 2 } else { 4 }
}
