//! Normalising a block of rows; the throughput is in values.

use criterion::{Criterion, Throughput};
use half::bf16;
use toedit::model::config::NormKind;
use toedit::ops::norm::Norm;
use toedit::tensor::Element;

use crate::common::{oracle, samples, tolerance};

const ROWS: usize = 120;
const HIDDEN: usize = 576;

pub fn bench(criterion: &mut Criterion) {
    for kind in [NormKind::Layer, NormKind::Rms] {
        bench_type::<f32>(criterion, kind);
        bench_type::<bf16>(criterion, kind);
    }
}

fn bench_type<E: Element>(criterion: &mut Criterion, kind: NormKind) {
    let (x, weight) = (samples::values::<f32>(1, ROWS * HIDDEN), samples::values::<f32>(2, HIDDEN));
    let norm = Norm { kind, eps: 1e-5, weight: Some(weight.as_slice()), bias: None };
    let mut y = vec![E::from_f32(f32::NAN); x.len()];
    norm.forward(&x, HIDDEN, &mut y, HIDDEN);
    let rows = x.chunks_exact(HIDDEN);
    let expected: Vec<_> = rows.flat_map(|x| oracle::norm(kind, 1e-5, Some(&weight), None, x)).collect();
    let limit = tolerance::stored::<E>(HIDDEN, 1);
    tolerance::assert_within("norm", y.iter().map(|y| y.to_f32()), &expected, limit);

    let mut group = criterion.benchmark_group("norm");
    group.throughput(Throughput::Elements(x.len() as u64));
    group.bench_function(format!("{}/{kind:?}", E::NAME), |bencher| {
        bencher.iter(|| norm.forward(&x, HIDDEN, &mut y, HIDDEN));
    });
}
