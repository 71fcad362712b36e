//! Norms backward, all three ways.

use half::bf16;
use proptest::prelude::*;
use toedit::device::{Buffer, Queue, View};
use toedit::model::config::NormKind::{self, Layer, Rms};
use toedit::ops::norm::{Norm, NormGradient};

use crate::common::arms::{self, Scalar};
use crate::common::oracle::{self, Expected};
use crate::common::oracle_rows::{self, NormGradients};
use crate::common::{samples, tolerance};

/// Around a warp's longest row, the vectors of a row, and what threads of a block take; those of models.
const SIZES: [usize; 15] = [1, 3, 4, 31, 64, 66, 511, 512, 513, 516, 576, 768, 1028, 1030, 2048];
const EPS: f32 = 1e-5;

/// One norm to take back, and which gradients of its parameters are wanted.
#[derive(Clone, Copy, Debug)]
struct Case {
    kind: NormKind,
    rows: usize,
    d: usize,
    weight: bool,
    wanted: [bool; 2],
    /// Where the parameters begin in their buffers.
    offset: usize,
}

/// Parameters and their gradients as a trainer holds them: parts of flat buffers, gradients on top of earlier ones.
struct Flat {
    case: Case,
    weight: Vec<f32>,
    before: [Vec<f32>; 2],
    buffers: [Buffer<f32>; 3],
    scratch: Buffer<f32>,
}

impl Flat {
    fn new(queue: &Queue, case: Case, rows: usize) -> Self {
        let Case { d, offset, .. } = case;
        let values = [101, 102, 103].map(|seed| samples::values::<f32>(seed, d));
        let upload = |values: &Vec<f32>| {
            let padded = [&vec![f32::NAN; offset][..], values, &[f32::NAN; 2]].concat();
            queue.upload(&padded).unwrap()
        };
        let buffers = values.each_ref().map(upload);
        let scratch = queue.alloc(Norm::scratch(rows, d)).unwrap();
        queue.fill(scratch.view(), 0xFF).unwrap();
        let [weight, dweight, dbias] = values;
        Self { case, weight, before: [dweight, dbias], buffers, scratch }
    }

    fn part(&self, index: usize) -> View<'_, f32> {
        let Case { d, offset, .. } = self.case;
        self.buffers[index].view().slice(offset..offset + d)
    }

    fn norm(&self) -> Norm<View<'_, f32>> {
        Norm { kind: self.case.kind, eps: EPS, weight: self.case.weight.then(|| self.part(0)), bias: None }
    }

    fn gradient(&self) -> NormGradient<'_> {
        let [weight, bias] = self.case.wanted;
        let [weight, bias] = [weight.then(|| self.part(1)), bias.then(|| self.part(2))];
        NormGradient { weight, bias, scratch: self.scratch.view() }
    }

    fn oracle(&self, x: &[f32], dy: &[f32]) -> NormGradients {
        let weight = self.case.weight.then_some(&self.weight[..]);
        oracle_rows::norm_backward(self.case.kind, EPS, weight, (x, dy), self.case.d)
    }

    /// Compares the gradients of the parameters; those that nobody wanted are what they were.
    fn check(&self, what: &str, queue: &Queue, expected: &NormGradients, rows: usize) {
        let Case { d, offset, wanted, .. } = self.case;
        for (index, expected) in [&expected.dweight, &expected.dbias].into_iter().enumerate() {
            let found = queue.download(self.buffers[index + 1].view()).unwrap();
            let (found, before) = (&found[offset..offset + d], &self.before[index]);
            if wanted[index] {
                let limit = tolerance::sum(rows + d);
                tolerance::assert_within(what, found.to_vec(), &on_top(before, expected), limit);
            } else {
                tolerance::assert_same_bits(what, found, before);
            }
        }
    }
}

/// Gradients on top of what was there.
fn on_top(before: &[f32], gradients: &[Expected]) -> Vec<Expected> {
    let mut sums = gradients.to_vec();
    let pairs = sums.iter_mut().zip(before);
    pairs.for_each(|(sum, x)| oracle_rows::add(sum, f64::from(*x), f64::from(x.abs())));
    sums
}

fn check<E: Scalar>(queue: &Queue, case: Case) {
    let Case { rows, d, .. } = case;
    let (x, dy) = (samples::values::<f32>(1, rows * d), samples::values::<E>(2, rows * d));
    let before = samples::values::<f32>(3, rows * d);
    let flat = Flat::new(queue, case, rows);
    let (x_on, dy_on) = (arms::upload::<f32>(queue, d, &x), arms::upload::<E>(queue, d, &dy));
    let dx_on = arms::upload::<f32>(queue, d, &before);
    flat.norm().backward_on(queue, x_on.view(), dy_on.view(), dx_on.view(), flat.gradient()).unwrap();
    let what = format!("{queue:?} {} {case:?}", E::NAME);
    let expected = flat.oracle(&x, &dy);
    let dx = on_top(&before, &expected.dx);
    tolerance::assert_within(&what, arms::read(queue, &dx_on), &dx, tolerance::sum(d));
    flat.check(&what, queue, &expected, rows);
}

fn check_added<E: Scalar>(queue: &Queue, case: Case) {
    let Case { rows, d, .. } = case;
    let (y, dx) = (samples::values::<f32>(4, rows * d), samples::values::<f32>(5, rows * d));
    let flat = Flat::new(queue, case, rows);
    let (y_on, dx_on) = (arms::upload::<f32>(queue, d, &y), arms::upload::<f32>(queue, d, &dx));
    let dy_on = arms::output::<E>(queue, rows, d);
    flat.norm().add_backward_on(queue, y_on.view(), dx_on.view(), dy_on.view(), flat.gradient()).unwrap();
    let what = format!("{queue:?} {} {case:?} added", E::NAME);
    let expected = flat.oracle(&y, &dx);
    let limit = tolerance::stored::<E>(d, 1);
    tolerance::assert_within(&what, arms::read(queue, &dy_on), &expected.dx, limit);
    tolerance::assert_same_bits(&what, &arms::read(queue, &dx_on), &dx);
    flat.check(&what, queue, &expected, rows);
}

/// Three heads with `before` values ahead of them and some behind, which stay.
fn check_heads<E: Scalar>(queue: &Queue, case: Case, before: usize) {
    let Case { rows, d, .. } = case;
    let columns = before..before + 3 * d;
    let width = columns.end + 5;
    let (x, dy) = (samples::values::<E>(6, rows * width), samples::values::<E>(7, rows * width));
    let flat = Flat::new(queue, case, 3 * rows);
    let (x_on, dy_on) = (arms::upload::<E>(queue, width, &x), arms::upload::<E>(queue, width, &dy));
    let (norm, gradient) = (flat.norm(), flat.gradient());
    norm.heads_backward_on(queue, x_on.view(), dy_on.view(), columns.clone(), d, gradient).unwrap();
    let what = format!("{queue:?} {} {case:?} heads from {before}", E::NAME);
    let heads = |values: &[f32]| -> Vec<f32> {
        values.chunks_exact(width).flat_map(|row| row[columns.clone()].iter().copied()).collect()
    };
    let found = arms::read(queue, &dy_on);
    let expected = flat.oracle(&heads(&x), &heads(&dy));
    tolerance::assert_within(&what, heads(&found), &expected.dx, tolerance::stored::<E>(d, 1));
    for (found, dy) in found.chunks_exact(width).zip(dy.chunks_exact(width)) {
        for rest in [0..columns.start, columns.end..width] {
            tolerance::assert_same_bits(&what, &found[rest.clone()], &dy[rest]);
        }
    }
    flat.check(&what, queue, &expected, 3 * rows);
}

fn check_all(queue: &Queue, case: Case) {
    check::<f32>(queue, case);
    check::<bf16>(queue, case);
    check_added::<f32>(queue, case);
    check_added::<bf16>(queue, case);
    check_heads::<f32>(queue, case, 6);
    check_heads::<bf16>(queue, case, 8);
}

#[test]
fn every_size_is_the_oracle() {
    for queue in arms::queues() {
        for (index, d) in SIZES.into_iter().enumerate() {
            for (kind, weight) in [(Layer, true), (Rms, true), (Rms, false)] {
                let offset = [0, 3][index % 2];
                check_all(&queue, Case { kind, rows: 3, d, weight, wanted: [true; 2], offset });
            }
        }
    }
}

/// Around the rows of a chunk.
#[test]
fn every_number_of_rows_and_every_set_of_gradients_is_the_oracle() {
    for queue in arms::queues() {
        for rows in [1, 15, 16, 17, 50] {
            for wanted in [[false, false], [true, false], [false, true], [true, true]] {
                for d in [12, 520] {
                    check_all(&queue, Case { kind: Layer, rows, d, weight: true, wanted, offset: 0 });
                }
            }
        }
    }
}

/// Up to and past what a block's registers and shared memory hold.
#[test]
fn long_rows_are_the_oracle() {
    for queue in arms::queues() {
        for d in [8188, 8192, 8196] {
            let case = Case { kind: Layer, rows: 2, d, weight: true, wanted: [true; 2], offset: 0 };
            check::<f32>(&queue, case);
            check::<bf16>(&queue, case);
        }
    }
}

/// More rows than chunks of the fewest rows.
#[test]
fn many_rows_are_the_oracle() {
    for queue in arms::queues() {
        let case = Case { kind: Rms, rows: 4300, d: 4, weight: true, wanted: [true; 2], offset: 0 };
        check::<f32>(&queue, case);
    }
}

#[test]
fn nothing_is_done_without_rows() {
    for queue in arms::queues() {
        check_all(&queue, Case { kind: Rms, rows: 0, d: 8, weight: true, wanted: [true; 2], offset: 0 });
    }
}

/// The bits of all gradients, computed by `threads` threads.
fn bits(threads: usize) -> Vec<f32> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let queue = Queue::open(toedit::Device::Cpu).unwrap();
        let (rows, d) = (200, 48);
        let case = Case { kind: Layer, rows, d, weight: true, wanted: [true; 2], offset: 0 };
        let flat = Flat::new(&queue, case, rows);
        let [x, dx] =
            [1, 2].map(|seed| arms::upload::<f32>(&queue, d, &samples::values::<f32>(seed, rows * d)));
        let dy = arms::upload::<bf16>(&queue, d, &samples::values::<bf16>(3, rows * d));
        flat.norm().backward_on(&queue, x.view(), dy.view(), dx.view(), flat.gradient()).unwrap();
        let parts = [1, 2].map(|index| queue.download(flat.part(index)).unwrap());
        [arms::read(&queue, &dx), parts.concat()].concat()
    })
}

#[test]
fn threads_do_not_change_a_bit() {
    tolerance::assert_same_bits("threads", &bits(1), &bits(5));
}

#[test]
fn the_oracle_is_the_derivative() {
    let (d, rows) = (7, 3);
    let (x, dy) = (samples::values::<bf16>(1, rows * d), samples::values::<bf16>(2, rows * d));
    let (weight, bias) = (samples::values::<bf16>(3, d), samples::values::<bf16>(4, d));
    for kind in [Layer, Rms] {
        let loss = |x: &[f32], weight: &[f32], bias: &[f32]| -> f64 {
            let rows = x.chunks_exact(d).flat_map(|x| oracle::norm(kind, EPS, Some(weight), Some(bias), x));
            rows.zip(&dy).map(|(y, dy)| y.value * f64::from(*dy)).sum()
        };
        let gradients = oracle_rows::norm_backward(kind, EPS, Some(&weight), (&x, &dy), d);
        let differences = [
            (&gradients.dx, oracle_rows::numeric(&x, |x| loss(x, &weight, &bias))),
            (&gradients.dweight, oracle_rows::numeric(&weight, |weight| loss(&x, weight, &bias))),
            (&gradients.dbias, oracle_rows::numeric(&bias, |bias| loss(&x, &weight, bias))),
        ];
        for (analytic, numeric) in differences {
            oracle_rows::assert_differentiates(&format!("{kind:?}"), analytic, &numeric);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn random_shapes_are_the_oracle(
        d in 1..200usize, rows in 1..40usize, layer: bool, weight: bool, wanted: [bool; 2], offset in 0..5usize,
    ) {
        let kind = if layer { Layer } else { Rms };
        let case = Case { kind, rows, d, weight, wanted, offset };
        arms::queues().iter().for_each(|queue| check_all(queue, case));
    }
}

#[test]
#[should_panic(expected = "scratch of")]
fn too_little_scratch_panics() {
    let queue = Queue::open(toedit::Device::Cpu).unwrap();
    let (rows, d) = (33, 8);
    let [x, dy, dx] = [(); 3].map(|()| arms::upload::<f32>(&queue, d, &vec![1.0; rows * d]));
    let scratch = queue.alloc(Norm::scratch(rows, d) - 1).unwrap();
    let gradient = NormGradient { weight: None, bias: None, scratch: scratch.view() };
    let norm = Norm::<View<'_, f32>> { kind: Rms, eps: EPS, weight: None, bias: None };
    norm.backward_on(&queue, x.view(), dy.view(), dx.view(), gradient).unwrap();
}
