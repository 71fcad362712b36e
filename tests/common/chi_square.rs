//! χ² of counts against a distribution.

/// Bins that are expected to have less go into one.
pub const SMALLEST_BIN: f64 = 10.0;

/// The number of standard deviations that a χ² statistic lies above its mean (Wilson and Hilferty 1931).
pub fn chi_square_score(statistic: f64, degrees: usize) -> f64 {
    let spread = 2.0 / (9.0 * degrees as f64);
    ((statistic / degrees as f64).cbrt() - (1.0 - spread)) / spread.sqrt()
}

/// The score that a normal variable exceeds with probability 1e-4.
pub const LIMIT: f64 = 3.719;

/// Fails where the counts of draws do not have the distribution `p`, or a bin without weight was drawn.
pub fn check(what: &str, counts: &[u32], p: &[f64]) {
    assert!(
        counts.iter().zip(p).all(|(&count, &p)| p > 0.0 || count == 0),
        "{what}: drew what has no weight"
    );
    let draws: f64 = counts.iter().map(|count| f64::from(*count)).sum();
    let (mut statistic, mut bins) = (0.0, 0);
    let (mut few, mut few_expected) = (0.0, 0.0);
    let mut add = |count: f64, expected: f64| {
        statistic += (count - expected).powi(2) / expected;
        bins += 1;
    };
    for (&count, &p) in counts.iter().zip(p) {
        let (count, expected) = (f64::from(count), p * draws);
        if expected >= SMALLEST_BIN {
            add(count, expected);
        } else {
            few += count;
            few_expected += expected;
        }
    }
    if few_expected >= SMALLEST_BIN {
        add(few, few_expected);
    }
    assert!(bins >= 2, "{what}: a case with one bin proves nothing");
    let score = chi_square_score(statistic, bins - 1);
    assert!(score < LIMIT, "{what}: chi-square {statistic} over {bins} bins, score {score}");
}
