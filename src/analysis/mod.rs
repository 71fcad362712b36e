//! What a corpus is like: how sure a model was of its tokens, and how its n-grams are spread.
//!
//! [`NgramStatistics`] counts hashed n-grams as DSIR defines them, and what two corpora's distributions have in common is
//! measured by [`kl_divergence`], [`js_divergence`], [`entropy`] and [`gini`]; [`TokenProbabilities`] and
//! [`Perplexities`] sum up what `toedit score` wrote.
//!
//! ```
//! use toedit::analysis::{NgramStatistics, distribution, js_divergence};
//!
//! let of = |text: &str| {
//!     let mut statistics = NgramStatistics::default();
//!     statistics.add(NgramStatistics::count([text].into_iter()));
//!     statistics
//! };
//! let (human, repetitive) = (of("The cat sat on the mat."), of("the cat the cat the cat"));
//! assert_eq!(repetitive.distinct(2).count, 2);
//! assert_eq!(repetitive.top_bigrams(1)[0].bigram, "the cat");
//! let (p, q) = (distribution(human.buckets()), distribution(repetitive.buckets()));
//! assert!(js_divergence(&p, &q) > 0.1);
//! ```

mod distinct;
mod divergence;
mod features;
mod frequent;
mod ngrams;
mod perplexities;
#[cfg(feature = "cli")]
pub mod plot;
mod probabilities;
mod quantiles;
mod words;

pub use divergence::{
    SMOOTHING, distribution, entropy, gini, js_divergence, kl_divergence, smoothed_kl_divergence,
};
pub use features::{BUCKETS, LONGEST, bucket};
pub use ngrams::{Bigram, DistinctCount, NgramStatistics, UnitCounts, bucket_sums};
pub use perplexities::Perplexities;
pub use probabilities::{BINS, FINE_BINS, Quantile, Threshold, TokenProbabilities};
pub use words::words;
