//! Draws the next token of a text from one row of raw logits.
//!
//! The cuts and their order are those of transformers' logits processors: the repetition penalty, the temperature, then
//! top-k, top-p and min-p, each on what the one before left. Of equal logits the lower id is the better one, so that top-k
//! leaves k tokens and no more. Weights are w_v = e^{(l_v − m)/T} with the largest logit m; one draw by inverse CDF.

#[cfg(kernels)]
mod device;

#[cfg(kernels)]
pub use device::Sampler;

use super::draw::{Candidate, exponentiate, largest, pick};
use super::head::TILE;
use super::math;
use super::simd::vectorize;
use crate::random::Uniform;
use crate::{Error, Result};

/// How the next token is chosen. The default draws from the model's own distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the most likely token.
    pub temperature: f64,
    /// Only the k most likely tokens; 0 for all.
    pub top_k: usize,
    /// Only the smallest set of most likely tokens with at least this mass, above 0; 1 for all.
    pub top_p: f64,
    /// Only tokens with at least this share of the most likely one's probability; 0 for all.
    pub min_p: f64,
    /// Divides positive logits of tokens that the text has already, and multiplies negative ones; 1 for none.
    pub repetition_penalty: f64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0 }
    }
}

impl Sampling {
    /// Always the most likely token.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }

    /// Whether a text depends on random numbers.
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the value that is out of its range.
    pub fn validate(&self) -> Result<()> {
        let Self { temperature, top_p, min_p, repetition_penalty, .. } = *self;
        let checks = [
            ("temperature", temperature, temperature >= 0.0 && temperature.is_finite(), "0 or more"),
            ("top-p", top_p, top_p > 0.0 && top_p <= 1.0, "above 0, at most 1"),
            ("min-p", min_p, (0.0..=1.0).contains(&min_p), "from 0 to 1"),
            (
                "repetition penalty",
                repetition_penalty,
                repetition_penalty > 0.0 && repetition_penalty.is_finite(),
                "above 0",
            ),
        ];
        match checks.into_iter().find(|(.., holds, _)| !holds) {
            None => Ok(()),
            Some((name, value, _, expected)) => {
                Err(Error::Usage(format!("{name} {value}: expected a number {expected}")))
            }
        }
    }
}

/// The tokens that a text has already.
#[derive(Clone, Debug)]
pub struct Seen {
    words: Vec<u64>,
}

impl Seen {
    /// None of `vocabulary` ids.
    pub fn new(vocabulary: usize) -> Self {
        Self { words: vec![0; vocabulary.div_ceil(64)] }
    }

    /// Adds a token; one outside the vocabulary is never drawn anyway.
    pub fn insert(&mut self, id: u32) {
        if let Some(word) = self.words.get_mut(id as usize / 64) {
            *word |= 1 << (id % 64);
        }
    }

    /// The tokens, ascending.
    pub fn ids(&self) -> impl Iterator<Item = u32> {
        let of_word = |(index, word): (usize, &u64)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros())?;
                left &= left - 1;
                Some(64 * index as u32 + bit)
            })
        };
        self.words.iter().enumerate().flat_map(of_word)
    }
}

/// Applies the repetition penalty to the logits of tokens that were seen.
pub fn penalise(logits: &mut [f32], seen: &Seen, penalty: f64) {
    let penalty = penalty as f32;
    for id in seen.ids() {
        if let Some(logit) = logits.get_mut(id as usize) {
            *logit = if *logit < 0.0 { *logit * penalty } else { *logit / penalty };
        }
    }
}

/// Chooses a token by its logit; the repetition penalty is applied before. None where a logit is not finite.
///
/// The whole vocabulary is drawn from in two steps, a tile of 256 ids by the first random number and one of its ids by the
/// second; otherwise the first number draws among the candidates, the most likely first.
///
/// ```
/// use toedit::ops::sample::{Sampling, sample};
/// use toedit::random::Uniform;
/// let random = Uniform { first: 0.99, second: 0.5 };
/// assert_eq!(sample(&Sampling::greedy(), &[1.0, 3.0, 3.0], random), Some(1));
/// let two = Sampling { top_k: 2, ..Sampling::default() };
/// assert_eq!(sample(&two, &[1.0, 3.0, 3.0], random), Some(2));
/// ```
pub fn sample(sampling: &Sampling, logits: &[f32], random: Uniform) -> Option<u32> {
    let Sampling { temperature, top_k, top_p, min_p, .. } = *sampling;
    let (max, masses) = weigh(logits, temperature)?;
    if sampling.is_greedy() || top_k == 1 {
        return logits.iter().position(|logit| *logit == max).map(|id| id as u32);
    }
    let candidates = match (top_k, top_p < 1.0, min_p > 0.0) {
        (0, false, false) => return Some(draw_tiled(logits, max, &masses, temperature, random)),
        (0, true, _) => nucleus(logits, max, masses.iter().sum::<f64>() * top_p, temperature),
        (0, false, true) => {
            let least = f64::from(max) + temperature * min_p.ln();
            largest(logits, logits.iter().filter(|logit| f64::from(**logit) >= least).count().max(1))
        }
        (k, ..) => largest(logits, k),
    };
    let mut weights: Vec<f64> = candidates.iter().map(|candidate| f64::from(candidate.logit)).collect();
    exponentiate(&mut weights, temperature);
    if top_k > 0 && top_p < 1.0 {
        weights.truncate(prefix(&weights, weights.iter().sum::<f64>() * top_p));
    }
    // The best candidate has weight 1, and weights descend.
    weights.truncate(weights.partition_point(|weight| *weight >= min_p).max(1));
    pick(&weights, random.first).map(|index| candidates[index].id)
}

/// The largest logit m, and Σ e^{(l − m)/T} of each tile. None where a logit is not finite, or there is none.
fn weigh(logits: &[f32], temperature: f64) -> Option<(f32, Vec<f64>)> {
    let (max, zero) = vectorize(
        #[inline(always)]
        || (math::max(logits), math::sum(logits, |l| l * 0.0)),
    );
    if !max.is_finite() || zero != 0.0 {
        return None;
    }
    if temperature == 0.0 {
        return Some((max, Vec::new()));
    }
    // A reciprocal that overflowed would turn a difference of 0 into NaN.
    let inverse = (temperature.recip() as f32).min(f32::MAX);
    let mut masses = Vec::with_capacity(logits.len().div_ceil(TILE));
    vectorize(
        #[inline(always)]
        || {
            for tile in logits.chunks(TILE) {
                masses.push(f64::from(math::sum(tile, |l| math::exp((l - max) * inverse))));
            }
        },
    );
    Some((max, masses))
}

/// A tile by its mass, then one of its ids.
fn draw_tiled(logits: &[f32], max: f32, masses: &[f64], temperature: f64, random: Uniform) -> u32 {
    let tile = pick(masses, random.first).expect("the tile of the largest logit has a mass");
    let weight = |logit: &f32| ((f64::from(*logit) - f64::from(max)) / temperature).exp();
    let weights: Vec<f64> = logits[tile * TILE..].iter().take(TILE).map(weight).collect();
    (tile * TILE + pick(&weights, random.second).unwrap_or(0)) as u32
}

/// The most likely tokens up to a mass, in units of the largest weight.
fn nucleus(logits: &[f32], max: f32, mass: f64, temperature: f64) -> Vec<Candidate> {
    // Where a token is likely the prefix is short; a long one is found in few steps.
    let mut k = 16;
    loop {
        let mut best = largest(logits, k);
        let weight = |candidate: &Candidate| (f64::from(candidate.logit) - f64::from(max)) / temperature;
        let weights: Vec<f64> = best.iter().map(|candidate| weight(candidate).exp()).collect();
        let length = prefix(&weights, mass);
        if length < best.len() || best.len() == logits.len() || weights.iter().sum::<f64>() >= mass {
            best.truncate(length);
            return best;
        }
        k *= 4;
    }
}

/// The length of the smallest prefix of descending weights that has the mass; never 0, all of them where none has.
fn prefix(weights: &[f64], mass: f64) -> usize {
    let mut sum = 0.0;
    let last = weights.iter().position(|weight| {
        sum += weight;
        sum >= mass
    });
    last.map_or(weights.len(), |last| last + 1)
}
