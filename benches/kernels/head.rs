//! Scoring a batch of rows over a whole vocabulary, on all threads or on a GPU; the throughput is in floating-point
//! operations of the product.

use criterion::{Criterion, Throughput};
use half::bf16;
use toedit::ops::head::{Head, Scored, Scratch};
use toedit::ops::matmul::Rows;
use toedit::tensor::Element;

use crate::common::{oracle, samples, tolerance};

const ROWS: usize = 96;
const VOCABULARY: usize = 49_152;
const HIDDEN: usize = 576;

pub fn bench(criterion: &mut Criterion) {
    bench_type::<f32>(criterion);
    bench_type::<bf16>(criterion);
    #[cfg(feature = "cuda")]
    device::bench(criterion);
}

fn bench_type<E: Element>(criterion: &mut Criterion) {
    let hidden = samples::values::<E>(1, ROWS * HIDDEN);
    let weights = samples::values::<E>(2, VOCABULARY * HIDDEN);
    let targets = samples::ids(3, ROWS, VOCABULARY);
    let (matrix, data) =
        (samples::matrix::<E>(&weights, VOCABULARY, HIDDEN), samples::padded::<E>(&hidden, HIDDEN));
    let rows = Rows { data: &data, stride: HIDDEN, rows: ROWS };
    let mut scratch = Scratch::default();

    let mut group = criterion.benchmark_group("head");
    group.throughput(Throughput::Elements(2 * (ROWS * VOCABULARY * HIDDEN) as u64));
    for entropy in [false, true] {
        let head = Head { hidden: rows, weight: &matrix, targets: &targets, entropy };
        check(&hidden[..HIDDEN], &weights, head.targets[0], head.score(&mut scratch)[0], entropy);
        let name = if entropy { "statistics and entropy" } else { "statistics" };
        group.bench_function(format!("{}/{name}", E::NAME), |bencher| {
            bencher.iter(|| head.score(&mut scratch));
        });
    }
}

/// Compares one row with the oracle.
fn check(hidden: &[f32], weights: &[f32], target: u32, scored: Scored, entropy: bool) {
    let logits = oracle::matmul(hidden, weights, hidden.len());
    let expected = oracle::head(&logits, target as usize);
    let found = [scored.statistics.log_probability(), scored.entropy];
    let count = if entropy { 2 } else { 1 };
    tolerance::assert_within(
        "head",
        found.into_iter().take(count),
        &expected[..count],
        tolerance::sum(hidden.len()),
    );
}

#[cfg(feature = "cuda")]
mod device {
    use std::time::Instant;

    use toedit::device::{Device, Kernels, Queue};
    use toedit::ops::head::Scores;

    use super::*;
    use crate::common::arms;

    const ROWS: usize = 8192;
    /// Vocabulary and hidden size of GPT-2 and of Llama-3.2-1B.
    const WEIGHTS: [[usize; 2]; 2] = [[50_257, 768], [128_256, 2048]];

    pub fn bench(criterion: &mut Criterion) {
        for queue in arms::devices().into_iter().filter(|queue| queue.device() != Device::Emulator) {
            WEIGHTS.into_iter().for_each(|shape| bench_type::<bf16>(criterion, &queue, shape));
            bench_type::<f32>(criterion, &queue, WEIGHTS[0]);
        }
    }

    fn bench_type<E: Kernels>(criterion: &mut Criterion, queue: &Queue, [vocabulary, width]: [usize; 2]) {
        let values = samples::values::<E>(1, ROWS * width);
        let weights = samples::values::<E>(2, vocabulary * width);
        let ids = samples::ids(3, ROWS, vocabulary);
        let hidden = arms::upload::<E>(queue, width, &values);
        let weight = arms::upload::<E>(queue, width, &weights);
        let targets = queue.upload(&ids).unwrap();
        let mut group = criterion.benchmark_group(format!("head/{}", queue.device()));
        group.throughput(Throughput::Elements(2 * (ROWS * vocabulary * width) as u64));
        for entropy in [false, true] {
            let scores = Scores::new(queue, ROWS, vocabulary, entropy, None).unwrap();
            let score = || scores.score(queue, hidden.view(), weight.view(), targets.view()).unwrap();
            score();
            let scored = scores.read(queue, &queue.mark().unwrap(), 1).unwrap()[0];
            check(&values[..width], &weights, ids[0], scored, entropy);
            let name = if entropy { "statistics and entropy" } else { "statistics" };
            group.bench_function(format!("{}/{ROWS}x{vocabulary}x{width}/{name}", E::NAME), |bencher| {
                bencher.iter_custom(|launches| {
                    queue.synchronize().unwrap();
                    let start = Instant::now();
                    (0..launches).for_each(|_| score());
                    queue.synchronize().unwrap();
                    start.elapsed()
                });
            });
        }
    }
}
