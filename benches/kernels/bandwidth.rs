//! The ops that are bound by memory, on a GPU; the throughput is in bytes moved. A copy comes first: what there is to
//! reach.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};
use half::bf16;
use toedit::Result;
use toedit::device::{Matrix, Queue, Rows};
use toedit::model::config::{Activation, NormKind, Rope, RopeScaling};
use toedit::ops::activation::activate_on;
use toedit::ops::elementwise::convert_on;
use toedit::ops::embedding::embed_on;
use toedit::ops::norm::Norm;
use toedit::ops::rope::Rotary;

use crate::common::oracle::{self, Expected};
use crate::common::{arms, samples, tolerance};
use crate::gpu::{self, SHAPES};

const HEAD_DIM: usize = 64;

pub type Group<'a> = BenchmarkGroup<'a, WallTime>;

pub fn bench(criterion: &mut Criterion) {
    for queue in gpu::devices() {
        let mut group = criterion.benchmark_group(format!("bandwidth/{}", queue.device()));
        for &width in &SHAPES.bandwidth.widths {
            let x = arms::upload::<f32>(&queue, width, &samples::values::<f32>(1, rows() * width));
            copy(&mut group, &queue, &x);
            norms(&mut group, &queue, &x);
            embedding(&mut group, &queue, &x);
            heads(&mut group, &queue, width);
            gate(&mut group, &queue, width);
        }
    }
}

/// Tokens of a pack.
pub fn rows() -> usize {
    SHAPES.bandwidth.rows
}

/// Times launches end to end, `bytes` moved by each value of a matrix.
pub fn time(
    group: &mut Group,
    queue: &Queue,
    name: &str,
    (width, bytes): (usize, usize),
    launch: impl Fn() -> Result<()>,
) {
    group.throughput(Throughput::Bytes((rows() * width * bytes) as u64));
    group.bench_function(format!("{name}/{width}"), |bencher| gpu::time(bencher, queue, &launch));
}

/// Runs an op once and compares its last row.
fn check(queue: &Queue, launch: impl Fn() -> Result<()>, out: Rows<'_, bf16>, expected: &[Expected]) {
    launch().unwrap();
    let row = out.rows(rows() - 1..rows()).read(queue).unwrap();
    tolerance::assert_within("last row", row, expected, tolerance::stored::<bf16>(expected.len(), 1));
}

/// The values of the last row.
pub fn last<E: toedit::tensor::Element>(queue: &Queue, matrix: &Matrix<E>) -> Vec<f32> {
    matrix.view().rows(rows() - 1..rows()).read(queue).unwrap()
}

fn copy(group: &mut Group, queue: &Queue, x: &Matrix<f32>) {
    let width = x.view().width;
    let out = Matrix::<f32>::new(queue, rows(), width).unwrap();
    let launch = || convert_on(queue, x.view(), out.view());
    launch().unwrap();
    tolerance::assert_same_bits("copy", &last(queue, &out), &last(queue, x));
    time(group, queue, "copy", (width, 8), launch);
}

fn norms(group: &mut Group, queue: &Queue, x: &Matrix<f32>) {
    let width = x.view().width;
    let values = samples::values::<f32>(2, width);
    let weight = queue.upload(&values).unwrap();
    let out = Matrix::<bf16>::new(queue, rows(), width).unwrap();
    for (kind, name) in [(NormKind::Rms, "rms_norm"), (NormKind::Layer, "layer_norm")] {
        let norm = Norm { kind, eps: 1e-5, weight: Some(weight.view()), bias: None };
        let launch = || norm.forward_on(queue, x.view(), None, out.view());
        let expected = oracle::norm(kind, 1e-5, Some(&values), None, &last(queue, x));
        check(queue, launch, out.view(), &expected);
        time(group, queue, name, (width, 6), launch);
    }
}

fn embedding(group: &mut Group, queue: &Queue, x: &Matrix<f32>) {
    const VOCABULARY: usize = 50_257;
    let width = x.view().width;
    let table = arms::upload::<bf16>(queue, width, &samples::values::<bf16>(3, VOCABULARY * width));
    let ids = samples::ids(4, rows(), VOCABULARY);
    let row = table.view().rows(ids[rows() - 1] as usize..ids[rows() - 1] as usize + 1).read(queue).unwrap();
    let (ids, out) = (queue.upload(&ids).unwrap(), Matrix::<f32>::new(queue, rows(), width).unwrap());
    let launch = || embed_on(queue, table.view(), None, ids.view(), ids.view(), out.view());
    launch().unwrap();
    tolerance::assert_same_bits("embedding", &last(queue, &out), &row);
    time(group, queue, "embedding", (width, 6), launch);
}

/// Rotations and norms of queries and keys in place.
fn heads(group: &mut Group, queue: &Queue, width: usize) {
    let rope = Rope { rotary_dim: HEAD_DIM, theta: 10_000.0, scaling: RopeScaling::None };
    let rotary = Rotary::new(&rope, rows()).upload(queue).unwrap();
    let positions = queue.upload(&(0..rows() as u32).collect::<Vec<_>>()).unwrap();
    let x = arms::upload::<bf16>(queue, width, &samples::values::<bf16>(5, rows() * width));
    let row = last(queue, &x);
    let frequencies = rope.inverse_frequencies();
    let rotated = |head| oracle::rotate(head, &frequencies, rows() - 1);
    let expected: Vec<_> = row.chunks_exact(HEAD_DIM).flat_map(rotated).collect();
    let launch = || rotary.apply_on(queue, x.view(), HEAD_DIM, positions.view());
    check(queue, launch, x.view(), &expected);
    time(group, queue, "rope", (width, 4), launch);

    let norm = Norm { kind: NormKind::Rms, eps: 1e-5, weight: None, bias: None };
    let row = last(queue, &x);
    let normalised = |head| oracle::norm(NormKind::Rms, 1e-5, None, None, head);
    let expected: Vec<_> = row.chunks_exact(HEAD_DIM).flat_map(normalised).collect();
    let launch = || norm.heads_on(queue, x.view(), 0..width, HEAD_DIM);
    check(queue, launch, x.view(), &expected);
    time(group, queue, "norm of heads", (width, 4), launch);
}

fn gate(group: &mut Group, queue: &Queue, width: usize) {
    let [gate, up] =
        [6, 7].map(|seed| arms::upload::<bf16>(queue, width, &samples::values::<bf16>(seed, rows() * width)));
    let out = Matrix::<bf16>::new(queue, rows(), width).unwrap();
    let rows = (last(queue, &gate), last(queue, &up));
    for (activation, name) in [(Activation::Silu, "swiglu"), (Activation::GeluTanh, "geglu")] {
        let launch = || activate_on(queue, activation, gate.view(), Some(up.view()), out.view());
        let pairs = rows.0.iter().zip(&rows.1);
        let expected: Vec<_> = pairs.map(|(x, up)| oracle::activate(activation, *x, *up)).collect();
        check(queue, launch, out.view(), &expected);
        time(group, queue, name, (width, 6), launch);
    }
}
