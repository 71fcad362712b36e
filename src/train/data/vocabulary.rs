//! All of a model that turns documents into ids.

use std::fs;
use std::path::Path;

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::model::{Config, folder};
use crate::tokenizer::{ChatTemplate, Tokenizer};
use crate::{Error, Result};

/// The tokenizer's file in a model's folder.
const TOKENIZER: &str = "tokenizer.json";

/// Tokenizer, chat template, special ids and size, without a model's weights.
#[derive(Debug)]
pub struct Vocabulary {
    /// The folder that it was read from, as errors and manifests name it.
    pub name: String,
    /// None where the folder has none: then documents must be ids.
    pub tokenizer: Option<Tokenizer>,
    /// A hash of the tokenizer's file.
    pub tokenizer_hash: Option<String>,
    /// None where the folder has none: then there can be no `messages`.
    pub chat: Option<ChatTemplate>,
    /// Ids are below it: rows of the model's embedding.
    pub size: u32,
    /// The configuration's beginning of a text.
    pub bos: Option<u32>,
    /// The configuration's end of a text, unless it lies past the vocabulary.
    pub eos: Option<u32>,
    /// A hash of all this.
    pub fingerprint: u64,
}

impl Vocabulary {
    /// Reads a model's folder, or that of a model's id in the local cache.
    ///
    /// # Errors
    /// Names the file that is missing or malformed.
    pub fn open(model: &str) -> Result<Self> {
        let folder = folder::resolve(model)?;
        let config = Config::from_file(&folder.join(folder::CONFIG))?;
        Self::with_config(&folder, &config)
    }

    /// Reads a folder's tokenizer and chat template for a model of this configuration.
    ///
    /// # Errors
    /// Names the file that is malformed.
    pub fn with_config(folder: &Path, config: &Config) -> Result<Self> {
        let path = folder.join(TOKENIZER);
        let mut hash = Xxh3::new();
        let tokenizer = path.exists().then(|| Tokenizer::from_file(&path)).transpose()?;
        let mut tokenizer_hash = None;
        if tokenizer.is_some() {
            let file = fs::read(&path).map_err(|error| Error::io(&path, error))?;
            tokenizer_hash = Some(format!("{:016x}", xxh3_64(&file)));
            hash.update(&file);
        }
        let size = u32::try_from(config.vocab_size).unwrap_or(u32::MAX);
        let inside = |id: &u32| *id < size;
        let (bos, eos) = (config.bos_token_id.filter(inside), config.eos_token_id.filter(inside));
        let chat = ChatTemplate::of_model(folder, config, tokenizer.as_ref())?;
        hash.update(chat.as_ref().map_or("", ChatTemplate::source).as_bytes());
        for number in [Some(size), bos, eos] {
            hash.update(&number.unwrap_or(u32::MAX).to_le_bytes());
        }
        let (name, fingerprint) = (folder.display().to_string(), hash.digest());
        Ok(Self { name, tokenizer, tokenizer_hash, chat, size, bos, eos, fingerprint })
    }
}
