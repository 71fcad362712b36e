//! The ops of training that are bound by memory, on a GPU; the throughput is in bytes moved, to be held against the copy of
//! `bandwidth`.

use criterion::Criterion;
use half::bf16;
use toedit::device::{Queue, View};
use toedit::model::config::{Activation, NormKind};
use toedit::ops::activation::activate_backward_on;
use toedit::ops::elementwise::{column_sums_on, column_sums_scratch};
use toedit::ops::embedding::{Runs, embed_backward_on};
use toedit::ops::norm::{Norm, NormGradient};
use toedit::ops::optimizer::{AdamW, Parameters, SUMS, sum_of_squares_on};

use crate::bandwidth::{Group, last, rows, time};
use crate::common::oracle::Expected;
use crate::common::{arms, oracle_rows, samples, tolerance};
use crate::gpu::{self, SHAPES};

pub fn bench(criterion: &mut Criterion) {
    for queue in gpu::devices() {
        let mut group = criterion.benchmark_group(format!("bandwidth of training/{}", queue.device()));
        for &width in &SHAPES.bandwidth.widths {
            norms(&mut group, &queue, width);
            activation(&mut group, &queue, width);
            bias(&mut group, &queue, width);
            embedding(&mut group, &queue, width);
            adamw(&mut group, &queue, width);
            clip(&mut group, &queue, width);
        }
    }
}

/// Into a residual stream, with the gradient of a weight.
fn norms(group: &mut Group, queue: &Queue, width: usize) {
    let x = arms::upload::<f32>(queue, width, &samples::values::<f32>(1, rows() * width));
    let dy = arms::upload::<bf16>(queue, width, &samples::values::<bf16>(2, rows() * width));
    let (row, given) = (last(queue, &x), last(queue, &dy));
    let values = samples::values::<f32>(3, width);
    let (weight, dweight) = (queue.upload(&values).unwrap(), queue.upload(&values).unwrap());
    let scratch = queue.alloc(Norm::scratch(rows(), width)).unwrap();
    let gradient = NormGradient { weight: Some(dweight.view()), bias: None, scratch: scratch.view() };
    for (kind, name) in [(NormKind::Rms, "rms_norm backward"), (NormKind::Layer, "layer_norm backward")] {
        let dx = arms::upload::<f32>(queue, width, &vec![0.0; rows() * width]);
        let norm = Norm { kind, eps: 1e-5, weight: Some(weight.view()), bias: None };
        let launch = || norm.backward_on(queue, x.view(), dy.view(), dx.view(), gradient);
        launch().unwrap();
        let expected = oracle_rows::norm_backward(kind, 1e-5, Some(&values), (&row, &given), width);
        tolerance::assert_within(name, last(queue, &dx), &expected.dx, tolerance::sum(width));
        time(group, queue, name, (width, 14), launch);
    }
}

/// Without a gate, so that what is overwritten again and again stays away from zero.
fn activation(group: &mut Group, queue: &Queue, width: usize) {
    let [x, dy] =
        [1, 2].map(|seed| arms::upload::<bf16>(queue, width, &samples::values::<bf16>(seed, rows() * width)));
    let (row, given) = (last(queue, &x), last(queue, &dy));
    let launch = || activate_backward_on(queue, Activation::GeluTanh, x.view(), None, dy.view());
    launch().unwrap();
    let gradient =
        |(x, dy): (&f32, &f32)| oracle_rows::activate_backward(Activation::GeluTanh, *x, 1.0, *dy)[0];
    let expected: Vec<_> = row.iter().zip(&given).map(gradient).collect();
    tolerance::assert_within("gelu", last(queue, &x), &expected, tolerance::stored::<bf16>(1, 1));
    time(group, queue, "gelu backward", (width, 6), launch);
}

fn bias(group: &mut Group, queue: &Queue, width: usize) {
    let values = samples::values::<bf16>(1, rows() * width);
    let dy = arms::upload::<bf16>(queue, width, &values);
    let dbias = queue.upload(&vec![0.0f32; width]).unwrap();
    let scratch = queue.alloc(column_sums_scratch(rows(), width)).unwrap();
    let launch = || column_sums_on(queue, dy.view(), scratch.view(), dbias.view());
    launch().unwrap();
    let expected = oracle_rows::sum_rows(&vec![0.0; width], &values, 0..rows());
    let found = queue.download(dbias.view()).unwrap();
    tolerance::assert_within("bias", found, &expected, tolerance::sum(rows()));
    time(group, queue, "gradient of a bias", (width, 2), launch);
}

/// Ids as frequent as words: half of the rows share a few hundred.
fn embedding(group: &mut Group, queue: &Queue, width: usize) {
    const VOCABULARY: usize = 50_257;
    let [some, all] = [samples::ids(1, rows(), 300), samples::ids(2, rows(), VOCABULARY)];
    let ids: Vec<u32> =
        some.iter().zip(&all).map(|(some, all)| if all % 2 == 0 { *some } else { *all }).collect();
    let values = samples::values::<f32>(3, rows() * width);
    let dx = arms::upload::<f32>(queue, width, &values);
    let dweight = arms::upload::<f32>(queue, width, &vec![0.0; VOCABULARY * width]);
    let mut runs = Runs::new(queue, rows()).unwrap();
    runs.write(queue, &ids).unwrap();
    let launch = || embed_backward_on(queue, &runs, dx.view(), dweight.view());
    launch().unwrap();
    let equal = || (0..rows()).filter(|row| ids[*row] == ids[0]);
    let expected = oracle_rows::sum_rows(&vec![0.0; width], &values, equal());
    let found = dweight.view().rows(ids[0] as usize..ids[0] as usize + 1).read(queue).unwrap();
    tolerance::assert_within("embedding", found, &expected, tolerance::sum(equal().count()));
    time(group, queue, "embedding backward", (width, 4), launch);
}

fn adamw(group: &mut Group, queue: &Queue, width: usize) {
    const STEP: AdamW =
        AdamW { learning_rate: 1e-3, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, step: 1 };
    let n = rows() * width;
    let [weights, gradients] = [1, 2].map(|seed| samples::values::<f32>(seed, n));
    let [weight, gradient] = [&weights, &gradients].map(|values| queue.upload(values).unwrap());
    let [m, v] = [(); 2].map(|()| queue.upload(&vec![0.0f32; n]).unwrap());
    let rounded = queue.alloc::<bf16>(n).unwrap();
    let parameters = Parameters {
        weight: weight.view(),
        gradient: gradient.view(),
        exp_avg: m.view(),
        exp_avg_sq: v.view(),
        rounded: Some(rounded.view()),
        decayed: n,
    };
    let launch = || STEP.step_on(queue, 1.0, &parameters);
    launch().unwrap();
    let [value, ..] =
        oracle_rows::adamw(&STEP, true, [weights[n - 1].into(), 0.0, 0.0], gradients[n - 1].into());
    let expected = [Expected { value, scale: value.abs() + 1e-3 }];
    tolerance::assert_within("adamw", end(queue, weight.view()), &expected, tolerance::sum(1));
    time(group, queue, "adamw", (width, 30), launch);
}

/// The last of many values.
fn end(queue: &Queue, values: View<'_, f32>) -> Vec<f32> {
    queue.download(values.slice(values.len() - 1..values.len())).unwrap()
}

/// The norm of a gradient, with the host's wait for it.
fn clip(group: &mut Group, queue: &Queue, width: usize) {
    let values = samples::values::<f32>(1, rows() * width);
    let expected: f64 = values.iter().map(|x| f64::from(*x).powi(2)).sum();
    let (values, scratch) = (queue.upload(&values).unwrap(), queue.alloc(SUMS).unwrap());
    let sum = || sum_of_squares_on(queue, values.view(), scratch.view());
    let found = sum().unwrap();
    assert!((found - expected).abs() <= 1e-12 * expected, "{found} against {expected}");
    time(group, queue, "sum of squares", (width, 4), || sum().map(drop));
}
