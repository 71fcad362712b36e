//! Both norms, out of place and in place.

use half::bf16;
use proptest::prelude::*;
use toedit::model::config::NormKind::{self, Layer, Rms};
use toedit::ops::norm::Norm;
use toedit::tensor::Element;

use crate::common::oracle::{self, Expected};
use crate::common::{samples, tolerance};

/// One less and one more than the lanes of a sum, odd sizes, and those of models.
const SIZES: [usize; 11] = [1, 2, 15, 16, 17, 31, 33, 63, 64, 577, 2048];

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

    fn norm(&self, kind: NormKind, eps: f32) -> Norm<'_> {
        Norm { kind, eps, weight: self.weight.as_deref(), bias: self.bias.as_deref() }
    }
}

fn expected(norm: &Norm, x: &[f32], d: usize) -> Vec<Expected> {
    let Norm { kind, eps, weight, bias } = *norm;
    x.chunks_exact(d).flat_map(|x| oracle::norm(kind, eps, weight, bias, x)).collect()
}

/// Normalises rows of `d` values into rows a little further apart, and checks that the gap is left alone.
fn check<E: Element>(norm: &Norm, x: &[f32], d: usize) {
    let stride = d + 3;
    let mut y = vec![E::from_f32(f32::NAN); x.len() / d * stride];
    norm.forward(x, d, &mut y, stride);
    let what = format!("{} {:?} of {d}", E::NAME, norm.kind);
    let kept = y.chunks_exact(stride).flat_map(|y| &y[..d]).map(|y| y.to_f32());
    tolerance::assert_within(&what, kept, &expected(norm, x, d), tolerance::stored::<E>(d, 1));
    let gaps = y.chunks_exact(stride).flat_map(|y| &y[d..]);
    assert!(gaps.map(|y| y.to_f32()).all(f32::is_nan), "{what}: written between rows");
}

fn check_in_place(norm: &Norm, x: &[f32], d: usize) {
    let stride = d + 3;
    let mut y = vec![f32::NAN; x.len() / d * stride];
    y.chunks_exact_mut(stride).zip(x.chunks_exact(d)).for_each(|(y, x)| y[..d].copy_from_slice(x));
    norm.in_place(&mut y, d, stride);
    let kept = y.chunks_exact(stride).flat_map(|y| &y[..d]).copied();
    let what = format!("{:?} of {d} in place", norm.kind);
    tolerance::assert_within(&what, kept, &expected(norm, x, d), tolerance::sum(d));
    assert!(y.chunks_exact(stride).flat_map(|y| &y[d..]).all(|y| y.is_nan()), "{what}: between rows");
}

#[test]
fn every_size_and_every_set_of_parameters_is_the_oracle() {
    for d in SIZES {
        let x = samples::values::<f32>(d as u32, 5 * d);
        for parameters in Parameters::all(d) {
            for kind in [Layer, Rms] {
                let norm = parameters.norm(kind, 1e-5);
                check::<f32>(&norm, &x, d);
                check::<bf16>(&norm, &x, d);
                check_in_place(&norm, &x, d);
            }
        }
    }
}

#[test]
fn a_large_mean_does_not_cancel() {
    let x: Vec<f32> = samples::values::<f32>(5, 4 * 321).iter().map(|x| 100.0 + x).collect();
    for parameters in Parameters::all(321) {
        check::<f32>(&parameters.norm(Layer, 1e-5), &x, 321);
    }
}

#[test]
fn constant_and_zero_rows_are_finite() {
    let parameters = &Parameters::all(33)[3];
    for value in [0.0, 3.0] {
        for kind in [Layer, Rms] {
            check::<f32>(&parameters.norm(kind, 1e-6), &[value; 66], 33);
        }
    }
}

#[test]
fn a_row_does_not_depend_on_its_neighbours() {
    let d = 45;
    let x = samples::values::<f32>(6, 7 * d);
    let norm = Norm { kind: Layer, eps: 1e-5, weight: None, bias: None };
    let mut together = vec![f32::NAN; x.len()];
    norm.forward(&x, d, &mut together, d);
    let alone: Vec<f32> = x
        .chunks_exact(d)
        .flat_map(|x| {
            let mut y = vec![f32::NAN; d];
            norm.forward(x, d, &mut y, d);
            y
        })
        .collect();
    tolerance::assert_same_bits("rows", &together, &alone);
}

#[test]
fn a_value_that_is_not_finite_shows() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for kind in [Layer, Rms] {
            let mut x = samples::values::<f32>(7, 40);
            x[17] = bad;
            let mut y = [0.0f32; 40];
            Norm { kind, eps: 1e-5, weight: None, bias: None }.forward(&x, 40, &mut y, 40);
            assert!(y.iter().any(|y| y.is_nan()), "{bad} vanished in {kind:?}");
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
        check::<f32>(&norm, &x, d);
        check::<bf16>(&norm, &x, d);
        check_in_place(&norm, &x, d);
    }
}
