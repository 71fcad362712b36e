//! Draws on devices: the CPU's decisions, and the distribution.

use toedit::device::{Queue, Rows};
use toedit::ops::head::TILE;
use toedit::ops::sample::{Sampler, Sampling, Seen, penalise, sample};
use toedit::random::Uniform;

use crate::common::{arms, chi_square, samples};
use crate::sample::{distribution, logits, random};

/// One token from each row; ids at and above `vocabulary` are never drawn.
fn draw(
    queue: &Queue,
    sampling: &Sampling,
    rows: &[Vec<f32>],
    vocabulary: usize,
    seen: &[&Seen],
    first: u32,
) -> Vec<Option<u32>> {
    let stride = rows[0].len().next_multiple_of(TILE);
    let pad = |row: &Vec<f32>| [&row[..], &vec![f32::NEG_INFINITY; stride - row.len()]].concat();
    let logits = queue.upload(&rows.iter().flat_map(pad).collect::<Vec<_>>()).unwrap();
    let logits = Rows { data: logits.view(), rows: rows.len(), width: vocabulary, stride };
    let sampler = Sampler::new(queue, rows.len() + 1, vocabulary).unwrap();
    if !seen.is_empty() {
        sampler.penalise(queue, logits, seen, sampling.repetition_penalty).unwrap();
    }
    sampler.draw(queue, sampling, logits, &uniforms(first, rows.len())).unwrap();
    sampler.read(queue, rows.len()).unwrap()
}

fn uniforms(first: u32, count: usize) -> Vec<Uniform> {
    (first..).take(count).map(random).collect()
}

fn samplings() -> Vec<Sampling> {
    let all = Sampling::default();
    vec![
        Sampling::greedy(),
        all,
        Sampling { temperature: 0.6, ..all },
        Sampling { temperature: 1e-300, ..all },
        Sampling { top_k: 1, ..all },
        Sampling { top_k: 7, temperature: 1.3, ..all },
        Sampling { top_k: 10_000, ..all },
        Sampling { top_p: 0.9, ..all },
        Sampling { top_p: 0.2, temperature: 1e300, ..all },
        Sampling { min_p: 0.05, temperature: 1.7, ..all },
        Sampling { min_p: 1.0, ..all },
        Sampling { top_k: 90, top_p: 0.97, min_p: 0.002, temperature: 1.2, ..all },
    ]
}

/// Rows of all kinds: far apart, close together, with many that are equal.
fn rows(vocabulary: usize) -> Vec<Vec<f32>> {
    let row = |seed: u32| samples::values::<f32>(seed, vocabulary).into_iter();
    let mut rows: Vec<Vec<f32>> = (1..5).map(|seed| row(seed).map(|l| l * 9.0).collect()).collect();
    rows.extend((5..8).map(|seed| row(seed).map(|l| (l * 4.0).round() / 2.0).collect::<Vec<_>>()));
    rows.push(vec![-0.0; vocabulary]);
    rows
}

#[test]
fn draws_are_the_cpus() {
    for queue in arms::devices() {
        for vocabulary in [1, 31, 255, 256, 257, 700] {
            let rows = rows(vocabulary);
            for (index, sampling) in samplings().iter().enumerate() {
                for allowed in [vocabulary, vocabulary.div_ceil(2)] {
                    let first = index as u32 * 100;
                    let found = draw(&queue, sampling, &rows, allowed, &[], first);
                    for ((row, random), found) in rows.iter().zip(uniforms(first, rows.len())).zip(found) {
                        let expected = sample(sampling, &row[..allowed], random);
                        assert_eq!(found, expected, "{} {sampling:?} of {allowed}", queue.device());
                    }
                }
            }
        }
    }
}

#[test]
fn penalties_are_the_cpus() {
    for queue in arms::devices() {
        for vocabulary in [40, 257] {
            let rows = rows(vocabulary);
            let seen: Vec<Seen> = (0..rows.len() as u32)
                .map(|row| {
                    let mut seen = Seen::new(vocabulary);
                    (0..30).for_each(|i| seen.insert((i * 37 + row * 11) % 300));
                    seen
                })
                .collect();
            for sampling in
                [Sampling::greedy(), Sampling::default(), Sampling { top_k: 9, ..Sampling::default() }]
            {
                for repetition_penalty in [0.5, 1.3] {
                    let sampling = Sampling { repetition_penalty, ..sampling };
                    let sets: Vec<&Seen> = seen.iter().collect();
                    let found = draw(&queue, &sampling, &rows, vocabulary, &sets, 7);
                    let randoms = uniforms(7, rows.len());
                    for (index, found) in found.into_iter().enumerate() {
                        let mut row = rows[index].clone();
                        penalise(&mut row, &seen[index], repetition_penalty);
                        assert_eq!(found, sample(&sampling, &row, randoms[index]), "{sampling:?} {index}");
                    }
                }
            }
        }
    }
}

#[test]
fn draws_on_devices_have_the_distribution() {
    let logits = logits();
    for queue in arms::devices() {
        let cut = Sampling { top_k: 40, top_p: 0.95, ..Sampling::default() };
        for (sampling, draws) in [(Sampling::default(), 3000), (cut, 1000)] {
            let mut counts = vec![0u32; logits.len()];
            let rows = vec![logits.clone(); draws];
            for id in draw(&queue, &sampling, &rows, logits.len(), &[], 0) {
                counts[id.unwrap() as usize] += 1;
            }
            let what = format!("{} {sampling:?}", queue.device());
            chi_square::check(&what, &counts, &distribution(&sampling, &logits));
        }
    }
}

#[test]
fn rows_that_are_not_finite_give_nothing_and_spare_their_neighbours() {
    for queue in arms::devices() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut rows = vec![vec![1.0; 300]; 4];
            (rows[0][0], rows[2][299]) = (bad, bad);
            for sampling in samplings() {
                let found = draw(&queue, &sampling, &rows, 300, &[], 0);
                assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, false, true]);
                // Beyond the ids that may be drawn nothing matters.
                let found = draw(&queue, &sampling, &rows, 299, &[], 0);
                assert!(found[2].is_some(), "{sampling:?}");
            }
        }
    }
}
