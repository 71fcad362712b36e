//! How probable a model found the tokens of a corpus.

use serde::Serialize;

use super::quantiles::Quantiles;

/// Bins of the coarse histogram, each 0.1 wide.
pub const BINS: usize = 10;
/// Bins of the fine histogram.
pub const FINE_BINS: usize = 300;

/// Probabilities from which on tokens are counted.
const ABOVE: [f64; 6] = [0.9, 0.95, 0.99, 0.995, 0.999, 0.9999];
/// Probabilities up to which tokens are counted.
const BELOW: [f64; 3] = [0.1, 0.01, 0.001];
/// Shares of the tokens whose quantiles are given.
const SHARES: [f64; 11] = [0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];

/// Sums over the tokens of a corpus. The memory that it takes does not grow.
#[derive(Clone, Debug)]
pub struct TokenProbabilities {
    bins: Vec<u64>,
    fine_bins: Vec<u64>,
    above: [u64; ABOVE.len()],
    below: [u64; BELOW.len()],
    scored: u64,
    sum: f64,
    nll: f64,
    quantiles: Quantiles,
}

/// Tokens on one side of a threshold.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Threshold {
    /// As in `p>=0.99`.
    pub condition: String,
    /// How many tokens meet it.
    pub count: u64,
    /// Their share of all scored tokens.
    pub share: f64,
}

/// The probability that a share of the tokens does not exceed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quantile {
    /// Of the tokens, or documents.
    pub share: f64,
    /// Known to 2⁻¹² of −log p, or of a perplexity.
    pub value: f64,
}

impl Default for TokenProbabilities {
    fn default() -> Self {
        Self {
            bins: vec![0; BINS],
            fine_bins: vec![0; FINE_BINS],
            above: [0; ABOVE.len()],
            below: [0; BELOW.len()],
            scored: 0,
            sum: 0.0,
            nll: 0.0,
            quantiles: Quantiles::default(),
        }
    }
}

impl TokenProbabilities {
    /// Counts a token's log p, which is finite and at most 0.
    pub fn add(&mut self, logprob: f32) {
        let p = f64::from(logprob).exp();
        for bins in [&mut self.bins, &mut self.fine_bins] {
            // A bin holds its lower end, the last one both.
            let bin = (p * bins.len() as f64) as usize;
            let last = bins.len() - 1;
            bins[bin.min(last)] += 1;
        }
        self.above.iter_mut().zip(ABOVE).for_each(|(count, threshold)| *count += u64::from(p >= threshold));
        self.below.iter_mut().zip(BELOW).for_each(|(count, threshold)| *count += u64::from(p <= threshold));
        self.scored += 1;
        self.sum += p;
        self.nll -= f64::from(logprob);
        self.quantiles.add(-logprob);
    }

    /// Tokens counted.
    pub fn scored(&self) -> u64 {
        self.scored
    }

    /// Tokens in each of [`BINS`].
    pub fn bins(&self) -> &[u64] {
        &self.bins
    }

    /// Tokens in each of [`FINE_BINS`].
    pub fn fine_bins(&self) -> &[u64] {
        &self.fine_bins
    }

    /// The mean of p; none without tokens.
    pub fn mean(&self) -> Option<f64> {
        (self.scored > 0).then(|| self.sum / self.scored as f64)
    }

    /// e^(−mean log p); none without tokens.
    pub fn perplexity(&self) -> Option<f64> {
        (self.scored > 0).then(|| (self.nll / self.scored as f64).exp())
    }

    /// Tokens on the far side of each threshold.
    pub fn thresholds(&self) -> Vec<Threshold> {
        let all = self.scored.max(1) as f64;
        let threshold = |sign: &str, limit: f64, count: u64| Threshold {
            condition: format!("p{sign}{limit}"),
            count,
            share: count as f64 / all,
        };
        let below = BELOW.iter().zip(self.below).map(|(limit, count)| threshold("<=", *limit, count));
        below
            .chain(ABOVE.iter().zip(self.above).map(|(limit, count)| threshold(">=", *limit, count)))
            .collect()
    }

    /// Probabilities that given shares of the tokens do not exceed; none without tokens.
    pub fn quantiles(&self) -> Vec<Quantile> {
        // Small probabilities are large numbers there.
        let quantile =
            |share| Some(Quantile { share, value: (-self.quantiles.reverse_quantile(share)?).exp() });
        SHARES.into_iter().filter_map(quantile).collect()
    }
}
