use proptest::prelude::*;
use toedit::score::Statistics;

use super::oracle;

/// −log p from differences to the target, in f64: independent of the maximum of the rest.
fn direct(logits: &[f32], target: usize) -> f64 {
    let difference = |logit: f32| f64::from(logit) - f64::from(logits[target]);
    let others = logits.iter().enumerate().filter(|(id, _)| *id != target);
    -others.map(|(_, &logit)| difference(logit).exp()).sum::<f64>().ln_1p()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn agree_with_a_direct_computation(logits in prop::collection::vec(-80f32..80.0, 1..40), pick in 0usize..40) {
        let target = pick % logits.len();
        let statistics = oracle::statistics(&logits, target as u32);
        let log = direct(&logits, target);
        let limit = 4e-7 * log.abs().max(1e-30) + 2e-7 * f64::from(log < -1e-3);
        prop_assert!((f64::from(statistics.log_probability()) - log).abs() <= limit);
        prop_assert!((statistics.probability() - log.exp()).abs() <= 3e-7 * log.exp());
        prop_assert!((statistics.log_sum_exp() - (f64::from(logits[target]) - log)).abs() <= 1e-5);
        prop_assert!((statistics.probability_of(logits[target]) - log.exp()).abs() <= 1e-5 * log.exp());
        prop_assert!(statistics.is_finite());
    }

    #[test]
    fn thresholds_agree_with_the_probability(
        logits in prop::collection::vec(-20f32..20.0, 2..40), pick in 0usize..40, t in -0.1f64..1.1,
    ) {
        let target = pick % logits.len();
        let statistics = oracle::statistics(&logits, target as u32);
        let p = direct(&logits, target).exp();
        if (p - t).abs() > 1e-6 {
            prop_assert_eq!(statistics.at_least(t), p >= t);
            prop_assert_eq!(statistics.above(t), p > t);
        }
    }

    /// A higher threshold holds for a subset, and a strict one for a subset of its own.
    #[test]
    fn thresholds_are_monotone(
        target in -200f32..200.0, max in -200f32..200.0, rest in 1f32..1e5, a in -0.1f64..1.1, b in -0.1f64..1.1,
    ) {
        let statistics = Statistics { target, max, rest };
        let (low, high) = (a.min(b), a.max(b));
        prop_assert!(statistics.at_least(low) || !statistics.at_least(high));
        prop_assert!(statistics.above(low) || !statistics.above(high));
        prop_assert!(statistics.at_least(a) || !statistics.above(a));
        prop_assert!(statistics.above(low) || low == high || !statistics.at_least(high));
    }

    #[test]
    fn log_probability_is_never_positive(target in any::<f32>(), max in any::<f32>(), rest in 1f32..1e6) {
        let log = Statistics { target, max, rest }.log_probability();
        prop_assert!(!target.is_finite() || !max.is_finite() || log < 0.0 || (log == 0.0 && log.is_sign_positive()));
    }
}

#[test]
fn a_vocabulary_of_one_is_certain() {
    let statistics = Statistics { target: -3.0, max: f32::NEG_INFINITY, rest: 0.0 };
    assert_eq!(statistics.log_probability().to_bits(), 0.0f32.to_bits());
    assert_eq!(statistics.probability(), 1.0);
    assert_eq!(statistics.log_sum_exp(), -3.0);
    assert!(statistics.is_finite());
    assert!(statistics.at_least(1.0) && statistics.above(0.999_999));
    assert!(!statistics.at_least(1.0 + f64::EPSILON) && !statistics.above(1.0));
}

#[test]
fn extreme_leads_neither_overflow_nor_lose_the_sign() {
    // e^{l_x−m} overflows; the log-probability underflows and must not become −0.
    let certain = Statistics { target: 1e4, max: -1e4, rest: 5.0 };
    assert_eq!(certain.log_probability().to_bits(), 0.0f32.to_bits());
    assert!(certain.at_least(0.999_999_999) && certain.above(0.999_999_999));
    assert!(!certain.at_least(1.0), "others have weight, so p < 1");
    let hopeless = Statistics { target: -1e4, max: 1e4, rest: 5.0 };
    assert!((hopeless.log_probability() + 2e4).abs() < 2.0);
    assert_eq!(hopeless.probability(), 0.0);
    assert!(!hopeless.at_least(1e-300) && hopeless.at_least(0.0) && hopeless.above(0.0));
}

#[test]
fn the_exact_threshold_is_met_and_not_exceeded() {
    // p = 1/4 exactly: l_x = m and three others.
    let quarter = Statistics { target: 1.5, max: 1.5, rest: 3.0 };
    assert!(quarter.at_least(0.25) && !quarter.above(0.25));
    assert!(!quarter.at_least(0.25f64.next_up()) && quarter.above(0.25f64.next_down()));
    assert!(!quarter.at_least(f64::NAN) && !quarter.above(f64::NAN));
}

#[test]
fn keeps_digits_near_certainty() {
    // 1 − p is about 6e-9, which a probability in f32 could not hold.
    let statistics = Statistics { target: 19.0, max: 0.0, rest: 1.0 };
    assert!((f64::from(statistics.log_probability()) / -(-19f64).exp() - 1.0).abs() < 1e-6);
}

#[test]
fn what_is_not_finite_is_told() {
    let finite = Statistics { target: 0.0, max: 0.0, rest: 1.0 };
    assert!(finite.is_finite());
    for broken in [
        Statistics { target: f32::NAN, ..finite },
        Statistics { target: f32::NEG_INFINITY, ..finite },
        Statistics { max: f32::INFINITY, ..finite },
        Statistics { max: f32::NEG_INFINITY, ..finite },
        Statistics { rest: f32::NAN, ..finite },
        Statistics { rest: f32::INFINITY, ..finite },
    ] {
        assert!(!broken.is_finite(), "{broken:?}");
    }
}
