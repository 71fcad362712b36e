//! Activations of the MLP: GELU exact `x/2 · (1 + erf(x/√2))` and by tanh, SiLU `x · σ(x)`; gated: `act(gate) · up`.

#[cfg(kernels)]
use super::elementwise::{block_per_row, lanes};
use super::math;
use super::simd::vectorize;
#[cfg(kernels)]
use crate::Result;
#[cfg(kernels)]
use crate::device::{Queue, Rows, View, kernels::Kernels};
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

/// The same for rows on a device; `out` may be `x` or `up`.
///
/// # Errors
/// What went wrong on the device before.
///
/// # Panics
/// If the shapes differ, or the distances between rows of `x` and `up`.
#[cfg(kernels)]
pub fn activate_on<E: Kernels>(
    queue: &Queue,
    activation: Activation,
    x: Rows<'_, E>,
    up: Option<Rows<'_, E>>,
    out: Rows<'_, E>,
) -> Result<()> {
    assert_eq!((x.rows, x.width), (out.rows, out.width), "shapes of an activation");
    if let Some(up) = up {
        assert_eq!((x.rows, x.width, x.stride), (up.rows, up.width, up.stride), "shapes of a gate");
        up.check();
    }
    x.check();
    out.check();
    let launch = match activation {
        Activation::Gelu => E::gelu_forward,
        Activation::GeluTanh => E::gelu_tanh_forward,
        Activation::Silu => E::silu_forward,
    };
    let grid = block_per_row(x.rows, x.width.div_ceil(lanes::<E>()));
    let up = up.map_or(View::none(), |up| up.data);
    launch(queue, grid, out.data, x.data, up, x.width, out.stride, x.stride)
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
