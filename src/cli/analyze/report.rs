//! `analysis.json`, and the line that is printed.

use std::fmt::Write;

use serde::Serialize;

use super::{Corpus, Ngrams, Scores, TOP, counted};
use crate::analysis::{
    Bigram, DistinctCount, LONGEST, Quantile, Threshold, TokenProbabilities, distribution, entropy, gini,
    js_divergence, kl_divergence, smoothed_kl_divergence,
};

/// All of it.
#[derive(Serialize)]
pub struct Report<'a> {
    command: &'static str,
    version: &'static str,
    corpora: Vec<CorpusReport<'a>>,
    /// Of the buckets of both; null where there is one.
    divergences: Option<Divergences>,
    seconds: f64,
}

/// A corpus.
#[derive(Serialize)]
struct CorpusReport<'a> {
    name: &'a str,
    ngrams: Option<NgramReport<'a>>,
    scores: Option<ScoreReport<'a>>,
}

/// Its n-grams.
#[derive(Serialize)]
struct NgramReport<'a> {
    inputs: &'a [String],
    documents: u64,
    text_bytes: u64,
    distinct: [DistinctCount; LONGEST],
    /// Unigrams and bigrams that were hashed.
    hashed: u64,
    filled_buckets: usize,
    /// Of the distribution over buckets, in nats.
    entropy: f64,
    /// e^entropy: how many equally full buckets would have it.
    effective_buckets: f64,
    gini: f64,
    /// How much too low the bigrams' counts may be.
    bigram_error: u64,
    top_bigrams: Vec<Bigram>,
}

/// What a model made of it.
#[derive(Serialize)]
struct ScoreReport<'a> {
    inputs: &'a [String],
    documents: u64,
    /// Those without a scored token.
    unscored_documents: u64,
    scored: u64,
    /// e^(mean −log p over all scored tokens).
    perplexity: Option<f64>,
    /// Each document having equal weight.
    geometric_mean_perplexity: Option<f64>,
    perplexity_quantiles: Vec<Quantile>,
    tokens: Option<TokenReport<'a>>,
}

/// The probabilities of its tokens.
#[derive(Serialize)]
struct TokenReport<'a> {
    mean: Option<f64>,
    quantiles: Vec<Quantile>,
    thresholds: Vec<Threshold>,
    bins: &'a [u64],
    fine_bins: &'a [u64],
}

/// How far two distributions over buckets are apart, in nats; the first corpus' is p, the second's q.
#[derive(Serialize)]
struct Divergences {
    /// KL(p ‖ q); null where it is infinite, q leaving a bucket empty that p does not.
    kl: Option<f64>,
    /// KL(q ‖ p).
    reverse_kl: Option<f64>,
    /// With 1e-8 added to every probability, as DSIR does.
    smoothed_kl: f64,
    reverse_smoothed_kl: f64,
    js: f64,
}

impl<'a> Report<'a> {
    pub fn new(corpora: &'a [Corpus], seconds: f64) -> Self {
        let report = |corpus: &'a Corpus| CorpusReport {
            name: corpus.name,
            ngrams: corpus.ngrams.as_ref().map(NgramReport::new),
            scores: corpus.scores.as_ref().map(ScoreReport::new),
        };
        let buckets: Vec<_> =
            corpora.iter().filter_map(|corpus| Some(corpus.ngrams.as_ref()?.statistics.buckets())).collect();
        let divergences = match buckets[..] {
            [p, q] => Some(Divergences::new(&distribution(p), &distribution(q))),
            _ => None,
        };
        let (command, version) = ("analyze", env!("CARGO_PKG_VERSION"));
        Self { command, version, corpora: corpora.iter().map(report).collect(), divergences, seconds }
    }

    /// A line for each corpus, and one for what sets them apart.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for CorpusReport { name, ngrams, scores } in &self.corpora {
            let _ = write!(text, "{name}:");
            if let Some(ngrams) = ngrams {
                let documents = counted(ngrams.documents, "document");
                let [words, distinct] = [ngrams.distinct[0].total, ngrams.distinct[1].count];
                let _ = write!(text, " {documents}, {words} words, {distinct} different bigrams, ");
                let _ = write!(text, "entropy {:.4}, Gini {:.4}", ngrams.entropy, ngrams.gini);
            }
            if let Some(ScoreReport { scored, perplexity: Some(perplexity), .. }) = scores {
                let comma = if ngrams.is_some() { "," } else { "" };
                let _ = write!(text, "{comma} {scored} tokens scored, perplexity {perplexity:.4}");
            }
            text.push('\n');
        }
        if let Some(Divergences { smoothed_kl, js, .. }) = &self.divergences {
            let _ = write!(text, "KL {smoothed_kl:.4}, Jensen-Shannon {js:.4} nats");
        }
        text.trim_end().to_owned()
    }
}

impl<'a> NgramReport<'a> {
    fn new(ngrams: &'a Ngrams) -> Self {
        let statistics = &ngrams.statistics;
        let shares = distribution(statistics.buckets());
        let entropy = entropy(&shares);
        Self {
            inputs: &ngrams.inputs,
            documents: ngrams.documents,
            text_bytes: ngrams.bytes,
            distinct: std::array::from_fn(|index| statistics.distinct(index + 1)),
            hashed: statistics.buckets().iter().sum(),
            filled_buckets: shares.iter().filter(|share| **share > 0.0).count(),
            entropy,
            effective_buckets: entropy.exp(),
            gini: gini(&shares),
            bigram_error: statistics.bigram_error(),
            top_bigrams: statistics.top_bigrams(TOP[1]),
        }
    }
}

impl<'a> ScoreReport<'a> {
    fn new(scores: &'a Scores) -> Self {
        Self {
            inputs: &scores.inputs,
            documents: scores.perplexities.documents() + scores.perplexities.unscored(),
            unscored_documents: scores.perplexities.unscored(),
            scored: scores.scored,
            perplexity: (scores.scored > 0).then(|| (scores.nll / scores.scored as f64).exp()),
            geometric_mean_perplexity: scores.perplexities.geometric_mean(),
            perplexity_quantiles: scores.perplexities.quantiles(),
            tokens: scores.tokens.as_ref().map(TokenReport::new),
        }
    }
}

impl<'a> TokenReport<'a> {
    fn new(tokens: &'a TokenProbabilities) -> Self {
        Self {
            mean: tokens.mean(),
            quantiles: tokens.quantiles(),
            thresholds: tokens.thresholds(),
            bins: tokens.bins(),
            fine_bins: tokens.fine_bins(),
        }
    }
}

impl Divergences {
    fn new(p: &[f64], q: &[f64]) -> Self {
        let finite = |divergence: f64| divergence.is_finite().then_some(divergence);
        Self {
            kl: finite(kl_divergence(p, q)),
            reverse_kl: finite(kl_divergence(q, p)),
            smoothed_kl: smoothed_kl_divergence(p, q),
            reverse_smoothed_kl: smoothed_kl_divergence(q, p),
            js: js_divergence(p, q),
        }
    }
}
