//! The head where numbers are huge, equal, or not numbers.

use toedit::ops::head::Scored;

use crate::common::arms::all;
use crate::head::Case;

/// A head over one input of 1: the weights are the logits. One row for each target, on each arm in turn.
fn logits(logits: &[f32]) -> Vec<Vec<Scored>> {
    let targets: Vec<u32> = (0..logits.len() as u32).collect();
    let case = Case::<f32>::new(vec![1.0; targets.len()], logits.to_vec(), 1, targets);
    all().iter().map(|arm| case.score(arm)).collect()
}

#[test]
fn huge_logits_do_not_overflow() {
    for others in [1, 2, 255, 256, 600] {
        for size in [89.0, 1e4, 1e30, f32::MAX / 4.0] {
            let mut row = vec![-size; others + 1];
            row[others / 2] = size;
            for (target, scored) in logits(&row).iter().flat_map(|scored| scored.iter().enumerate()) {
                let log = scored.statistics.log_probability();
                assert!(scored.statistics.is_finite() && scored.entropy == 0.0, "{size}: {scored:?}");
                assert_eq!(log, if target == others / 2 { 0.0 } else { -2.0 * size }, "{size}");
            }
        }
    }
}

#[test]
fn huge_logits_are_the_oracle() {
    let weights: Vec<f32> = crate::common::samples::values::<f32>(1, 300 * 5);
    let hidden: Vec<f32> = crate::common::samples::values::<f32>(2, 5).iter().map(|x| 1e4 * x).collect();
    Case::<f32>::new(hidden.repeat(300), weights, 5, (0..300).collect()).check();
}

#[test]
fn equal_logits_share_the_probability() {
    for vocabulary in [1usize, 2, 31, 256, 257, 1000] {
        for size in [0.0, 1e4, -1e4] {
            for scored in logits(&vec![size; vocabulary]).concat() {
                let expected = (vocabulary as f32).ln();
                assert!((scored.statistics.log_probability() + expected).abs() <= 1e-6 * (1.0 + expected));
                assert!((scored.entropy - expected).abs() <= 1e-6 * (1.0 + expected));
            }
        }
    }
}

#[test]
fn a_vocabulary_of_one_is_certain() {
    for logit in [0.0, -1e4, 1e4, f32::MAX] {
        for scored in logits(&[logit]).concat() {
            assert_eq!((scored.statistics.log_probability(), scored.entropy), (0.0, 0.0));
            assert!(scored.statistics.is_finite() && scored.statistics.at_least(1.0));
        }
    }
}

/// Near certainty the small rest survives: log p keeps its relative accuracy.
#[test]
fn a_probability_near_one_keeps_its_digits() {
    for lead in [5.0f32, 20.0, 40.0, 80.0] {
        let expected = -(2.0 * f64::from(-lead).exp()).ln_1p();
        for scored in logits(&[lead, 0.0, 0.0]) {
            let error = (f64::from(scored[0].statistics.log_probability()) - expected).abs();
            assert!(error <= 1e-6 * expected.abs(), "{lead}: {scored:?}");
        }
    }
}

#[test]
fn a_hidden_state_that_is_not_finite_is_seen() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for vocabulary in [1, 2, 255, 256, 257, 600] {
            let case = Case::<f32>::random(9, 14, vocabulary, 5);
            let mut hidden = case.hidden.clone();
            hidden[7 * 5 + 2] = bad;
            let case = Case::<f32>::new(hidden, case.weights, 5, case.targets);
            for (row, scored) in all().iter().flat_map(|arm| case.score(arm).into_iter().enumerate()) {
                assert_eq!(scored.statistics.is_finite(), row != 7, "{bad} in {vocabulary}: row {row}");
            }
        }
    }
}

/// A single logit that is NaN or +∞, wherever it stands, the target's own included.
#[test]
fn one_bad_logit_is_seen() {
    for bad in [f32::NAN, f32::INFINITY] {
        for vocabulary in [2, 33, 256, 300] {
            for at in [0, 1, vocabulary / 2, vocabulary - 1] {
                let mut row = vec![0.5; vocabulary];
                row[at] = bad;
                let scored = logits(&row).concat();
                assert!(scored.iter().all(|scored| !scored.statistics.is_finite()), "{bad} at {at}");
            }
        }
    }
}
