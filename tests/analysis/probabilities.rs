//! Sums over tokens and documents.

use toedit::analysis::{BINS, FINE_BINS, Perplexities, TokenProbabilities};

fn of(probabilities: &[f64]) -> TokenProbabilities {
    let mut sums = TokenProbabilities::default();
    probabilities.iter().for_each(|p| sums.add(p.ln() as f32));
    sums
}

#[test]
fn bins_hold_their_lower_end_and_the_last_one_both() {
    let sums = of(&[1.0, 0.9501, 0.95, 0.05, 0.049, 1e-30, 0.5001]);
    let mut expected = vec![0; BINS];
    (expected[0], expected[5], expected[9]) = (3, 1, 3);
    assert_eq!(sums.bins(), expected);
    assert_eq!(
        (sums.fine_bins().len(), sums.fine_bins()[FINE_BINS - 1], sums.fine_bins()[0]),
        (FINE_BINS, 1, 1)
    );
    assert_eq!(sums.fine_bins().iter().sum::<u64>(), 7);
    assert!((sums.mean().unwrap() - (1.0 + 0.9501 + 0.95 + 0.05 + 0.049 + 0.5001) / 7.0).abs() < 1e-6);
}

#[test]
fn thresholds_count_what_they_say() {
    // Well apart from the thresholds, where rounding decides.
    let sums = of(&[0.9901, 0.9899, 0.99999, 0.5, 0.0009, 0.0011, 0.09]);
    let counts: Vec<(String, u64)> =
        sums.thresholds().into_iter().map(|threshold| (threshold.condition, threshold.count)).collect();
    let expected = [
        ("p<=0.1", 3),
        ("p<=0.01", 2),
        ("p<=0.001", 1),
        ("p>=0.9", 3),
        ("p>=0.95", 3),
        ("p>=0.99", 2),
        ("p>=0.995", 1),
        ("p>=0.999", 1),
        ("p>=0.9999", 1),
    ];
    assert_eq!(counts, expected.map(|(name, count)| (name.to_owned(), count)));
    assert!((sums.thresholds()[5].share - 2.0 / 7.0).abs() < 1e-12);
}

#[test]
fn quantiles_of_an_even_spread() {
    let sums = of(&(1..=1000).map(|k| f64::from(k) / 1000.0).collect::<Vec<_>>());
    for quantile in sums.quantiles() {
        assert!((quantile.value - quantile.share).abs() < 1e-3, "{quantile:?}");
    }
    assert!((sums.perplexity().unwrap().ln() - 1.0).abs() < 0.01);
    let empty = TokenProbabilities::default();
    assert!(empty.quantiles().is_empty() && empty.mean().is_none() && empty.perplexity().is_none());
}

#[test]
fn perplexities_have_bins_that_double() {
    let mut sums = Perplexities::default();
    for perplexity in [Some(1.0), Some(2.0), Some(2.3), Some(8.0), Some(1e9), None] {
        sums.add(perplexity);
    }
    let filled: Vec<_> = sums.bins().filter(|(_, _, count)| *count > 0).collect();
    assert_eq!((sums.documents(), sums.unscored()), (5, 1));
    assert_eq!(filled.iter().map(|bin| bin.2).collect::<Vec<_>>(), [1, 2, 1, 1]);
    assert!(filled[1].0 == 2.0 && (filled[1].1 - 2f64.powf(1.25)).abs() < 1e-12 && filled[2].0 == 8.0);
    let mean = (2.0 * 2.3 * 8.0 * 1e9f64).powf(0.2);
    assert!((sums.geometric_mean().unwrap() / mean - 1.0).abs() < 1e-9);
    let median = sums.quantiles().into_iter().find(|quantile| quantile.share == 0.5).unwrap();
    assert!((median.value / 2.3 - 1.0).abs() < 1e-3);
}
