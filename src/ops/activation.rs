//! Activations of the MLP: GELU exact `x/2 · (1 + erf(x/√2))` and by tanh, SiLU `x · σ(x)`; gated: `act(gate) · up`.

use super::math;
use super::simd::vectorize;
use crate::model::config::Activation;
use crate::tensor::Element;

/// `y = act(x)`, or `act(x) · up` where there is a gate.
pub fn activate<E: Element>(activation: Activation, x: &[f32], up: Option<&[f32]>, y: &mut [E]) {
    vectorize(
        #[inline(always)]
        || match activation {
            Activation::Gelu => each(x, up, y, gelu),
            Activation::GeluTanh => each(x, up, y, gelu_tanh),
            Activation::Silu => each(x, up, y, silu),
        },
    );
}

#[inline(always)]
fn each<E: Element>(x: &[f32], up: Option<&[f32]>, y: &mut [E], f: impl Fn(f32) -> f32) {
    match up {
        Some(up) => {
            for ((y, x), up) in y.iter_mut().zip(x).zip(up) {
                *y = E::from_f32(f(*x) * up);
            }
        }
        None => y.iter_mut().zip(x).for_each(|(y, x)| *y = E::from_f32(f(*x))),
    }
}

#[inline(always)]
fn silu(x: f32) -> f32 {
    x / (1.0 + math::exp(-x))
}

#[inline(always)]
fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + math::erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    /// √(2/π)
    const SCALE: f32 = 0.797_884_6;
    0.5 * x * (1.0 + math::tanh(SCALE * (0.044_715 * x * x).mul_add(x, x)))
}
