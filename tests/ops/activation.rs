//! Activations over the whole range, gated or not, forward and backward, and through them the elementary functions.

use half::bf16;
use proptest::prelude::*;
use toedit::device::Queue;
use toedit::model::config::Activation::{self, Gelu, GeluTanh, Silu};
use toedit::ops::activation::{activate, activate_backward_on, activate_on};

use crate::common::arms::{self, Arm, Scalar};
use crate::common::oracle::{self, Expected};
use crate::common::oracle_rows;
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
    for arm in arms::with_host() {
        for activation in ALL {
            check::<f32>(&arm, activation, 400, &x, None);
            check::<bf16>(&arm, activation, 400, &x, None);
        }
    }
}

#[test]
fn every_length_is_the_oracle_with_a_gate_and_without() {
    for arm in arms::with_host() {
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
    for arm in arms::with_host() {
        for activation in ALL {
            let x = [1e4, 1e10, 1e20, f32::MAX, -1e4, -1e10, -1e20, f32::MIN];
            let y = activated::<f32>(&arm, activation, 8, &x, None);
            assert_eq!(y, [1e4, 1e10, 1e20, f32::MAX, 0.0, 0.0, 0.0, 0.0], "{arm} {activation:?}");
        }
    }
}

#[test]
fn nan_stays_nan() {
    for arm in arms::with_host() {
        for activation in ALL {
            for (x, up) in [(f32::NAN, 1.0), (1.0, f32::NAN)] {
                let y = activated::<bf16>(&arm, activation, 33, &[x; 33], Some(&[up; 33]));
                assert!(y.iter().all(|y| y.is_nan()), "{arm} {activation:?}");
            }
        }
    }
}

/// The output in the place of either operand.
#[test]
fn operands_are_overwritten() {
    for queue in arms::queues() {
        for width in [7, 300] {
            let (x, up) = (samples::values::<f32>(1, 20 * width), samples::values::<f32>(2, 20 * width));
            let apart = activated::<f32>(&Arm::Device(queue.clone()), Silu, width, &x, Some(&up));
            for in_gate in [true, false] {
                let [gate, factor] = [&x, &up].map(|values| arms::upload::<f32>(&queue, width, values));
                let out = if in_gate { &gate } else { &factor };
                activate_on(&queue, Silu, gate.view(), Some(factor.view()), out.view()).unwrap();
                tolerance::assert_same_bits(&format!("{queue:?}"), &arms::read(&queue, out), &apart);
            }
        }
    }
}

/// Takes rows back and compares the gradients of both operands.
fn check_backward<E: Scalar>(queue: &Queue, activation: Activation, width: usize, x: &[f32], gated: bool) {
    let x: Vec<f32> = x.iter().map(|x| E::from_f32(*x).to_f32()).collect();
    let [up, dy] = [1, 2].map(|seed| samples::values::<E>(seed, x.len()));
    let [x_on, up_on, dy_on] = [&x, &up, &dy].map(|values| arms::upload::<E>(queue, width, values));
    let gate = gated.then(|| up_on.view());
    activate_backward_on(queue, activation, x_on.view(), gate, dy_on.view()).unwrap();
    let factor = |index: usize| if gated { up[index] } else { 1.0 };
    let gradients = |index| oracle_rows::activate_backward(activation, x[index], factor(index), dy[index]);
    let (dx, dup): (Vec<_>, Vec<_>) = (0..x.len()).map(|index| <(_, _)>::from(gradients(index))).unzip();
    let what = format!("{queue:?} {} {activation:?} backward", E::NAME);
    let limit = tolerance::stored::<E>(1, 1);
    tolerance::assert_within(&what, arms::read(queue, &x_on), &dx, limit);
    tolerance::assert_same_bits(&what, &arms::read(queue, &dy_on), &dy);
    match gated {
        true => tolerance::assert_within(&what, arms::read(queue, &up_on), &dup, limit),
        false => tolerance::assert_same_bits(&what, &arms::read(queue, &up_on), &up),
    }
}

#[test]
fn gradients_over_the_whole_range_are_the_oracle() {
    let fine = (-20_000..20_000).map(|step| step as f32 * 1e-3);
    let far = (0..=127).flat_map(|power| [2f32.powi(power), -2f32.powi(power)]);
    let x: Vec<f32> = fine.chain(far).collect();
    for queue in arms::queues() {
        for activation in ALL {
            check_backward::<f32>(&queue, activation, 64, &x, true);
            check_backward::<bf16>(&queue, activation, 64, &x, false);
        }
    }
}

#[test]
fn the_oracle_is_the_derivative() {
    let x: Vec<f32> = (-80..80).map(|step| step as f32 * 0.125).collect();
    for activation in ALL {
        for x in &x {
            let numeric = oracle_rows::numeric(&[*x, 0.75], |at| {
                1.5 * oracle::activate(activation, at[0], at[1]).value
            });
            let analytic = oracle_rows::activate_backward(activation, *x, 0.75, 1.5);
            oracle_rows::assert_differentiates(&format!("{activation:?}"), &analytic, &numeric);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn gradients_of_random_shapes_are_the_oracle(seed: u32, width in 1..300usize, rows in 1..40usize, gated: bool) {
        let x: Vec<f32> = samples::values::<f32>(seed, rows * width).iter().map(|x| 6.0 * x).collect();
        for queue in arms::queues() {
            for activation in ALL {
                check_backward::<f32>(&queue, activation, width, &x, gated);
                check_backward::<bf16>(&queue, activation, width, &x, gated);
            }
        }
    }
}

/// Gate and up side by side in one matrix, as one product gives them, and the output in the gate's place: on devices with
/// kernels, since the host tells operands apart by their memory.
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
