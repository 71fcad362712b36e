//! The head: statistics and entropy against a log-softmax in f64, and against the logits themselves.

use half::bf16;
use proptest::prelude::*;
use toedit::ops::head::{self, Head, Scored, TILE};
use toedit::ops::matmul::Rows;
use toedit::tensor::Matrix;

#[cfg(kernels)]
use crate::common::arms;
use crate::common::arms::{Arm, Scalar, all};
use crate::common::oracle::{self, Expected};
use crate::common::{samples, tolerance};

const VOCABULARIES: [usize; 9] = [1, 2, 31, 33, 255, 256, 257, 513, 50_257];

/// Rows of hidden states, their targets and the head's matrix.
pub struct Case<E> {
    pub hidden: Vec<f32>,
    pub weights: Vec<f32>,
    pub k: usize,
    pub targets: Vec<u32>,
    padded: Vec<E>,
    matrix: Matrix<E>,
}

impl<E: Scalar> Case<E> {
    pub fn new(hidden: Vec<f32>, weights: Vec<f32>, k: usize, targets: Vec<u32>) -> Self {
        let matrix = samples::matrix(&weights, weights.len() / k, k);
        Self { padded: samples::padded(&hidden, k), matrix, hidden, weights, k, targets }
    }

    pub fn random(seed: u32, rows: usize, vocabulary: usize, k: usize) -> Self {
        let hidden = samples::values::<E>(seed, rows * k);
        let weights = samples::values::<E>(!seed, vocabulary * k);
        Self::new(hidden, weights, k, samples::ids(seed, rows, vocabulary))
    }

    pub fn vocabulary(&self) -> usize {
        self.matrix.n()
    }

    pub fn rows(&self) -> Rows<'_, E> {
        Rows { data: &self.padded, stride: self.k.next_multiple_of(E::GROUP), rows: self.targets.len() }
    }

    pub fn matrix(&self) -> &Matrix<E> {
        &self.matrix
    }

    pub fn head(&self) -> Head<'_, E> {
        Head { hidden: self.rows(), weight: &self.matrix, targets: &self.targets, entropy: true }
    }

    pub fn score(&self, arm: &Arm) -> Vec<Scored> {
        match arm {
            Arm::Cpu => self.head().score(&mut head::Scratch::default()),
            #[cfg(kernels)]
            Arm::Device(queue) => {
                let on = self.on(queue, None);
                on.scores.read(queue, &queue.mark().unwrap(), self.targets.len()).unwrap()
            }
            #[cfg(not(kernels))]
            Arm::Device(queue) => panic!("{} has no kernels", queue.device()),
        }
    }

    /// Whole rows of logits without their padding, into a buffer full of NaN.
    pub fn logits(&self, arm: &Arm) -> Vec<f32> {
        let stride = self.vocabulary().next_multiple_of(TILE);
        let out = match arm {
            Arm::Cpu => {
                let mut out = vec![f32::NAN; 3];
                head::logits(self.rows(), &self.matrix, &mut head::Scratch::default(), &mut out);
                out
            }
            #[cfg(kernels)]
            Arm::Device(queue) => self.on(queue, None).all_logits(self.targets.len()),
            #[cfg(not(kernels))]
            Arm::Device(queue) => panic!("{} has no kernels", queue.device()),
        };
        assert_eq!(out.len(), self.targets.len() * stride);
        out.chunks_exact(stride).flat_map(|row| &row[..self.vocabulary()]).copied().collect()
    }

    /// The case on a device, scored.
    #[cfg(kernels)]
    pub fn on(&self, queue: &toedit::device::Queue, temperature: Option<f32>) -> OnDevice<E> {
        let upload = |values: &[f32]| arms::upload::<E>(queue, self.k, values);
        let (hidden, weight) = (upload(&self.hidden), upload(&self.weights));
        let (rows, targets) = (self.targets.len(), queue.upload(&self.targets).unwrap());
        let scores = head::Scores::new(queue, rows, self.vocabulary(), true, temperature).unwrap();
        scores.score(queue, hidden.view(), weight.view(), targets.view()).unwrap();
        OnDevice { queue: queue.clone(), hidden, weight, scores }
    }

    /// Sums are those of the logits, and those of a tile.
    fn limit(&self) -> f64 {
        tolerance::sum(self.k.max(TILE))
    }

    /// Everything that must hold of the head, whatever the operands, as long as they are finite.
    pub fn check(&self) {
        let expected = oracle::matmul(&self.hidden, &self.weights, self.k);
        all().iter().for_each(|arm| self.check_arm(arm, &expected));
    }

    fn check_arm(&self, arm: &Arm, expected: &[Expected]) {
        let (scored, logits) = (self.score(arm), self.logits(arm));
        let what = format!("{arm} {} vocabulary {} over {}", E::NAME, self.vocabulary(), self.k);
        tolerance::assert_within(&what, logits.iter().copied(), expected, tolerance::sum(self.k));
        let rows = logits.chunks_exact(self.vocabulary()).zip(expected.chunks_exact(self.vocabulary()));
        for ((scored, target), (logits, expected)) in scored.iter().zip(&self.targets).zip(rows) {
            let what = format!("{what}, target {target}");
            check_against_logits(&what, scored, logits, *target as usize);
            let found = [scored.statistics.log_probability(), scored.entropy];
            tolerance::assert_within(&what, found, &oracle::head(expected, *target as usize), self.limit());
            assert!(scored.entropy >= 0.0, "{what}: {scored:?}");
        }
    }
}

/// A case's operands and scores on a device.
#[cfg(kernels)]
pub struct OnDevice<E> {
    queue: toedit::device::Queue,
    pub hidden: toedit::device::Matrix<E>,
    pub weight: toedit::device::Matrix<E>,
    pub scores: head::Scores,
}

#[cfg(kernels)]
impl<E: Scalar> OnDevice<E> {
    /// Logits of `rows` in every tile, with their padding.
    fn all_logits(&self, rows: usize) -> Vec<f32> {
        let queue = &self.queue;
        let indices = queue.upload(&(0..rows as u32).collect::<Vec<_>>()).unwrap();
        let counts = queue.upload(&[rows as u32]).unwrap();
        let slots = self.scores.tiles();
        let out = queue.alloc(rows * slots * TILE).unwrap();
        let chosen = head::Chosen {
            rows: indices.view(),
            pairs: toedit::device::View::none(),
            counts: counts.view(),
            slots,
        };
        head::logits_on(queue, self.hidden.view(), self.weight.view(), chosen, out.view()).unwrap();
        queue.download(out.view()).unwrap()
    }
}

/// `target` and `max` are logits bit for bit; the sum is that of the very logits that [`head::logits`] gives.
fn check_against_logits(what: &str, scored: &Scored, logits: &[f32], target: usize) {
    let statistics = scored.statistics;
    let others = || logits.iter().enumerate().filter(|(id, _)| *id != target).map(|(_, logit)| *logit);
    let max = others().fold(f32::NEG_INFINITY, f32::max);
    tolerance::assert_same_bits(what, &[statistics.target], &[logits[target]]);
    assert_eq!(statistics.max, max, "{what}: max");
    let rest: f64 = others().map(|logit| (f64::from(logit) - f64::from(max)).exp()).sum();
    let expected = [Expected { value: rest, scale: rest }];
    tolerance::assert_within(what, [statistics.rest], &expected, tolerance::sum(logits.len()));
    assert!(statistics.is_finite(), "{what}: {statistics:?}");
    assert!(statistics.log_probability() <= 0.0, "{what}: {statistics:?}");
}

#[test]
fn every_vocabulary_is_the_oracle() {
    for vocabulary in VOCABULARIES {
        let sizes = if vocabulary > 1000 { vec![7] } else { vec![1, 2, 7, 64, 577] };
        for k in sizes {
            Case::<f32>::random(k as u32, 3, vocabulary, k).check();
            Case::<bf16>::random(k as u32, 3, vocabulary, k).check();
        }
    }
}

#[test]
fn every_number_of_rows_is_the_oracle() {
    for rows in [1, 11, 12, 13, 95, 96, 97, 127, 128, 129, 193] {
        Case::<f32>::random(rows as u32, rows, 300, 9).check();
        Case::<bf16>::random(rows as u32, rows, 300, 9).check();
    }
}

/// Each id in turn is the target of one row: every place in a tile, the largest logit and the others.
#[test]
fn every_target_is_the_oracle() {
    for vocabulary in [1, 2, 255, 256, 257, 600] {
        let hidden: Vec<f32> = samples::values::<f32>(3, 8).iter().map(|x| 4.0 * x).collect();
        let weights = samples::values::<f32>(4, vocabulary * 8);
        let targets = 0..vocabulary as u32;
        Case::<f32>::new(hidden.repeat(vocabulary), weights, 8, targets.collect()).check();
    }
}

fn bits(scored: Scored) -> [f32; 4] {
    let statistics = scored.statistics;
    [statistics.target, statistics.max, statistics.rest, scored.entropy]
}

/// Neither its neighbours nor its place among them change a row's bits.
fn rows_alone<E: Scalar>() {
    let case = Case::<E>::random(11, 140, 700, 33);
    for arm in all() {
        let together = case.score(&arm);
        for row in [139, 0, 11, 12, 50, 128] {
            let hidden = case.hidden[row * 33..][..33].to_vec();
            let alone = Case::<E>::new(hidden, case.weights.clone(), 33, vec![case.targets[row]]);
            tolerance::assert_same_bits("row", &bits(alone.score(&arm)[0]), &bits(together[row]));
        }
    }
}

#[test]
fn a_row_does_not_depend_on_its_batch() {
    rows_alone::<f32>();
    rows_alone::<bf16>();
}

/// What the work memory was used for before changes no bit.
#[test]
fn work_memory_may_be_used_again() {
    let case = Case::<f32>::random(11, 100, 700, 33);
    let mut scratch = head::Scratch::default();
    let together = case.head().score(&mut scratch);
    let few = Head { hidden: Rows { rows: 3, ..case.rows() }, targets: &case.targets[..3], ..case.head() };
    for (again, together) in few.score(&mut scratch).into_iter().zip(together) {
        tolerance::assert_same_bits("row", &bits(again), &bits(together));
    }
}

#[test]
fn statistics_do_not_depend_on_the_entropy() {
    let case = Case::<f32>::random(12, 30, 700, 33);
    let without = Head { entropy: false, ..case.head() }.score(&mut head::Scratch::default());
    for (with, without) in case.score(&Arm::Cpu).iter().zip(&without) {
        assert_eq!(with.statistics, without.statistics);
    }
}

#[test]
fn no_rows_give_nothing() {
    let case = Case::<f32>::new(vec![], vec![1.0; 300], 1, vec![]);
    for arm in all() {
        assert!(case.score(&arm).is_empty() && case.logits(&arm).is_empty());
    }
}

#[test]
#[should_panic]
fn a_target_past_the_vocabulary_panics() {
    Case::<f32>::new(vec![1.0], vec![1.0; 33], 1, vec![33]).score(&Arm::Cpu);
}

#[test]
#[should_panic]
fn fewer_targets_than_rows_panic() {
    let case = Case::<f32>::random(1, 3, 5, 2);
    Head { targets: &case.targets[..2], ..case.head() }.score(&mut head::Scratch::default());
}

#[test]
fn chunks_of_whole_rows_are_bounded_and_never_empty() {
    for (vocabulary, padded) in [(1, 256), (256, 256), (257, 512), (50_257, 50_432)] {
        let rows = head::chunk_rows(vocabulary);
        let bytes = |rows| 4 * rows * padded;
        assert!((1..=32 << 20).contains(&bytes(rows)) && bytes(rows + 1) > 8 << 20, "{vocabulary}: {rows}");
    }
    assert_eq!(head::chunk_rows(1 << 30), 1);
}

/// A random case, and the same rounded to bf16.
fn check_random(arm: &Arm, seed: u32, [rows, vocabulary, k]: [usize; 3], size: i32) {
    let case = Case::<f32>::random(seed, rows, vocabulary, k);
    let hidden: Vec<f32> = case.hidden.iter().map(|x| x * 2f32.powi(size)).collect();
    let (weights, targets) = (case.weights, case.targets);
    let rounded = |x: &[f32]| samples::elements::<bf16>(x).iter().map(|x| x.to_f32()).collect::<Vec<_>>();
    let case = Case::<bf16>::new(rounded(&hidden), rounded(&weights), k, targets.clone());
    case.check_arm(arm, &oracle::matmul(&case.hidden, &case.weights, k));
    let case = Case::<f32>::new(hidden, weights, k, targets);
    case.check_arm(arm, &oracle::matmul(&case.hidden, &case.weights, k));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn random_heads_are_the_oracle(
        seed: u32, rows in 1..14usize, vocabulary in 1..600usize, k in 1..40usize, size in -6..7i32,
    ) {
        check_random(&Arm::Cpu, seed, [rows, vocabulary, k], size);
    }
}

// The emulator takes its time.
#[cfg(kernels)]
proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn random_heads_on_devices_are_the_oracle(
        seed: u32, rows in 1..14usize, vocabulary in 1..600usize, k in 1..40usize, size in -6..7i32,
    ) {
        for arm in arms::devices().into_iter().map(Arm::Device) {
            check_random(&arm, seed, [rows, vocabulary, k], size);
        }
    }
}
