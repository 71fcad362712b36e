//! Measures of distributions over buckets. All logarithms are natural.

/// What is added to every probability before its logarithm is taken, as DSIR does: a bucket that one corpus never fills
/// would make a divergence infinite.
pub const SMOOTHING: f64 = 1e-8;

/// Counts as shares of their sum; all 0 where that is 0.
pub fn distribution(counts: &[u64]) -> Vec<f64> {
    let sum = counts.iter().sum::<u64>().max(1) as f64;
    counts.iter().map(|count| *count as f64 / sum).collect()
}

/// KL(p ‖ q) = Σ p·ln(p/q) in nats, infinite where q is 0 and p is not. `p` and `q` have equal lengths.
///
/// ```
/// use toedit::analysis::kl_divergence;
/// assert_eq!(kl_divergence(&[0.5, 0.5], &[0.25, 0.75]), 0.5 * (4f64 / 3.0).ln());
/// assert_eq!(kl_divergence(&[0.5, 0.5], &[1.0, 0.0]), f64::INFINITY);
/// ```
pub fn kl_divergence(p: &[f64], q: &[f64]) -> f64 {
    let term = |(p, q): (&f64, &f64)| if *p > 0.0 { p * (p / q).ln() } else { 0.0 };
    p.iter().zip(q).map(term).sum()
}

/// Σ p·(ln(p + ε) − ln(q + ε)) in nats, ε being [`SMOOTHING`]: always finite.
pub fn smoothed_kl_divergence(p: &[f64], q: &[f64]) -> f64 {
    p.iter().zip(q).map(|(p, q)| p * ((p + SMOOTHING).ln() - (q + SMOOTHING).ln())).sum()
}

/// JS(p, q) = ½·KL(p ‖ m) + ½·KL(q ‖ m) with m = ½(p + q), in nats: from 0 for equal to ln 2 for disjoint distributions.
pub fn js_divergence(p: &[f64], q: &[f64]) -> f64 {
    let middle: Vec<f64> = p.iter().zip(q).map(|(p, q)| (p + q) / 2.0).collect();
    // Rounding must not make it negative.
    ((kl_divergence(p, &middle) + kl_divergence(q, &middle)) / 2.0).max(0.0)
}

/// −Σ p·ln p in nats.
pub fn entropy(p: &[f64]) -> f64 {
    p.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum()
}

/// The Gini coefficient: 0 where all shares are equal, (n − 1)/n where one of n has everything, 0 where there is nothing.
///
/// Σ (2i − n − 1)·pᵢ / (n·Σ pᵢ) over the ascending shares, i from 1.
pub fn gini(p: &[f64]) -> f64 {
    let mut sorted = p.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let (n, sum) = (p.len() as f64, sorted.iter().sum::<f64>());
    let weighted = |(index, p): (usize, &f64)| (2.0 * (index + 1) as f64 - n - 1.0) * p;
    let weighted: f64 = sorted.iter().enumerate().map(weighted).sum();
    if sum > 0.0 { weighted / (n * sum) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TOLERANCE: f64 = 1e-12;

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < TOLERANCE
    }

    #[test]
    fn closed_forms() {
        let uniform = vec![0.001; 1000];
        assert!(near(entropy(&uniform), 1000f64.ln()) && gini(&uniform).abs() < 1e-9);
        let mut point = vec![0.0; 1000];
        point[7] = 1.0;
        assert!(near(entropy(&point), 0.0) && near(gini(&point), 0.999));
        assert!(near(kl_divergence(&point, &uniform), 1000f64.ln()));
        // Against the uniform distribution KL is what is missing of the largest entropy.
        let geometric = distribution(&(0..20).map(|power| 1 << power).collect::<Vec<_>>());
        assert!(near(kl_divergence(&geometric, &[0.05; 20]), 20f64.ln() - entropy(&geometric)));
        // Disjoint halves; and half of the mass moved away.
        assert!(near(js_divergence(&[0.5, 0.5, 0.0, 0.0], &[0.0, 0.0, 0.5, 0.5]), 2f64.ln()));
        let moved = 0.5 * (4f64 / 3.0).ln() + 0.25 * (2f64 / 3.0).ln() + 0.25 * 2f64.ln();
        assert!(near(js_divergence(&[1.0, 0.0], &[0.5, 0.5]), moved));
        // Two Bernoulli distributions.
        let (a, b) = (0.3f64, 0.6f64);
        let bernoulli = a * (a / b).ln() + (1.0 - a) * ((1.0 - a) / (1.0 - b)).ln();
        assert!(near(kl_divergence(&[a, 1.0 - a], &[b, 1.0 - b]), bernoulli));
        // A linear ramp 1..n has (n − 1)/(3n).
        let ramp = distribution(&(1..=100).collect::<Vec<_>>());
        assert!(near(gini(&ramp), 99.0 / 300.0));
        assert_eq!((gini(&[]), gini(&[0.0; 3]), entropy(&[])), (0.0, 0.0, 0.0));
        assert_eq!(distribution(&[0, 0]), [0.0, 0.0]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]
        #[test]
        fn divergences_keep_their_bounds(
            counts in prop::collection::vec((0u64..50, 0u64..50), 1..40),
        ) {
            let (p, q): (Vec<_>, Vec<_>) = counts.into_iter().unzip();
            prop_assume!(p.iter().sum::<u64>() > 0 && q.iter().sum::<u64>() > 0);
            let (p, q) = (distribution(&p), distribution(&q));
            let js = js_divergence(&p, &q);
            prop_assert!((0.0..=2f64.ln() + TOLERANCE).contains(&js));
            prop_assert!(near(js, js_divergence(&q, &p)));
            prop_assert!(kl_divergence(&p, &q) >= -TOLERANCE);
            prop_assert!(near(kl_divergence(&p, &p), 0.0) && near(smoothed_kl_divergence(&p, &p), 0.0));
            prop_assert!(smoothed_kl_divergence(&p, &q).is_finite());
            let kl = kl_divergence(&p, &q);
            if kl.is_finite() {
                prop_assert!((smoothed_kl_divergence(&p, &q) - kl).abs() < 1e-4);
            }
            prop_assert!((-TOLERANCE..=(p.len() as f64).ln() + TOLERANCE).contains(&entropy(&p)));
            prop_assert!((-TOLERANCE..1.0).contains(&gini(&p)));
        }
    }
}
