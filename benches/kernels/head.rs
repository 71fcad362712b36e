//! Scoring a batch of rows over a whole vocabulary, on all threads; the throughput is in floating-point operations of
//! the product.

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
        check(&head, &hidden[..HIDDEN], &weights, head.score(&mut scratch)[0]);
        let name = if entropy { "statistics and entropy" } else { "statistics" };
        group.bench_function(format!("{}/{name}", E::NAME), |bencher| {
            bencher.iter(|| head.score(&mut scratch));
        });
    }
}

/// Compares one row with the oracle.
fn check<E: Element>(head: &Head<E>, hidden: &[f32], weights: &[f32], scored: Scored) {
    let logits = oracle::matmul(hidden, weights, HIDDEN);
    let expected = oracle::head(&logits, head.targets[0] as usize);
    let found = [scored.statistics.log_probability(), scored.entropy];
    let count = if head.entropy { 2 } else { 1 };
    tolerance::assert_within(
        "head",
        found.into_iter().take(count),
        &expected[..count],
        tolerance::sum(HIDDEN),
    );
}
