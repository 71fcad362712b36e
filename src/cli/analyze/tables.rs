//! The tables beside the pictures, as comma-separated values.

use std::fmt::Write;

use super::{Ngrams, TOP};
use crate::analysis::{BUCKETS, Perplexities, TokenProbabilities};

/// A line for each bucket, a column of counts for each corpus.
pub fn buckets(corpora: &[(&str, &[u64])]) -> String {
    let names: Vec<_> = corpora.iter().map(|(name, _)| quoted(name)).collect();
    let mut csv = format!("bucket,{}\n", names.join(","));
    for bucket in 0..BUCKETS {
        let counts: Vec<_> = corpora.iter().map(|(_, counts)| counts[bucket].to_string()).collect();
        let _ = writeln!(csv, "{bucket},{}", counts.join(","));
    }
    csv
}

/// The most frequent bigrams.
pub fn bigrams(corpora: &[(&str, &Ngrams)]) -> String {
    let mut csv = "corpus,rank,bigram,count,share\n".to_owned();
    for (name, ngrams) in corpora {
        let all = ngrams.statistics.distinct(2).total.max(1) as f64;
        for (index, top) in ngrams.statistics.top_bigrams(TOP[1]).iter().enumerate() {
            let (name, bigram, share) = (quoted(name), quoted(&top.bigram), top.count as f64 / all);
            let _ = writeln!(csv, "{name},{},{bigram},{},{share}", index + 1, top.count);
        }
    }
    csv
}

/// Documents between perplexities, the last bin being open.
pub fn perplexities(corpora: &[(&str, &Perplexities)]) -> String {
    let mut csv = "corpus,low,high,documents,share\n".to_owned();
    for (name, perplexities) in corpora {
        let all = perplexities.documents().max(1) as f64;
        for (low, high, count) in perplexities.bins() {
            let _ = writeln!(csv, "{},{low},{high},{count},{}", quoted(name), count as f64 / all);
        }
    }
    csv
}

/// Tokens in both histograms of their probability.
pub fn probabilities(corpora: &[(&str, &TokenProbabilities)]) -> String {
    let mut csv = "corpus,bins,low,high,tokens,share\n".to_owned();
    for (name, tokens) in corpora {
        let all = tokens.scored().max(1) as f64;
        for bins in [tokens.bins(), tokens.fine_bins()] {
            let edge = |bin: usize| bin as f64 / bins.len() as f64;
            for (bin, count) in bins.iter().enumerate() {
                let (low, high, share) = (edge(bin), edge(bin + 1), *count as f64 / all);
                let _ = writeln!(csv, "{},{},{low},{high},{count},{share}", quoted(name), bins.len());
            }
        }
    }
    csv
}

/// A field that may hold commas, quotes and line ends.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}
