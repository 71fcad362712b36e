//! The choice of the next token: χ² against distributions computed plainly in f64, transformers' processors written out as
//! oracle, and exact cases.

use proptest::prelude::*;
use rayon::prelude::*;
use toedit::ops::head::{Head, Scratch, statistics};
use toedit::ops::matmul::Rows;
use toedit::ops::sample::{Sampling, Seen, penalise, sample};
use toedit::random::{Purpose, Stream, Uniform};

use crate::common::chi_square;
use crate::common::samples;

const DRAWS: u32 = 1_000_000;

/// The probability of each id: transformers' processors one after the other, on all logits, in f64. Of equal logits the
/// lower id is the better one.
pub fn distribution(sampling: &Sampling, logits: &[f32]) -> Vec<f64> {
    let mut scores: Vec<f64> = logits.iter().map(|l| f64::from(*l) / sampling.temperature).collect();
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
    let cut = |scores: &mut Vec<f64>, kept: &dyn Fn(usize, &[f64]) -> bool| {
        let p = softmax(scores);
        let sorted: Vec<f64> = order.iter().map(|id| p[*id]).collect();
        for (rank, id) in order.iter().enumerate() {
            if !kept(rank, &sorted) {
                scores[*id] = f64::NEG_INFINITY;
            }
        }
    };
    if sampling.top_k > 0 {
        cut(&mut scores, &|rank, _| rank < sampling.top_k);
    }
    if sampling.top_p < 1.0 {
        // What is likelier has not got the mass without it.
        cut(&mut scores, &|rank, p| rank == 0 || p[..rank].iter().sum::<f64>() < sampling.top_p);
    }
    if sampling.min_p > 0.0 {
        cut(&mut scores, &|rank, p| rank == 0 || p[rank] >= sampling.min_p * p[0]);
    }
    softmax(&scores)
}

fn softmax(scores: &[f64]) -> Vec<f64> {
    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|score| (score - max).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

/// A peak, a broad middle, and a long tail whose members come a few times in a million.
pub fn logits() -> Vec<f32> {
    (0..300).map(|id: u32| 9.0 - f64::from(id * 97 % 300 + 1).ln() as f32 * 2.4).collect()
}

pub fn random(position: u32) -> Uniform {
    Stream::new(17, 4, Purpose::Generate, 3).unwrap().draw(position, 0)
}

#[test]
fn a_million_draws_have_the_distribution() {
    let logits = logits();
    let all = Sampling::default();
    for sampling in [
        all,
        Sampling { temperature: 0.7, ..all },
        Sampling { temperature: 2.5, ..all },
        Sampling { top_k: 40, temperature: 1.3, ..all },
        Sampling { top_p: 0.9, ..all },
        Sampling { top_p: 0.999, temperature: 1.5, ..all },
        Sampling { min_p: 0.001, ..all },
        Sampling { top_k: 100, top_p: 0.97, min_p: 0.002, temperature: 1.2, ..all },
    ] {
        let counts = || vec![0u32; logits.len()];
        let draw = |mut counts: Vec<u32>, position| {
            counts[sample(&sampling, &logits, random(position)).unwrap() as usize] += 1;
            counts
        };
        let add = |a: Vec<u32>, b: Vec<u32>| a.iter().zip(&b).map(|(a, b)| a + b).collect();
        let counts: Vec<u32> = (0..DRAWS).into_par_iter().fold(counts, draw).reduce(counts, add);
        chi_square::check(&format!("{sampling:?}"), &counts, &distribution(&sampling, &logits));
    }
}

/// A token with a probability of 4 in 100,000 comes as often as it should, alone in its bin.
#[test]
fn a_rare_token_is_drawn_at_its_rate() {
    let mut logits = vec![-40.0; 1000];
    (logits[3], logits[990]) = (10.0, 10.0 + 4e-5f32.ln());
    let draws = (0..DRAWS).map(|position| sample(&Sampling::default(), &logits, random(position)).unwrap());
    let rare = draws.filter(|id| *id == 990).count() as f64;
    let expected = f64::from(DRAWS) * 4e-5;
    assert!((rare - expected).abs() < 4.0 * expected.sqrt(), "{rare} times, expected {expected}");
}

fn samplings() -> impl Strategy<Value = Sampling> {
    let temperature = prop_oneof![Just(1.0), 0.2..4.0];
    let top_k = prop_oneof![Just(0), 1usize..12];
    let top_p = prop_oneof![Just(1.0), 0.05..1.0];
    let min_p = prop_oneof![Just(0.0), 0.001..1.0];
    (temperature, top_k, top_p, min_p).prop_map(|(temperature, top_k, top_p, min_p)| Sampling {
        temperature,
        top_k,
        top_p,
        min_p,
        repetition_penalty: 1.0,
    })
}

/// Few values, so that many logits are equal.
fn rows() -> impl Strategy<Value = Vec<f32>> {
    prop_oneof![
        prop::collection::vec((-8i8..8).prop_map(|l| f32::from(l) / 2.0), 1..40),
        prop::collection::vec(-9f32..9.0, 200..600),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Whatever is drawn may be drawn, and where it is one of few candidates it is the one whose share u falls in.
    #[test]
    fn draws_are_the_oracles(sampling in samplings(), logits in rows(), first in 0f64..1.0, second in 0f64..1.0) {
        let id = sample(&sampling, &logits, Uniform { first, second }).unwrap();
        let p = distribution(&sampling, &logits);
        // A candidate at the edge of a cut may fall on either side of it by rounding.
        let loose = |factor: f64| distribution(&Sampling {
            top_p: (sampling.top_p * factor).min(1.0),
            min_p: sampling.min_p / factor,
            ..sampling
        }, &logits);
        prop_assert!(p[id as usize] > 0.0 || loose(1.0 + 1e-6)[id as usize] > 0.0, "{} of {:?}", id, p);
        let whole = sampling.top_k == 0 && sampling.top_p == 1.0 && sampling.min_p == 0.0;
        if !whole && loose(1.0 + 1e-6) == p && loose(1.0 - 1e-6) == p {
            let mut order: Vec<usize> = (0..logits.len()).collect();
            order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b)));
            let before: f64 = order.iter().take_while(|other| **other != id as usize).map(|id| p[*id]).sum();
            prop_assert!(before <= first + 1e-9 && first <= before + p[id as usize] + 1e-9);
        }
    }

    #[test]
    fn no_temperature_takes_the_lowest_of_the_most_likely(logits in rows(), first in 0f64..1.0) {
        let uniform = Uniform { first, second: first };
        let best = (0..logits.len()).rev().max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap() as u32;
        prop_assert_eq!(sample(&Sampling::greedy(), &logits, uniform), Some(best));
        prop_assert_eq!(sample(&Sampling { top_k: 1, ..Sampling::default() }, &logits, uniform), Some(best));
    }

    #[test]
    fn the_penalty_meets_each_seen_token_once(logits in rows(), ids in prop::collection::vec(0u32..700, 0..30), penalty in 0.5f64..2.0) {
        let mut seen = Seen::new(logits.len());
        ids.iter().for_each(|id| seen.insert(*id));
        let mut penalised = logits.clone();
        penalise(&mut penalised, &seen, penalty);
        for (id, (before, after)) in logits.iter().zip(&penalised).enumerate() {
            let factor = if *before < 0.0 { penalty as f32 } else { 1.0 / penalty as f32 };
            let expected = if ids.contains(&(id as u32)) { before * factor } else { *before };
            prop_assert!((after - expected).abs() <= expected.abs() * 3e-7);
        }
        prop_assert!(seen.ids().is_sorted_by(|a, b| a < b));
    }
}

#[test]
fn logits_that_are_not_finite_give_nothing() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for at in [0, 17, 299] {
            let mut logits = vec![1.0; 300];
            logits[at] = bad;
            for sampling in
                [Sampling::greedy(), Sampling::default(), Sampling { top_k: 5, ..Sampling::default() }]
            {
                assert_eq!(sample(&sampling, &logits, random(0)), None, "{bad} at {at}");
            }
        }
    }
    assert_eq!(sample(&Sampling::default(), &[], random(0)), None);
}

#[test]
fn extreme_temperatures_neither_overflow_nor_divide_by_zero() {
    let logits = [3.0, 5.0, 5.0, -4.0];
    for (temperature, possible) in
        [(1e-300, &[1, 2][..]), (1e-30, &[1, 2]), (1e30, &[0, 1, 2, 3]), (1e300, &[0, 1, 2, 3])]
    {
        let mut drawn: Vec<u32> = (0..200)
            .map(|at| sample(&Sampling { temperature, ..Sampling::default() }, &logits, random(at)).unwrap())
            .collect();
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn, possible, "{temperature}");
    }
}

#[test]
fn settings_out_of_range_are_named() {
    let all = Sampling::default();
    for (sampling, expected) in [
        (Sampling { temperature: -1.0, ..all }, "temperature -1: expected a number 0 or more"),
        (Sampling { temperature: f64::NAN, ..all }, "temperature NaN: expected a number 0 or more"),
        (Sampling { top_p: 0.0, ..all }, "top-p 0: expected a number above 0, at most 1"),
        (Sampling { min_p: 1.5, ..all }, "min-p 1.5: expected a number from 0 to 1"),
        (Sampling { repetition_penalty: 0.0, ..all }, "repetition penalty 0: expected a number above 0"),
    ] {
        assert_eq!(sampling.validate().unwrap_err().to_string(), expected);
    }
    assert!(all.validate().is_ok() && Sampling::greedy().validate().is_ok());
}

/// The statistics of a row of logits are the bits that the head gives without ever having the row.
#[test]
fn statistics_of_a_row_are_the_heads() {
    let (v, c) = (700, 24);
    let weight = samples::matrix::<f32>(&samples::values::<f32>(5, v * c), v, c);
    let hidden = samples::values::<f32>(6, c);
    let rows = Rows { data: &hidden[..], stride: c, rows: 1 };
    let (mut logits, mut scratch) = (Vec::new(), Scratch::default());
    toedit::ops::head::logits(rows, &weight, &mut scratch, &mut logits);
    for target in [0, 255, 256, 699] {
        let scored =
            Head { hidden: rows, weight: &weight, targets: &[target], entropy: false }.score(&mut scratch);
        assert_eq!(statistics(&mut logits[..v], target), scored[0].statistics, "{target}");
    }
}
