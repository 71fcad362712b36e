//! Generation: texts that go on token by token, many at a time.
//!
//! A sample is a pure function of its prompt's ids, its stream and number, the model, the sampling and the seed: neither
//! the batch nor its neighbours nor the number of threads change a bit of it.

mod backend;
mod batching;
mod config;
mod decoder;
#[cfg(kernels)]
mod device;
mod text;

use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

pub use crate::ops::sample::Sampling;
pub use config::{GenerateConfig, eos_ids, start_id};
pub use decoder::{Decoder, Extension};
pub use text::TextStream;

use crate::Result;
use crate::model::Model;
use batching::Batching;

/// What a text goes on from.
#[derive(Clone, Copy, Debug)]
pub struct Prompt<'a> {
    /// Its tokens, the one that begins a sequence included, where there is one. Not empty: a text from nothing begins
    /// with [`start_id`].
    pub ids: &'a [u32],
    /// The stream of its random numbers; see [`crate::data::stream_key`].
    pub stream: u64,
    /// The number of the sample, from 0: samples of a prompt differ by it alone.
    pub sample: u32,
}

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it.
    Eos,
    /// The caller did, as where a stop string came.
    Stop,
    /// It has as many tokens as it may have.
    Length,
}

impl Finish {
    /// Its name in outputs, as the field's interfaces have it: `stop` or `length`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Eos | Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// A text that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Generated {
    /// The new tokens, one that ended the text included.
    pub ids: Vec<u32>,
    /// ln P of each of them in the model's own distribution, in nats, where asked for.
    pub logprobs: Vec<f32>,
    /// Why it ended.
    pub finish: Finish,
}

impl Generated {
    /// The new tokens without one that ended the text.
    pub fn content(&self) -> &[u32] {
        match (self.finish, self.ids.split_last()) {
            (Finish::Eos, Some((_, content))) => content,
            _ => &self.ids,
        }
    }
}

/// Generates texts with a model, as many at a time as the configuration says: one that has ended makes room for the next.
/// Shared by threads.
///
/// ```
/// use toedit::generate::{GenerateConfig, Generator, Prompt, Sampling};
/// use toedit::{Dtype, Model};
/// let model = Model::load("assets/tiny", Dtype::F32)?;
/// let config = GenerateConfig { max_new_tokens: 5, sampling: Sampling::greedy(), ..GenerateConfig::new(&model)? };
/// let generator = Generator::new(&model, config)?;
/// let generated = generator.generate(&[Prompt { ids: &[5, 6, 7], stream: 0, sample: 0 }])?;
/// assert!(generated[0].ids.len() <= 5);
/// # Ok::<(), toedit::Error>(())
/// ```
pub struct Generator<'m> {
    model: &'m Model,
    config: GenerateConfig,
    idle: Mutex<Vec<Decoder<'m>>>,
}

impl<'m> Generator<'m> {
    /// Prepares to generate with `model`.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] for settings out of their range, or texts longer than the model's positions.
    pub fn new(model: &'m Model, config: GenerateConfig) -> Result<Self> {
        config.validate(model.config())?;
        Ok(Self { model, config, idle: Mutex::default() })
    }

    /// Its settings.
    pub fn config(&self) -> &GenerateConfig {
        &self.config
    }

    /// Goes on from each prompt; results in the prompts' order.
    ///
    /// # Errors
    /// [`crate::Error::Document`] for a prompt that is empty, leaves no room for a token or has an id outside the
    /// vocabulary, or logits that are not finite; [`crate::Error::Stopped`].
    pub fn generate(&self, prompts: &[Prompt]) -> Result<Vec<Generated>> {
        self.generate_with(prompts, |_, _| ControlFlow::Continue(()))
    }

    /// [`Generator::generate`], where `watch` sees each token as it comes, with its prompt's index, and may end the text
    /// behind it. One that ends the text by itself is seen too.
    ///
    /// # Errors
    /// As [`Generator::generate`].
    pub fn generate_with(
        &self,
        prompts: &[Prompt],
        watch: impl FnMut(usize, u32) -> ControlFlow<()>,
    ) -> Result<Vec<Generated>> {
        self.config.check_prompts(self.model.config(), prompts)?;
        let mut decoder = self.decoder()?;
        let generated = Batching::new(&self.config, prompts)?.run(&mut decoder, watch);
        // One that failed may hold half a step.
        if generated.is_ok() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(decoder);
        }
        generated
    }

    fn decoder(&self) -> Result<Decoder<'m>> {
        if let Some(decoder) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Ok(decoder);
        }
        Decoder::new(self.model, self.config.batch_size, self.config.max_length)
    }
}
