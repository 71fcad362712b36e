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
    use toedit::device::{Kernels, Queue};
    use toedit::ops::head::Scores;

    use super::*;
    use crate::common::arms;
    use crate::gpu::{self, SHAPES};

    pub fn bench(criterion: &mut Criterion) {
        let weights = &SHAPES.head.weights;
        for queue in gpu::devices() {
            weights.iter().for_each(|shape| bench_type::<bf16>(criterion, &queue, *shape));
            bench_type::<f32>(criterion, &queue, weights[0]);
        }
    }

    fn bench_type<E: Kernels>(criterion: &mut Criterion, queue: &Queue, [vocabulary, width]: [usize; 2]) {
        let rows = SHAPES.head.rows;
        let values = samples::values::<E>(1, rows * width);
        let weights = samples::values::<E>(2, vocabulary * width);
        let ids = samples::ids(3, rows, vocabulary);
        let hidden = arms::upload::<E>(queue, width, &values);
        let weight = arms::upload::<E>(queue, width, &weights);
        let targets = queue.upload(&ids).unwrap();
        let mut group = criterion.benchmark_group(format!("head/{}", queue.device()));
        group.throughput(Throughput::Elements(2 * (rows * vocabulary * width) as u64));
        for entropy in [false, true] {
            let scores = Scores::new(queue, rows, vocabulary, entropy, None).unwrap();
            let score = || scores.score(queue, hidden.view(), weight.view(), targets.view());
            score().unwrap();
            let scored = scores.read(queue, &queue.mark().unwrap(), 1).unwrap()[0];
            check(&values[..width], &weights, ids[0], scored, entropy);
            let name = if entropy { "statistics and entropy" } else { "statistics" };
            group.bench_function(format!("{}/{rows}x{vocabulary}x{width}/{name}", E::NAME), |bencher| {
                gpu::time(bencher, queue, score);
            });
        }
    }
}
