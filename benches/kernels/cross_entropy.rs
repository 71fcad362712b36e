//! Losses of rows of logits and their gradients, as a step of training has them; the throughput is in logits.

use criterion::{Criterion, Throughput};
use half::bf16;
use toedit::Device;
use toedit::device::{Kernels, Queue};
use toedit::ops::cross_entropy::CrossEntropy;

use crate::common::{arms, oracle, samples, tolerance};

const ROWS: usize = 256;
const VOCABULARY: usize = 8192;

pub fn bench(criterion: &mut Criterion) {
    bench_type::<f32>(criterion);
    bench_type::<bf16>(criterion);
}

fn bench_type<E: Kernels>(criterion: &mut Criterion) {
    let queue = Queue::open(Device::Cpu).expect("the host is always there");
    let (values, ids) = (samples::values::<f32>(1, ROWS * VOCABULARY), samples::ids(2, ROWS, VOCABULARY));
    let logits = arms::upload::<f32>(&queue, VOCABULARY, &values);
    let gradients = arms::output::<E>(&queue, ROWS, VOCABULARY);
    let (targets, losses) = (queue.upload(&ids).unwrap(), queue.alloc(ROWS).unwrap());
    let entropy = CrossEntropy { scale: 1.0 / ROWS as f32, truncate_above: None };
    let run = || {
        let out = Some(gradients.view());
        entropy.loss_on(&queue, logits.view(), targets.view(), losses.view(), out).unwrap();
    };
    run();
    let found = queue.download(losses.view()).unwrap();
    for (row, (loss, target)) in found.into_iter().zip(ids).enumerate().step_by(100) {
        let row: Vec<f64> = values[row * VOCABULARY..][..VOCABULARY].iter().map(|x| f64::from(*x)).collect();
        let log = oracle::log_softmax(&row)[target as usize];
        let expected = oracle::Expected { value: -log, scale: 1.0 - log };
        tolerance::assert_within("cross entropy", [loss], &[expected], tolerance::sum(VOCABULARY));
    }

    let mut group = criterion.benchmark_group("cross_entropy");
    group.throughput(Throughput::Elements((ROWS * VOCABULARY) as u64));
    group.bench_function(E::NAME, |bencher| bencher.iter(run));
}
