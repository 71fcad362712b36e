//! What a run is made with, and what it may be.

use super::lora::LoraConfig;
use super::schedule::Schedule;
use crate::model::Config;
use crate::{Error, Result};

/// The largest batch, tokens.
const BATCH_TOKENS: usize = 1 << 24;

/// The settings of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainConfig {
    /// Optimizer steps.
    pub steps: u64,
    /// Rows of a batch.
    pub batch_size: usize,
    /// Batches whose gradients make one step.
    pub accumulate: usize,
    /// Tokens of the longest row.
    pub sequence_length: usize,
    /// Learning rate by step.
    pub schedule: Schedule,
    /// Decay of AdamW's two moments.
    pub betas: [f32; 2],
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decay of the tensors of two or more dimensions, in units of the learning rate.
    pub weight_decay: f32,
    /// The largest global norm of the gradient.
    pub clip: Option<f32>,
    /// No loss where the model gives the target more than this probability (ForTIFAI).
    pub truncate_above: Option<f32>,
    /// Adapters instead of all weights.
    pub lora: Option<LoraConfig>,
    /// Whether activations are computed again in the backward pass.
    pub recompute: bool,
    /// Of the weights of a model from scratch.
    pub seed: u64,
}

impl TrainConfig {
    /// All weights of a model in steps of 8 rows, with AdamW as language models are usually trained.
    pub fn new(steps: u64, sequence_length: usize, schedule: Schedule) -> Self {
        Self {
            steps,
            batch_size: 8,
            accumulate: 1,
            sequence_length,
            schedule,
            betas: [0.9, 0.95],
            eps: 1e-8,
            weight_decay: 0.1,
            clip: Some(1.0),
            truncate_above: None,
            lora: None,
            recompute: false,
            seed: 0,
        }
    }

    /// Refuses what no model, or not this one, can be trained with.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the setting, what it is and what is expected.
    pub fn check(&self, model: &Config) -> Result<()> {
        self.check_sizes(model)?;
        let [beta1, beta2] = self.betas;
        let share = |value: f32| (0.0..1.0).contains(&value);
        let finite = |value: f32| value.is_finite() && value >= 0.0;
        let positive = |value: f32| value.is_finite() && value > 0.0;
        let (rate, clip) = (self.schedule.learning_rate() as f32, self.clip.unwrap_or(1.0));
        let (limit, alpha) = (self.truncate_above.unwrap_or(0.5), self.lora.map_or(1.0, |lora| lora.alpha));
        let numbers = [
            ("learning rate", rate, finite(rate), "a finite number of at least 0"),
            ("beta 1", beta1, share(beta1), "at least 0 and below 1"),
            ("beta 2", beta2, share(beta2), "at least 0 and below 1"),
            ("eps", self.eps, positive(self.eps), "a finite number above 0"),
            ("weight decay", self.weight_decay, finite(self.weight_decay), "a finite number of at least 0"),
            ("clip", clip, positive(clip), "a finite number above 0"),
            ("truncate above", limit, share(limit) && limit > 0.0, "a number between 0 and 1"),
            ("LoRA alpha", alpha, positive(alpha), "a finite number above 0"),
        ];
        match numbers.iter().find(|(_, _, holds, _)| !holds) {
            None => Ok(()),
            Some((name, value, _, expected)) => {
                Err(Error::Usage(format!("{name} {value} (in single precision): expected {expected}")))
            }
        }
    }

    fn check_sizes(&self, model: &Config) -> Result<()> {
        let usage = |reason: String| Err(Error::Usage(reason));
        if !(1..=u64::from(u32::MAX)).contains(&self.steps) {
            return usage(format!("{} steps: expected 1 to {}", self.steps, u32::MAX));
        }
        let length = self.sequence_length;
        let (name, limit) = model.context();
        if length < 2 {
            return usage(format!("sequence length {length}: expected at least 2"));
        }
        if length - 1 > limit {
            return usage(format!(
                "sequence length {length}: the model's {name} is {limit}; give {} or less",
                limit.saturating_add(1)
            ));
        }
        let tokens = self.batch_size.checked_mul(length - 1);
        if self.accumulate == 0 || !tokens.is_some_and(|tokens| (1..=BATCH_TOKENS).contains(&tokens)) {
            return usage(format!(
                "batch of {} rows of {length} tokens, {} to a step: expected at least one, and batches of at most \
                 {BATCH_TOKENS} tokens; --accumulate makes larger steps",
                self.batch_size, self.accumulate
            ));
        }
        Ok(())
    }
}
