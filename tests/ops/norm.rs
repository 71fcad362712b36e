//! Both norms: out of place, in place and added.

use std::ops::Range;

use half::bf16;
use proptest::prelude::*;
use toedit::device::{Buffer, Queue, View};
use toedit::model::config::NormKind::{self, Layer, Rms};
use toedit::ops::norm::Norm;

use crate::common::arms::{self, Arm, Scalar};
use crate::common::oracle::{self, Expected};
use crate::common::{samples, tolerance};

/// Around the lanes of a sum, a warp's longest row and what threads of a block take; odd sizes; those of models.
const SIZES: [usize; 21] =
    [1, 2, 4, 15, 16, 17, 31, 33, 63, 64, 66, 577, 764, 767, 768, 769, 772, 1028, 2048, 4096, 4100];

/// Parameters of a norm over `d` values.
struct Parameters {
    weight: Option<Vec<f32>>,
    bias: Option<Vec<f32>>,
}

impl Parameters {
    fn all(d: usize) -> [Self; 4] {
        let weight = || Some(samples::values::<f32>(101, d));
        let bias = || Some(samples::values::<f32>(102, d));
        [(None, None), (weight(), None), (None, bias()), (weight(), bias())]
            .map(|(weight, bias)| Self { weight, bias })
    }

    fn norm(&self, kind: NormKind, eps: f32) -> Norm<&[f32]> {
        Norm { kind, eps, weight: self.weight.as_deref(), bias: self.bias.as_deref() }
    }
}

fn expected(norm: &Norm<&[f32]>, x: &[f32], d: usize) -> Vec<Expected> {
    let Norm { kind, eps, weight, bias } = *norm;
    x.chunks_exact(d).flat_map(|x| oracle::norm(kind, eps, weight, bias, x)).collect()
}

/// Hands `run` the norm with its parameters on a device.
fn on<T>(queue: &Queue, norm: &Norm<&[f32]>, run: impl FnOnce(Norm<View<'_, f32>>) -> T) -> T {
    let upload = |values: Option<&[f32]>| values.map(|values| queue.upload(values).unwrap());
    let (weight, bias) = (upload(norm.weight), upload(norm.bias));
    let [weight, bias] = [&weight, &bias].map(|values| values.as_ref().map(Buffer::view));
    run(Norm { kind: norm.kind, eps: norm.eps, weight, bias })
}

/// Normalises rows of `d` values into rows a little further apart, and checks that the gap is left alone.
fn forward<E: Scalar>(arm: &Arm, norm: &Norm<&[f32]>, x: &[f32], d: usize) -> Vec<f32> {
    match arm {
        Arm::Cpu => {
            let stride = d + 3;
            let mut y = vec![E::from_f32(f32::NAN); x.len() / d * stride];
            norm.forward(x, d, &mut y, stride);
            let gaps = y.chunks_exact(stride).flat_map(|y| &y[d..]);
            assert!(gaps.map(|y| y.to_f32()).all(f32::is_nan), "written between rows");
            y.chunks_exact(stride).flat_map(|y| &y[..d]).map(|y| y.to_f32()).collect()
        }
        Arm::Device(queue) => on(queue, norm, |norm| {
            let (x, out) = (arms::upload(queue, d, x), arms::output::<E>(queue, x.len() / d, d));
            norm.forward_on(queue, x.view(), None, out.view()).unwrap();
            arms::read(queue, &out)
        }),
    }
}

/// Normalises groups of `d` values within the columns of rows of `width` values.
fn in_place<E: Scalar>(
    arm: &Arm,
    norm: &Norm<&[f32]>,
    x: &[f32],
    width: usize,
    columns: Range<usize>,
    d: usize,
) -> Vec<f32> {
    match arm {
        Arm::Cpu => {
            let mut y = x.to_vec();
            columns.step_by(d).for_each(|first| norm.in_place(&mut y[first..], d, width));
            y.into_iter().map(|y| E::from_f32(y).to_f32()).collect()
        }
        Arm::Device(queue) => on(queue, norm, |norm| {
            let matrix = arms::upload::<E>(queue, width, x);
            norm.heads_on(queue, matrix.view(), columns, d).unwrap();
            arms::read(queue, &matrix)
        }),
    }
}

/// `x += norm(y)`
fn added(arm: &Arm, norm: &Norm<&[f32]>, x: &[f32], y: &[f32], d: usize) -> Vec<f32> {
    match arm {
        Arm::Cpu => {
            let mut y = y.to_vec();
            norm.in_place(&mut y, d, d);
            x.iter().zip(y).map(|(x, y)| x + y).collect()
        }
        Arm::Device(queue) => on(queue, norm, |norm| {
            let (x, y) = (arms::upload(queue, d, x), arms::upload(queue, d, y));
            norm.add_on(queue, x.view(), y.view()).unwrap();
            arms::read(queue, &x)
        }),
    }
}

fn check<E: Scalar>(arm: &Arm, norm: &Norm<&[f32]>, x: &[f32], d: usize) {
    let what = format!("{arm} {} {:?} of {d}", E::NAME, norm.kind);
    let ours = forward::<E>(arm, norm, x, d);
    tolerance::assert_within(&what, ours, &expected(norm, x, d), tolerance::stored::<E>(d, 1));
}

/// Three groups with `before` values ahead of them and some behind, which stay.
fn check_in_place<E: Scalar>(arm: &Arm, norm: &Norm<&[f32]>, d: usize, before: usize) {
    let columns = before..before + 3 * d;
    let width = columns.end + 5;
    let x = samples::values::<E>(d as u32, 2 * width);
    let ours = in_place::<E>(arm, norm, &x, width, columns.clone(), d);
    let what = format!("{arm} {} {:?} of {d} from {before} in place", E::NAME, norm.kind);
    for (ours, x) in ours.chunks_exact(width).zip(x.chunks_exact(width)) {
        let expected = expected(norm, &x[columns.clone()], d);
        let kept = ours[columns.clone()].to_vec();
        tolerance::assert_within(&what, kept, &expected, tolerance::stored::<E>(d, 1));
        for rest in [0..columns.start, columns.end..width] {
            tolerance::assert_same_bits(&what, &ours[rest.clone()], &x[rest]);
        }
    }
}

fn check_added(arm: &Arm, norm: &Norm<&[f32]>, d: usize) {
    let (x, y) = (samples::values::<f32>(11, 3 * d), samples::values::<f32>(12, 3 * d));
    let sum = |(x, y): (&f32, Expected)| {
        let x = f64::from(*x);
        Expected { value: x + y.value, scale: x.abs() + y.scale }
    };
    let expected: Vec<_> = x.iter().zip(expected(norm, &y, d)).map(sum).collect();
    let what = format!("{arm} {:?} of {d} added", norm.kind);
    tolerance::assert_within(&what, added(arm, norm, &x, &y, d), &expected, tolerance::sum(d));
}

/// Every way of one norm.
fn check_all(arm: &Arm, norm: &Norm<&[f32]>, x: &[f32], d: usize) {
    check::<f32>(arm, norm, x, d);
    check::<bf16>(arm, norm, x, d);
    for before in [0, 6, 8] {
        check_in_place::<f32>(arm, norm, d, before);
        check_in_place::<bf16>(arm, norm, d, before);
    }
    check_added(arm, norm, d);
}

#[test]
fn every_size_and_every_set_of_parameters_is_the_oracle() {
    for arm in arms::with_host() {
        for d in SIZES {
            let x = samples::values::<f32>(d as u32, 5 * d);
            for parameters in Parameters::all(d) {
                [Layer, Rms]
                    .into_iter()
                    .for_each(|kind| check_all(&arm, &parameters.norm(kind, 1e-5), &x, d));
            }
        }
    }
}

/// Up to and past what a block's registers hold.
#[test]
fn long_rows_are_the_oracle() {
    for arm in arms::with_host() {
        for d in [8192, 16_384, 24_576, 24_580] {
            let parameters = &Parameters::all(d)[3];
            let x = samples::values::<f32>(d as u32, 2 * d);
            check::<f32>(&arm, &parameters.norm(Layer, 1e-5), &x, d);
            check::<bf16>(&arm, &parameters.norm(Rms, 1e-5), &x, d);
        }
    }
}

#[test]
fn a_large_mean_does_not_cancel() {
    for arm in arms::with_host() {
        for d in [320, 321, 1024] {
            let x: Vec<f32> = samples::values::<f32>(5, 4 * d).iter().map(|x| 100.0 + x).collect();
            for parameters in Parameters::all(d) {
                check::<f32>(&arm, &parameters.norm(Layer, 1e-5), &x, d);
            }
        }
    }
}

#[test]
fn constant_and_zero_rows_are_finite() {
    for arm in arms::with_host() {
        for d in [33, 36, 900] {
            let parameters = &Parameters::all(d)[3];
            for value in [0.0, 3.0] {
                for kind in [Layer, Rms] {
                    check::<f32>(&arm, &parameters.norm(kind, 1e-6), &vec![value; 2 * d], d);
                }
            }
        }
    }
}

#[test]
fn a_row_does_not_depend_on_its_neighbours() {
    for arm in arms::with_host() {
        for d in [45, 48, 900] {
            let x = samples::values::<f32>(6, 7 * d);
            let norm = Norm { kind: Layer, eps: 1e-5, weight: None, bias: None };
            let together = forward::<f32>(&arm, &norm, &x, d);
            let alone: Vec<f32> = x.chunks_exact(d).flat_map(|x| forward::<f32>(&arm, &norm, x, d)).collect();
            tolerance::assert_same_bits(&format!("{arm} {d}"), &together, &alone);
        }
    }
}

/// Parameters may lie anywhere in a flat buffer of all weights.
#[test]
fn parameters_need_not_start_on_16_bytes() {
    for queue in arms::queues() {
        for d in [48, 900] {
            let (x, flat) = (samples::values::<f32>(9, 2 * d), samples::values::<f32>(10, 2 * d + 3));
            let norm = Norm { kind: Layer, eps: 1e-5, weight: Some(&flat[3..]), bias: Some(&flat[d + 3..]) };
            let buffer = queue.upload(&flat).unwrap();
            let [weight, bias] = [3, d + 3].map(|first| Some(buffer.view().slice(first..first + d)));
            let (x_on, out) = (arms::upload(&queue, d, &x), arms::output::<f32>(&queue, 2, d));
            let on_device = Norm { kind: Layer, eps: 1e-5, weight, bias };
            on_device.forward_on(&queue, x_on.view(), None, out.view()).unwrap();
            let ours = arms::read(&queue, &out);
            tolerance::assert_within("offset", ours, &expected(&norm, &x, d), tolerance::sum(d));
        }
    }
}

/// The rows of the head, gathered by the last norm; one that does not exist shows.
#[test]
fn rows_are_gathered_in_any_order() {
    for queue in arms::queues() {
        for d in [45, 48, 900] {
            let x = samples::values::<f32>(8, 6 * d);
            let norm = Norm { kind: Rms, eps: 1e-5, weight: None, bias: None };
            let all = forward::<bf16>(&Arm::Device(queue.clone()), &norm, &x, d);
            let rows = [5u32, 0, 3, 3, 6, u32::MAX, 1];
            let gathered = on(&queue, &norm, |norm| {
                let (x, out) = (arms::upload(&queue, d, &x), arms::output::<bf16>(&queue, rows.len(), d));
                let list = queue.upload(&rows).unwrap();
                norm.forward_on(&queue, x.view(), Some(list.view()), out.view()).unwrap();
                arms::read(&queue, &out)
            });
            for (row, ours) in rows.into_iter().zip(gathered.chunks_exact(d)) {
                match all.chunks_exact(d).nth(row as usize) {
                    Some(expected) => {
                        tolerance::assert_same_bits(&format!("{queue:?} {row}"), ours, expected)
                    }
                    None => assert!(ours.iter().all(|x| x.is_nan()), "{queue:?}: row {row} of 6"),
                }
            }
        }
    }
}

#[test]
fn a_value_that_is_not_finite_shows() {
    for arm in arms::with_host() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for kind in [Layer, Rms] {
                for d in [40, 41, 900] {
                    let mut x = samples::values::<f32>(7, d);
                    x[17] = bad;
                    let norm = Norm { kind, eps: 1e-5, weight: None, bias: None };
                    let y = forward::<f32>(&arm, &norm, &x, d);
                    assert!(y.iter().any(|y| y.is_nan()), "{arm}: {bad} vanished in {kind:?} of {d}");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn random_rows_are_the_oracle(
        seed: u32, d in 1..200usize, rows in 1..4usize, scale in -8..8i32, layer: bool, set in 0..4usize,
    ) {
        let x: Vec<f32> = samples::values::<f32>(seed, rows * d).iter().map(|x| x * 2f32.powi(scale)).collect();
        let parameters = &Parameters::all(d)[set];
        let norm = parameters.norm(if layer { Layer } else { Rms }, 1e-5);
        arms::with_host().iter().for_each(|arm| check_all(arm, &norm, &x, d));
    }
}
