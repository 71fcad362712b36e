//! Products of rows by a layer's weights, a block on the CPU and a pack on a GPU; the throughput is in floating-point
//! operations.

use criterion::{Criterion, Throughput};
use half::bf16;
use toedit::Device;
use toedit::device::{Kernels, Queue, View};
use toedit::ops::matmul::{Layout, Panels, Rows, matmul, multiply_on};
use toedit::tensor::{Element, PANEL};

use crate::common::{arms, oracle, samples, tolerance};

/// Rows, outputs and inputs: a block by the MLP's matrices, and a single row.
const SHAPES: [[usize; 3]; 3] = [[120, 1536, 576], [120, 576, 1536], [1, 1536, 576]];
/// Weights of a Llama of ten million parameters, outputs and inputs, and the tokens of a step of its training.
const TRAINED: [[usize; 2]; 4] = [[768, 256], [688, 256], [256, 688], [8192, 256]];
const TOKENS: usize = 1024;
/// Rows of results that are compared.
const CHECKED: usize = 3;

pub fn bench(criterion: &mut Criterion) {
    SHAPES.into_iter().for_each(|shape| bench_type::<f32>(criterion, shape));
    SHAPES.into_iter().for_each(|shape| bench_type::<bf16>(criterion, shape));
    TRAINED.into_iter().for_each(|weights| bench_step::<f32>(criterion, weights));
    TRAINED.into_iter().for_each(|weights| bench_step::<bf16>(criterion, weights));
    #[cfg(feature = "cuda")]
    device::bench(criterion);
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

/// The three products of a step by all threads, which pack their operands: forward, and the gradients of inputs and weights.
fn bench_step<E: Kernels>(criterion: &mut Criterion, [outputs, inputs]: [usize; 2]) {
    let queue = Queue::open(Device::Cpu).expect("the host is always there");
    let [x, w, dy] = [(1, TOKENS, inputs), (2, outputs, inputs), (3, TOKENS, outputs)]
        .map(|(seed, rows, width)| (width, samples::values::<E>(seed, rows * width)));
    let [x, w, dy] = [x, w, dy].map(|(width, values)| (arms::upload::<E>(&queue, width, &values), values));
    let expected = oracle::matmul(&x.1[..CHECKED * inputs], &w.1, inputs);
    let mut group = criterion.benchmark_group("matmul/step");
    group.throughput(Throughput::Elements(2 * (TOKENS * outputs * inputs) as u64));
    for (layout, a, b, [m, n]) in [
        (Layout::Nt, &x, &w, [TOKENS, outputs]),
        (Layout::Nn, &dy, &w, [TOKENS, inputs]),
        (Layout::Tn, &dy, &x, [outputs, inputs]),
    ] {
        let out = arms::output::<E>(&queue, m, n);
        let run = || multiply_on(&queue, layout, a.0.view(), b.0.view(), View::none(), out.view());
        run().expect("the host does not fail");
        if layout == Layout::Nt {
            let found = out.first(CHECKED).read(&queue).expect("the host does not fail");
            tolerance::assert_within("matmul", found, &expected, tolerance::stored::<E>(inputs, 1));
        }
        group.bench_function(format!("{}/{layout:?}/{outputs}x{inputs}", E::NAME), |bencher| {
            bencher.iter(run)
        });
    }
}

/// What the model calls, which may be a vendor's library, and our kernel.
#[cfg(feature = "cuda")]
mod device {
    use criterion::measurement::WallTime;
    use criterion::{BenchmarkGroup, BenchmarkId};
    use toedit::Result;
    use toedit::ops::matmul::{multiply_add_on, product, product_add};

    use super::*;
    use crate::gpu::{self, SHAPES};

    pub fn bench(criterion: &mut Criterion) {
        let weights = &SHAPES.matmul.weights;
        for queue in gpu::devices() {
            let mut group = criterion.benchmark_group(format!("matmul/{}", queue.device()));
            weights.iter().for_each(|shape| bench_type::<f32>(&mut group, &queue, *shape));
            weights.iter().for_each(|shape| bench_type::<bf16>(&mut group, &queue, *shape));
            weights.iter().for_each(|shape| bench_gradients(&mut group, &queue, *shape));
        }
    }

    fn bench_type<E: Kernels>(group: &mut BenchmarkGroup<'_, WallTime>, queue: &Queue, [n, k]: [usize; 2]) {
        let rows = SHAPES.matmul.rows;
        let (a, w) = (samples::values::<E>(1, rows * k), samples::values::<E>(2, n * k));
        let (x, weight) = (arms::upload::<E>(queue, k, &a), arms::upload::<E>(queue, k, &w));
        let out = arms::output::<E>(queue, rows, n);
        let (x, weight) = (x.view(), weight.view());
        let ours = || multiply_on(queue, Layout::Nt, x, weight, View::none(), out.view());
        let models = || product(queue, Layout::Nt, x, weight, None, out.view());
        group.throughput(Throughput::Elements(2 * (rows * n * k) as u64));
        let ways: [(&str, &dyn Fn() -> Result<()>); 2] = [("kernel", &ours), ("model", &models)];
        for (name, run) in ways {
            run().unwrap();
            let found = out.first(CHECKED).read(queue).unwrap();
            let expected = oracle::matmul(&a[..CHECKED * k], &w, k);
            tolerance::assert_within("matmul", found, &expected, tolerance::stored::<E>(k, 1));
            let id = BenchmarkId::new(format!("{}/{name}", E::NAME), format!("{rows}x{n}x{k}"));
            group.bench_function(id, |bencher| gpu::time(bencher, queue, run));
        }
    }
    /// What backward asks for: the gradients of inputs, and those of weights on top of earlier ones.
    fn bench_gradients(group: &mut BenchmarkGroup<'_, WallTime>, queue: &Queue, [n, k]: [usize; 2]) {
        let rows = SHAPES.matmul.rows;
        let [x, dy, w] =
            [(1, rows * k), (2, rows * n), (3, n * k)].map(|(seed, len)| samples::values::<bf16>(seed, len));
        let [x_rows, dy_rows, weight] =
            [(&x, k), (&dy, n), (&w, k)].map(|(values, width)| arms::upload::<bf16>(queue, width, values));
        let (dx, dweight) = (arms::output::<bf16>(queue, rows, k), arms::output::<f32>(queue, n, k));
        let (a, b, weight, out) = (dy_rows.view(), x_rows.view(), weight.view(), dweight.view());
        let checked = transposed(&dy, n).take(CHECKED * rows).collect::<Vec<_>>();
        let expected = [
            oracle::matmul(&dy[..CHECKED * n], &transposed(&w, k).collect::<Vec<_>>(), n),
            oracle::matmul(&checked, &transposed(&x, k).collect::<Vec<_>>(), rows),
        ];
        let ways: [(&str, &dyn Fn() -> Result<()>); 4] = [
            ("kernel Nn", &|| multiply_on(queue, Layout::Nn, a, weight, View::none(), dx.view())),
            ("model Nn", &|| product(queue, Layout::Nn, a, weight, None, dx.view())),
            ("kernel Tn", &|| multiply_add_on(queue, Layout::Tn, a, b, View::none(), out)),
            ("model Tn", &|| product_add(queue, Layout::Tn, a, b, None, out)),
        ];
        group.throughput(Throughput::Elements(2 * (rows * n * k) as u64));
        for (name, run) in ways {
            queue.fill(out.data, 0).unwrap();
            run().unwrap();
            if name.ends_with("Nn") {
                let found = dx.first(CHECKED).read(queue).unwrap();
                tolerance::assert_within(name, found, &expected[0], tolerance::stored::<bf16>(n, 1));
            } else {
                let found = dweight.first(CHECKED).read(queue).unwrap();
                tolerance::assert_within(name, found, &expected[1], tolerance::sum(rows));
            }
            let id = BenchmarkId::new(format!("bf16/{name}"), format!("{rows}x{n}x{k}"));
            group.bench_function(id, |bencher| gpu::time(bencher, queue, run));
        }
    }

    /// Row-major values with rows of `width`, column by column.
    fn transposed(values: &[f32], width: usize) -> impl Iterator<Item = f32> {
        (0..width).flat_map(move |column| values.iter().skip(column).step_by(width).copied())
    }
}
