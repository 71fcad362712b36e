//! Perplexities of a corpus' documents.

use super::probabilities::Quantile;
use super::quantiles::Quantiles;

/// Bins of the histogram to a doubling of the perplexity.
const BINS_PER_DOUBLING: usize = 4;
/// Doublings that have bins, from 1 on; what is beyond goes to the last one.
const DOUBLINGS: usize = 20;
/// Shares of the documents whose quantiles are given.
const SHARES: [f64; 9] = [0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99];

/// Sums over the documents of a corpus. The memory that it takes does not grow.
#[derive(Clone, Debug)]
pub struct Perplexities {
    bins: Vec<u64>,
    documents: u64,
    unscored: u64,
    /// Σ log perplexity.
    logs: f64,
    quantiles: Quantiles,
}

impl Default for Perplexities {
    fn default() -> Self {
        let (bins, quantiles) = (vec![0; BINS_PER_DOUBLING * DOUBLINGS], Quantiles::default());
        Self { bins, documents: 0, unscored: 0, logs: 0.0, quantiles }
    }
}

impl Perplexities {
    /// Counts a document, which has no perplexity where nothing of it is scored.
    pub fn add(&mut self, perplexity: Option<f64>) {
        let Some(perplexity) = perplexity else {
            self.unscored += 1;
            return;
        };
        let bin = (perplexity.max(1.0).log2() * BINS_PER_DOUBLING as f64) as usize;
        let last = self.bins.len() - 1;
        self.bins[bin.min(last)] += 1;
        self.documents += 1;
        self.logs += perplexity.ln();
        self.quantiles.add(perplexity as f32);
    }

    /// Documents with a perplexity.
    pub fn documents(&self) -> u64 {
        self.documents
    }

    /// Documents without one.
    pub fn unscored(&self) -> u64 {
        self.unscored
    }

    /// The geometric mean, each document having equal weight; none without documents.
    pub fn geometric_mean(&self) -> Option<f64> {
        (self.documents > 0).then(|| (self.logs / self.documents as f64).exp())
    }

    /// Perplexities that given shares of the documents do not exceed; none without documents.
    pub fn quantiles(&self) -> Vec<Quantile> {
        let quantile = |share| Some(Quantile { share, value: self.quantiles.quantile(share)? });
        SHARES.into_iter().filter_map(quantile).collect()
    }

    /// Documents between perplexities that grow by a factor of 2^¼ from 1 on, as (low, high, documents); the last bin has all
    /// beyond too.
    pub fn bins(&self) -> impl Iterator<Item = (f64, f64, u64)> {
        let edge = |bin: usize| (bin as f64 / BINS_PER_DOUBLING as f64).exp2();
        self.bins.iter().enumerate().map(move |(bin, count)| (edge(bin), edge(bin + 1), *count))
    }
}
