//! Importance weights against an independent computation; draws as likely as they should be.

use std::collections::HashMap;

use proptest::prelude::*;
use toedit::analysis::{NgramStatistics, bucket_sums};
use toedit::select::{PerplexityRange, gumbel_top, log_ratios};

use crate::{numbers, reference, texts};

#[test]
fn weights_are_those_of_an_independent_computation() {
    let reference = reference();
    let [raw, target] = ["raw", "target"].map(|name| texts(&reference, name));
    let buckets = |texts: &[String]| {
        let mut statistics = NgramStatistics::default();
        statistics.add(NgramStatistics::count(texts.iter().map(String::as_str)));
        statistics.buckets().to_vec()
    };
    let ratios = log_ratios(&buckets(&target), &buckets(&raw));
    let expected = numbers(&reference["weights"]);
    for size in [1, 7, raw.len()] {
        let weights: Vec<f64> =
            raw.chunks(size).flat_map(|part| bucket_sums(part.iter().map(String::as_str), &ratios)).collect();
        assert_eq!(weights.len(), expected.len());
        for (found, expected) in weights.iter().zip(&expected) {
            assert!((found - expected).abs() <= 1e-9 * expected.abs(), "{found} {expected}");
        }
    }
}

/// Two of four documents without replacement: the first with probability wᵢ, the second wⱼ/(1 − wᵢ) (Plackett and Luce). χ²
/// over 6 pairs: 5 degrees of freedom, p = 1e-6 at 36.
#[test]
fn draws_without_replacement_have_their_probabilities() {
    let shares = [0.4f64, 0.3, 0.2, 0.1];
    let weights = shares.map(|share| share.ln() + 700.0);
    let mut counts = HashMap::new();
    let draws = 40_000;
    for seed in 0..draws {
        *counts.entry(gumbel_top(&weights, 2, seed)).or_insert(0u32) += 1;
    }
    let mut chi = 0.0;
    for i in 0..4 {
        for j in 0..i {
            let (a, b) = (shares[i], shares[j]);
            let expected = draws as f64 * a * b * (1.0 / (1.0 - a) + 1.0 / (1.0 - b));
            let chosen: Vec<bool> = (0..4).map(|document| document == i || document == j).collect();
            chi += (f64::from(counts[&chosen]) - expected).powi(2) / expected;
        }
    }
    assert!(chi < 36.0, "{chi}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn as_many_as_asked_for_and_more_are_more_of_the_same(
        weights in prop::collection::vec(-1e4f64..1e4, 0..50), count in 0usize..60, seed: u64,
    ) {
        let chosen = gumbel_top(&weights, count, seed);
        prop_assert_eq!(chosen.iter().filter(|is_chosen| **is_chosen).count(), count.min(weights.len()));
        let more = gumbel_top(&weights, count + 1, seed);
        prop_assert!(chosen.iter().zip(&more).all(|(few, many)| !few || *many));
        prop_assert_eq!(gumbel_top(&weights, count, seed), chosen);
    }

    #[test]
    fn quantiles_keep_their_share(values in prop::collection::vec(1.0f64..100.0, 1..60), low in 0.0..0.5, high in 0.5..1.0) {
        let perplexities: Vec<Option<f64>> = values.iter().copied().map(Some).chain([None]).collect();
        let range = PerplexityRange::between(&perplexities, [low, high]).unwrap();
        let kept = perplexities.iter().filter(|perplexity| range.contains(**perplexity)).count() as f64;
        prop_assert!((kept - (high - low) * values.len() as f64).abs() <= 2.0, "{kept}");
    }
}

#[test]
fn documents_without_a_perplexity_are_not_wanted() {
    assert_eq!(PerplexityRange::between(&[None], [0.0, 1.0]), None);
    let range = PerplexityRange { min: 2.0, max: 3.0 };
    assert_eq!(
        [Some(2.0), Some(3.0), Some(1.9), None].map(|value| range.contains(value)),
        [true, true, false, false]
    );
}
