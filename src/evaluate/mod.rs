//! Evaluation: how likely a model finds texts that go on from others, and figures with their standard errors.
//!
//! Continuations of one context share what they begin with: on the CPU that is read once, and each goes on from the keys
//! and values that are there. The bits are those of reading every continuation from its start.

mod forked;
mod mean;

use std::iter::zip;
use std::ops::Range;
use std::slice;

pub use mean::Mean;

use crate::device::Device;
use crate::model::Model;
use crate::score::{Engine, Scope, ScoreConfig, Sequence, Statistics, WindowConfig, unknown_id};
use crate::{Error, Result};

/// A text that goes on from another.
#[derive(Clone, Copy, Debug)]
pub struct Continuation<'a> {
    /// The tokens of both, up to one more than the model reads at once: the last one is predicted only.
    pub ids: &'a [u32],
    /// How many of them, from the first on, are not scored. With none, the first token is not scored either: there is
    /// nothing before it.
    pub given: usize,
}

/// How likely a model finds a continuation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Likelihood {
    /// Σ ln p over the scored tokens, in nats.
    pub log: f64,
    /// Whether each of them is the most likely token in its place, ties aside.
    pub is_greedy: bool,
}

/// Scores continuations with a model.
///
/// ```
/// use toedit::evaluate::{Continuation, Evaluator};
/// use toedit::{Dtype, Model, ScoreConfig};
/// let model = Model::load("assets/tiny", Dtype::F32)?;
/// let evaluator = Evaluator::new(&model, ScoreConfig::new(&model)?)?;
/// let choices: [&[u32]; 2] = [&[5, 6, 7, 8], &[5, 6, 7, 9, 10]];
/// let item: Vec<_> = choices.iter().map(|ids| Continuation { ids, given: 3 }).collect();
/// let likelihoods = evaluator.score(&[item])?;
/// assert_eq!(likelihoods[0].len(), 2);
/// assert!(likelihoods[0].iter().all(|likelihood| likelihood.log <= 0.0));
/// # Ok::<(), toedit::Error>(())
/// ```
pub struct Evaluator<'m> {
    model: &'m Model,
    engine: Engine<'m>,
    max_length: usize,
}

/// A continuation with the index of its item.
#[derive(Clone, Copy)]
struct Tagged<'a> {
    item: usize,
    one: Continuation<'a>,
}

impl Continuation<'_> {
    /// The first scored token's place.
    fn first(&self) -> usize {
        self.given.max(1)
    }
}

impl Default for Likelihood {
    /// Of nothing.
    fn default() -> Self {
        Self { log: 0.0, is_greedy: true }
    }
}

impl Likelihood {
    fn push(&mut self, statistics: &Statistics) {
        self.log += f64::from(statistics.log_probability());
        self.is_greedy &= statistics.target >= statistics.max;
    }
}

impl<'m> Evaluator<'m> {
    /// Prepares to evaluate `model`, which reads up to the windows' length at once; otherwise windows play no part.
    ///
    /// # Errors
    /// [`Error::Usage`] for windows longer than the model's positions.
    pub fn new(model: &'m Model, config: ScoreConfig) -> Result<Self> {
        config.validate(model.config())?;
        let max_length = config.windows.max_length();
        // A window's last token is only predicted.
        let windows = WindowConfig::new(max_length + 1, 1)?;
        let config = ScoreConfig { windows, entropy: false, rank: false, top_k: 0, ..config };
        Ok(Self { model, engine: Engine::new(model, config), max_length })
    }

    /// Scores the continuations of each item, in order. The results do not depend on which items share a call.
    ///
    /// # Errors
    /// [`Error::Document`], with the item's index, for a continuation without a token of its own, or longer than the model
    /// reads at once, an id outside the vocabulary, or logits that are not finite; [`Error::Stopped`].
    pub fn score(&self, items: &[Vec<Continuation>]) -> Result<Vec<Vec<Likelihood>>> {
        self.check(items)?;
        let tagged = items.iter().enumerate().flat_map(|(item, all)| all.iter().map(move |one| (item, one)));
        let all: Vec<Tagged> = tagged.map(|(item, one)| Tagged { item, one: *one }).collect();
        let shares =
            self.model.device() == Device::Cpu && all.windows(2).any(|pair| pair[0].item == pair[1].item);
        let scored = if shares { self.score_forked(&all) } else { self.score_whole(&all) };
        let mut scored = scored.map_err(|error| of_item(error, &all))?.into_iter();
        Ok(items.iter().map(|item| scored.by_ref().take(item.len()).collect()).collect())
    }

    fn check(&self, items: &[Vec<Continuation>]) -> Result<()> {
        let most = self.max_length + 1;
        for (index, item) in items.iter().enumerate() {
            for Continuation { ids, given } in item {
                let len = ids.len();
                let reason = if len > most {
                    format!("{len} tokens: at most {most} fit, the last of which is only predicted")
                } else if *given >= len {
                    format!("{len} tokens, of which {given} are given: none is left to be scored")
                } else if let Some(reason) = unknown_id(ids, self.engine.vocabulary()) {
                    reason
                } else {
                    continue;
                };
                return Err(Error::Document { index, reason });
            }
        }
        Ok(())
    }

    /// Every continuation from its start.
    fn score_whole(&self, all: &[Tagged]) -> Result<Vec<Likelihood>> {
        let runs: Vec<Range<usize>> =
            all.iter().map(|Tagged { one, .. }| one.first()..one.ids.len()).collect();
        let sequences: Vec<_> = zip(all, &runs)
            .map(|(tagged, run)| {
                let scope = Scope::Within(slice::from_ref(run));
                Sequence { context: &[], ids: tagged.one.ids, scope }
            })
            .collect();
        let mut likelihoods = vec![Likelihood::default(); all.len()];
        self.engine.run(&sequences, None, |batch| {
            zip(batch.origins, batch.scored)
                .for_each(|(origin, scored)| likelihoods[origin.document].push(&scored.statistics));
            Ok(())
        })?;
        Ok(likelihoods)
    }
}

/// An error about a continuation is one about its item.
fn of_item(error: Error, all: &[Tagged]) -> Error {
    match error {
        Error::Document { index, reason } => Error::Document { index: all[index].item, reason },
        other => other,
    }
}
