//! Activations over the whole range, gated or not, and through them the elementary functions.

use half::bf16;
use toedit::model::config::Activation::{self, Gelu, GeluTanh, Silu};
use toedit::ops::activation::activate;
use toedit::tensor::Element;

use crate::common::oracle::{self, Expected};
use crate::common::{samples, tolerance};

const ALL: [Activation; 3] = [Gelu, GeluTanh, Silu];

fn check<E: Element>(activation: Activation, x: &[f32], up: Option<&[f32]>) {
    let mut y = vec![E::from_f32(f32::NAN); x.len()];
    activate(activation, x, up, &mut y);
    let up = |index: usize| up.map_or(1.0, |up| up[index]);
    let expected: Vec<Expected> =
        x.iter().enumerate().map(|(index, x)| oracle::activate(activation, *x, up(index))).collect();
    let what = format!("{} {activation:?}", E::NAME);
    tolerance::assert_within(&what, y.iter().map(|y| y.to_f32()), &expected, tolerance::stored::<E>(1, 1));
}

#[test]
fn the_whole_range_is_the_oracle() {
    let fine = (-200_000..=200_000).map(|step| step as f32 * 1e-4);
    let coarse = (-2000..=2000).map(|step| step as f32 * 0.25);
    let tiny = (-150..=0).flat_map(|power| [2f32.powi(power), -2f32.powi(power)]);
    let x: Vec<f32> = fine.chain(coarse).chain(tiny).collect();
    for activation in ALL {
        check::<f32>(activation, &x, None);
        check::<bf16>(activation, &x, None);
    }
}

#[test]
fn every_length_is_the_oracle_with_a_gate_and_without() {
    for len in (1..=67).chain([255, 256, 257]) {
        let x: Vec<f32> = samples::values::<f32>(len as u32, len).iter().map(|x| 6.0 * x).collect();
        let up = samples::values::<f32>(!(len as u32), len);
        for activation in ALL {
            for up in [None, Some(&up[..])] {
                check::<f32>(activation, &x, up);
                check::<bf16>(activation, &x, up);
            }
        }
    }
}

#[test]
fn the_tails_are_the_input_and_zero() {
    for activation in ALL {
        let x = [1e4, 1e10, 1e20, f32::MAX, -1e4, -1e10, -1e20, f32::MIN];
        let mut y = [f32::NAN; 8];
        activate(activation, &x, None, &mut y);
        assert_eq!(y, [1e4, 1e10, 1e20, f32::MAX, 0.0, 0.0, 0.0, 0.0], "{activation:?}");
    }
}

#[test]
fn nan_stays_nan() {
    for activation in ALL {
        for (x, up) in [(f32::NAN, 1.0), (1.0, f32::NAN)] {
            let mut y = [0.0f32; 33];
            activate(activation, &[x; 33], Some(&[up; 33]), &mut y);
            assert!(y.iter().all(|y| y.is_nan()), "{activation:?}");
        }
    }
}
