//! Products of a block of rows by a layer's weights; the throughput is in floating-point operations.

use criterion::{Criterion, Throughput};
use half::bf16;
use toedit::ops::matmul::{Panels, Rows, matmul};
use toedit::tensor::{Element, PANEL};

use crate::common::{oracle, samples, tolerance};

/// Rows, outputs and inputs: a block by the MLP's matrices, and a single row.
const SHAPES: [[usize; 3]; 3] = [[120, 1536, 576], [120, 576, 1536], [1, 1536, 576]];

pub fn bench(criterion: &mut Criterion) {
    SHAPES.into_iter().for_each(|shape| bench_type::<f32>(criterion, shape));
    SHAPES.into_iter().for_each(|shape| bench_type::<bf16>(criterion, shape));
}

fn bench_type<E: Element>(criterion: &mut Criterion, [rows, n, k]: [usize; 3]) {
    let (a, w) = (samples::values::<E>(1, rows * k), samples::values::<E>(2, n * k));
    let (matrix, data) = (samples::matrix::<E>(&w, n, k), samples::padded::<E>(&a, k));
    let a_rows = Rows { data: &data, stride: k.next_multiple_of(E::GROUP), rows };
    let panels = Panels::of(&matrix, 0, n.div_ceil(PANEL));
    let width = panels.count * PANEL;
    let mut out = vec![f32::NAN; rows * width];
    matmul(a_rows, panels, &mut out, width);
    let kept = out.chunks_exact(width).flat_map(|row| &row[..n]).copied();
    tolerance::assert_within("matmul", kept, &oracle::matmul(&a, &w, k), tolerance::sum(k));

    let mut group = criterion.benchmark_group("matmul");
    group.throughput(Throughput::Elements(2 * (rows * n * k) as u64));
    group.bench_function(format!("{}/{rows}x{n}x{k}", E::NAME), |bencher| {
        bencher.iter(|| matmul(a_rows, panels, &mut out, width));
    });
}
