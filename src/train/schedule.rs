//! Learning rates by step: pure functions, so that a run that is resumed needs to remember nothing.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Share of the steps over which [`Decay::WarmupStableDecay`] falls, where nothing else is said.
pub const DEFAULT_DECAY_SHARE: f64 = 0.2;

/// Steps of warm-up where nothing else is said: 100, but at least a hundredth and at most a tenth of all. Short runs
/// from scratch end far worse with less: docs/experiments.md has figures.
///
/// ```
/// use toedit::train::schedule::default_warmup;
/// assert_eq!([50, 1_000, 5_000, 20_000].map(default_warmup), [5, 100, 100, 200]);
/// ```
pub fn default_warmup(steps: u64) -> u64 {
    steps.div_ceil(100).max((steps / 10).min(100))
}

/// How the rate goes on after its warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decay {
    /// It stays.
    Constant,
    /// It falls along half a cosine to the floor (Loshchilov and Hutter, "SGDR", ICLR 2017, without restarts).
    Cosine,
    /// It stays, and falls linearly to the floor over the last part of the steps (Hu et al., "MiniCPM", 2024).
    WarmupStableDecay {
        /// The last part, as a share of all steps from 0 to 1; usually [`DEFAULT_DECAY_SHARE`].
        share: f64,
    },
}

/// The learning rate of each step of a run.
///
/// Steps count from 1 to `steps`. The rate rises linearly, `learning_rate · step / warmup`, so that step `warmup` is the
/// first with all of it. Then it follows [`Decay`] and would reach `min_learning_rate` at step `steps + 1`, the first
/// that is not taken: no step is wasted on a rate of 0.
///
/// ```
/// use toedit::train::schedule::{Decay, Schedule};
/// let schedule = Schedule::new(Decay::Cosine, 1e-3, 1e-4, 10, 100)?;
/// assert_eq!(schedule.at(5), 5e-4);
/// assert_eq!(schedule.at(10), 1e-3);
/// assert!(schedule.at(100) < 1.01e-4);
/// assert_eq!(schedule.at(101), 1e-4);
/// # Ok::<(), toedit::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    decay: Decay,
    learning_rate: f64,
    min_learning_rate: f64,
    warmup: u64,
    steps: u64,
}

impl Schedule {
    /// A run of `steps` steps, `warmup` of which rise. [`Decay::Constant`] makes no use of the floor.
    ///
    /// # Errors
    /// [`Error::Usage`] unless 0 <= `min_learning_rate` <= `learning_rate` < ∞, `warmup` <= `steps`, and the share of a
    /// decay lies between 0 and 1.
    pub fn new(
        decay: Decay,
        learning_rate: f64,
        min_learning_rate: f64,
        warmup: u64,
        steps: u64,
    ) -> Result<Self> {
        if !(learning_rate.is_finite() && (0.0..=learning_rate).contains(&min_learning_rate)) {
            return Err(Error::Usage(format!(
                "learning rate {learning_rate} with a minimum of {min_learning_rate}: expected finite numbers, \
                 0 <= minimum <= learning rate"
            )));
        }
        if warmup > steps {
            return Err(Error::Usage(format!(
                "warm-up of {warmup} steps: expected at most the {steps} of the run"
            )));
        }
        if let Decay::WarmupStableDecay { share } = decay
            && !(0.0..=1.0).contains(&share)
        {
            return Err(Error::Usage(format!("decay over a share of {share}: expected 0 to 1 of the steps")));
        }
        Ok(Self { decay, learning_rate, min_learning_rate, warmup, steps })
    }

    /// Its highest rate.
    pub fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    /// The rate of `step`, from 1; the floor (or the constant) after the last, 0 for the state before the first where
    /// there is a warm-up.
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.learning_rate * step as f64 / self.warmup as f64;
        }
        let height = match self.decay {
            Decay::Constant => return self.learning_rate,
            Decay::Cosine => 0.5 * (1.0 + (PI * self.progress(step, self.warmup.max(1))).cos()),
            Decay::WarmupStableDecay { share } => {
                let decaying = (share * self.steps as f64).ceil() as u64;
                1.0 - self.progress(step, self.steps.saturating_sub(decaying).max(self.warmup))
            }
        };
        // Exact where the height is 0 or 1.
        self.min_learning_rate * (1.0 - height) + self.learning_rate * height
    }

    /// How far `step` is on the way from `first`, the last step of full rate, to the step after the last.
    fn progress(&self, step: u64, first: u64) -> f64 {
        let done = step.saturating_sub(first) as f64;
        (done / (self.steps + 1).saturating_sub(first).max(1) as f64).min(1.0)
    }
}
