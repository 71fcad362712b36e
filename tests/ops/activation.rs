//! Activations over the whole range, gated or not, and through them the elementary functions.

use half::bf16;
use toedit::model::config::Activation::{self, Gelu, GeluTanh, Silu};
use toedit::ops::activation::activate;
#[cfg(kernels)]
use toedit::ops::activation::activate_on;

use crate::common::arms::{self, Arm, Scalar};
use crate::common::oracle::{self, Expected};
use crate::common::{samples, tolerance};

const ALL: [Activation; 3] = [Gelu, GeluTanh, Silu];

/// Activates rows of `width` values. On the CPU inputs are f32 that `E` holds exactly.
fn activated<E: Scalar>(
    arm: &Arm,
    activation: Activation,
    width: usize,
    x: &[f32],
    up: Option<&[f32]>,
) -> Vec<f32> {
    assert!(x.len().is_multiple_of(width), "{} values in rows of {width}", x.len());
    match arm {
        Arm::Cpu => {
            let mut y = vec![E::from_f32(f32::NAN); x.len()];
            activate(activation, x, up, &mut y);
            y.iter().map(|y| y.to_f32()).collect()
        }
        #[cfg(kernels)]
        Arm::Device(queue) => {
            let (x, up) =
                (arms::upload::<E>(queue, width, x), up.map(|up| arms::upload::<E>(queue, width, up)));
            let out = arms::output::<E>(queue, x.view().rows, width);
            let up = up.as_ref().map(|up| up.view());
            activate_on(queue, activation, x.view(), up, out.view()).unwrap();
            arms::read(queue, &out)
        }
    }
}

fn check<E: Scalar>(arm: &Arm, activation: Activation, width: usize, x: &[f32], up: Option<&[f32]>) {
    let rounded = |values: &[f32]| -> Vec<f32> { values.iter().map(|x| E::from_f32(*x).to_f32()).collect() };
    let (x, up) = (rounded(x), up.map(rounded));
    let y = activated::<E>(arm, activation, width, &x, up.as_deref());
    let up = |index: usize| up.as_ref().map_or(1.0, |up| up[index]);
    let expected: Vec<Expected> =
        x.iter().enumerate().map(|(index, x)| oracle::activate(activation, *x, up(index))).collect();
    let what = format!("{arm} {} {activation:?}", E::NAME);
    tolerance::assert_within(&what, y, &expected, tolerance::stored::<E>(1, 1));
}

#[test]
fn the_whole_range_is_the_oracle() {
    let fine = (-200_000..200_000).map(|step| step as f32 * 1e-4);
    let coarse = (-2000..=1999).map(|step| step as f32 * 0.25);
    let tiny = (-199..=0).flat_map(|power| [2f32.powi(power), -2f32.powi(power)]);
    let x: Vec<f32> = fine.chain(coarse).chain(tiny).collect();
    for arm in arms::all() {
        for activation in ALL {
            check::<f32>(&arm, activation, 400, &x, None);
            check::<bf16>(&arm, activation, 400, &x, None);
        }
    }
}

#[test]
fn every_length_is_the_oracle_with_a_gate_and_without() {
    for arm in arms::all() {
        for width in (1..=67).chain([255, 256, 257, 2047, 2049, 4099]) {
            let x: Vec<f32> =
                samples::values::<f32>(width as u32, 2 * width).iter().map(|x| 6.0 * x).collect();
            let up = samples::values::<f32>(!(width as u32), 2 * width);
            for activation in ALL {
                for up in [None, Some(&up[..])] {
                    check::<f32>(&arm, activation, width, &x, up);
                    check::<bf16>(&arm, activation, width, &x, up);
                }
            }
        }
    }
}

#[test]
fn the_tails_are_the_input_and_zero() {
    for arm in arms::all() {
        for activation in ALL {
            let x = [1e4, 1e10, 1e20, f32::MAX, -1e4, -1e10, -1e20, f32::MIN];
            let y = activated::<f32>(&arm, activation, 8, &x, None);
            assert_eq!(y, [1e4, 1e10, 1e20, f32::MAX, 0.0, 0.0, 0.0, 0.0], "{arm} {activation:?}");
        }
    }
}

#[test]
fn nan_stays_nan() {
    for arm in arms::all() {
        for activation in ALL {
            for (x, up) in [(f32::NAN, 1.0), (1.0, f32::NAN)] {
                let y = activated::<bf16>(&arm, activation, 33, &[x; 33], Some(&[up; 33]));
                assert!(y.iter().all(|y| y.is_nan()), "{arm} {activation:?}");
            }
        }
    }
}

/// Gate and up side by side in one matrix, as one product gives them, and the output in the gate's place.
#[cfg(kernels)]
#[test]
fn halves_of_a_matrix_are_activated_in_place() {
    for queue in arms::devices() {
        for half in [5, 8, 33] {
            let x = samples::values::<bf16>(half as u32, 3 * 2 * half);
            let matrix = arms::upload::<bf16>(&queue, 2 * half, &x);
            let (gate, up) = (matrix.view().columns(0..half), matrix.view().columns(half..2 * half));
            activate_on(&queue, Silu, gate, Some(up), gate).unwrap();
            let y = arms::read(&queue, &matrix);
            for (y, x) in y.chunks_exact(2 * half).zip(x.chunks_exact(2 * half)) {
                let pairs = x[..half].iter().zip(&x[half..]);
                let expected: Vec<Expected> = pairs.map(|(x, up)| oracle::activate(Silu, *x, *up)).collect();
                let what = format!("{queue:?} {half}");
                tolerance::assert_within(
                    &what,
                    y[..half].to_vec(),
                    &expected,
                    tolerance::stored::<bf16>(1, 1),
                );
                tolerance::assert_same_bits(&what, &y[half..], &x[half..]);
            }
        }
    }
}
