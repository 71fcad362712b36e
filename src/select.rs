//! Choosing documents: by importance weights (DSIR), or by perplexity.
//!
//! DSIR (Xie et al., "Data selection for language models via importance resampling", 2023) makes a corpus' n-grams look like
//! those of a target corpus. A document's weight is Σ counts·(ln(p_target + 1e-8) − ln(p_raw + 1e-8)) over the buckets of its
//! n-grams, and documents are drawn without replacement with probabilities in proportion to e^weight: the largest sums of
//! weight and Gumbel noise are taken.
//!
//! ```
//! use toedit::analysis::{NgramStatistics, bucket_sums};
//! use toedit::select::{gumbel_top, log_ratios};
//!
//! let buckets = |texts: &[&str]| {
//!     let mut statistics = NgramStatistics::default();
//!     statistics.add(NgramStatistics::count(texts.iter().copied()));
//!     statistics.buckets().to_vec()
//! };
//! let raw = ["buy now cheap", "the cell divides", "cheap cheap offer"];
//! let ratios = log_ratios(&buckets(&["a cell is alive", "the cell wall"]), &buckets(&raw));
//! let weights = bucket_sums(raw.into_iter(), &ratios);
//! assert_eq!(gumbel_top(&weights, 1, 0), [false, true, false]);
//! ```

use crate::analysis::{SMOOTHING, distribution};
use crate::random::{Purpose, Stream};

/// ln(p_target + ε) − ln(p_raw + ε) for each bucket, from counts of n-grams; ε is [`SMOOTHING`].
pub fn log_ratios(target: &[u64], raw: &[u64]) -> Vec<f64> {
    let ratio = |(target, raw): (&f64, &f64)| (target + SMOOTHING).ln() - (raw + SMOOTHING).ln();
    distribution(target).iter().zip(&distribution(raw)).map(ratio).collect()
}

/// Draws `count` documents without replacement, or all if there are no more, with probabilities in proportion to e^weight:
/// those with the largest weight − ln(−ln u), u being a uniform number of 52 bits that belongs to `seed` and the document's
/// number. Equal ones by their order.
pub fn gumbel_top(weights: &[f64], count: usize, seed: u64) -> Vec<bool> {
    let noisy = |(number, weight): (usize, &f64)| weight + gumbel(seed, number as u64);
    largest(&weights.iter().enumerate().map(noisy).collect::<Vec<_>>(), count)
}

/// −ln(−ln u) for the document of this number.
fn gumbel(seed: u64, number: u64) -> f64 {
    let stream = Stream::new(seed, number, Purpose::Select, 0).expect("a generation that there is room for");
    let [high, low, ..] = stream.block(0, 0);
    let bits = (u64::from(high) << 32 | u64::from(low)) >> 12;
    let uniform = (bits as f64 + 0.5) / (1u64 << 52) as f64;
    -(-uniform.ln()).ln()
}

/// Whether each key is one of the `count` largest.
fn largest(keys: &[f64], count: usize) -> Vec<bool> {
    let mut order: Vec<usize> = (0..keys.len()).collect();
    if count < order.len() {
        order.select_nth_unstable_by(count, |&a, &b| keys[b].total_cmp(&keys[a]).then(a.cmp(&b)));
        order.truncate(count);
    }
    let mut is_chosen = vec![false; keys.len()];
    order.into_iter().for_each(|number| is_chosen[number] = true);
    is_chosen
}

/// Which perplexities are wanted; both ends are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PerplexityRange {
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl PerplexityRange {
    /// From one quantile of the documents that have a perplexity to another: of n values in order, from the one numbered
    /// ⌈low·n⌉ to the one numbered ⌈high·n⌉, the first having 1. None where there are none.
    ///
    /// ```
    /// use toedit::select::PerplexityRange;
    /// let perplexities = [Some(9.0), None, Some(2.0), Some(5.0), Some(30.0)];
    /// let range = PerplexityRange::between(&perplexities, [0.0, 0.5]).unwrap();
    /// assert_eq!((range.min, range.max), (2.0, 5.0));
    /// ```
    pub fn between(perplexities: &[Option<f64>], [low, high]: [f64; 2]) -> Option<Self> {
        let mut sorted: Vec<f64> = perplexities.iter().copied().flatten().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| sorted.get(((share * sorted.len() as f64).ceil() as usize).max(1) - 1).copied();
        Some(Self { min: at(low)?, max: at(high)? })
    }

    /// Whether a document is wanted; one without a perplexity is not.
    pub fn contains(&self, perplexity: Option<f64>) -> bool {
        perplexity.is_some_and(|perplexity| (self.min..=self.max).contains(&perplexity))
    }
}
