//! How texts are generated.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::{Prompt, Sampling};
use crate::model::config::listed_eos;
use crate::model::folder::{CONFIG, GENERATION_CONFIG};
use crate::model::{Config, Model};
use crate::random::Stream;
use crate::score::unknown_id;
use crate::{Error, Result};

/// Sequences at a time, unless told otherwise: weights are read once for all of them.
pub const DEFAULT_BATCH_SIZE: usize = 32;
/// The longest text, unless told otherwise or the model has fewer positions.
pub const DEFAULT_MAX_LENGTH: usize = 2048;
/// New tokens, unless told otherwise.
pub const DEFAULT_MAX_NEW_TOKENS: usize = 256;

/// How texts are generated.
#[derive(Clone, Debug)]
pub struct GenerateConfig {
    /// New tokens of a text at most.
    pub max_new_tokens: usize,
    /// How a token is chosen.
    pub sampling: Sampling,
    /// Of the random numbers.
    pub seed: u64,
    /// Tokens that end a text. Without any, texts end by their length.
    pub eos: Vec<u32>,
    /// Ids at or above it are never drawn: rows of a padded embedding have no text.
    pub vocabulary: usize,
    /// Tokens of a prompt and its text together, at most.
    pub max_length: usize,
    /// Sequences at a time. Memory follows it; results do not.
    pub batch_size: usize,
    /// Whether to give the log-probability of each new token.
    pub logprobs: bool,
    /// Looked at before each step: a signal's number other than 0 ends the call with [`Error::Stopped`].
    pub stop: Option<Arc<AtomicUsize>>,
}

impl GenerateConfig {
    /// The defaults for `model`: up to 256 new tokens from its own distribution, up to what ends a text by
    /// `generation_config.json`, or else by `config.json`.
    ///
    /// # Errors
    /// A `generation_config.json` that is malformed.
    pub fn new(model: &Model) -> Result<Self> {
        Ok(Self { eos: eos_ids(model.folder(), model.config())?, ..Self::of(model.config()) })
    }

    /// The same with the configuration's first such token alone.
    pub fn of(config: &Config) -> Self {
        Self {
            max_new_tokens: DEFAULT_MAX_NEW_TOKENS,
            sampling: Sampling::default(),
            seed: 0,
            eos: config.eos_token_id.into_iter().collect(),
            vocabulary: config.vocab_size,
            max_length: DEFAULT_MAX_LENGTH.min(config.context().1),
            batch_size: DEFAULT_BATCH_SIZE,
            logprobs: false,
            stop: None,
        }
    }

    /// Checks the ranges, against the model's too.
    ///
    /// # Errors
    /// [`Error::Usage`] naming what is out of its range.
    pub fn validate(&self, config: &Config) -> Result<()> {
        self.sampling.validate()?;
        let (name, bound) = config.context();
        let Self { max_length, max_new_tokens, batch_size, vocabulary, .. } = *self;
        let checks = [
            (
                max_length >= 2 && max_length <= bound,
                format!("max length {max_length}: expected 2 to {bound}, the model's {name}"),
            ),
            (max_new_tokens >= 1, "max new tokens 0: expected at least 1".to_owned()),
            (batch_size >= 1, "batch size 0: expected at least 1".to_owned()),
            (
                (1..=config.vocab_size).contains(&vocabulary),
                format!("{vocabulary} ids to draw from: the model's vocabulary has {}", config.vocab_size),
            ),
        ];
        match checks.into_iter().find(|(holds, _)| !holds) {
            None => Ok(()),
            Some((_, reason)) => Err(Error::Usage(reason)),
        }
    }

    /// Refuses prompts that no text can go on from.
    pub(super) fn check_prompts(&self, config: &Config, prompts: &[Prompt]) -> Result<()> {
        for (index, prompt) in prompts.iter().enumerate() {
            if let Some(reason) = self.refusal(prompt.ids, config) {
                return Err(Error::Document { index, reason });
            }
            if prompt.sample > Stream::MAX_GENERATION {
                return Err(Error::Usage(format!(
                    "sample {}: expected at most {}",
                    prompt.sample,
                    Stream::MAX_GENERATION
                )));
            }
        }
        Ok(())
    }

    /// Why no text can go on from a prompt, if so.
    pub(crate) fn refusal(&self, ids: &[u32], config: &Config) -> Option<String> {
        if ids.is_empty() {
            return Some("an empty prompt: expected at least a token that begins a sequence".into());
        }
        if ids.len() >= self.max_length {
            return Some(format!(
                "a prompt of {} tokens leaves no room for new ones: prompt and text have up to {} together",
                ids.len(),
                self.max_length
            ));
        }
        unknown_id(ids, config.vocab_size)
    }
}

/// The token that a text from nothing begins with: the beginning of a sequence, or else what ends the text before. None
/// where the configuration names neither.
pub fn start_id(config: &Config) -> Option<u32> {
    config.bos_token_id.or(config.eos_token_id)
}

/// The tokens that end a text: those of the folder's `generation_config.json`, or where it names none, of its `config.json`,
/// or the family's.
///
/// # Errors
/// A file that is malformed.
pub fn eos_ids(folder: &Path, config: &Config) -> Result<Vec<u32>> {
    for file in [GENERATION_CONFIG, CONFIG] {
        let ids = listed_eos(&folder.join(file))?;
        if !ids.is_empty() {
            return Ok(ids);
        }
    }
    Ok(config.eos_token_id.into_iter().collect())
}
