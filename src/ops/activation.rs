//! Activations of the MLP: GELU exact `x/2 · (1 + erf(x/√2))` and by tanh, SiLU `x · σ(x)`; gated: `act(gate) · up`.

use rayon::prelude::*;

use super::elementwise::BLOCK;
#[cfg(kernels)]
use super::elementwise::{block_per_row, lanes};
use super::math;
use super::simd::vectorize;
use crate::Result;
#[cfg(kernels)]
use crate::device::View;
use crate::device::kernels::Kernels;
use crate::device::{Access, Arm, Queue, Rows};
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
/// If the shapes differ, or the distances between rows of `x` and `up`; on the host, where two matrices overlap that are
/// not the same one.
pub fn activate_on<'a, E: Kernels>(
    queue: &Queue,
    activation: Activation,
    x: Rows<'a, E>,
    up: Option<Rows<'a, E>>,
    out: Rows<'_, E>,
) -> Result<()> {
    assert_eq!((x.rows, x.width), (out.rows, out.width), "shapes of an activation");
    check(x, up);
    out.check();
    match queue.arm() {
        Arm::Host(host) => {
            let to = host.write(out);
            let in_place = |rows: &Rows<'a, E>| rows.data.address() == out.data.address();
            // None where the rows are the outputs.
            let from = |rows: Rows<'a, E>| if in_place(&rows) { None } else { Some(host.read(rows)) };
            let (from, factors) = (from(x), up.map(from));
            to.par_chunks_mut(BLOCK * out.stride).enumerate().for_each(|(block, rows)| {
                for (row, y) in (block * BLOCK..).zip(rows.chunks_mut(out.stride)) {
                    let at = row * x.stride..row * x.stride + x.width;
                    let x_row = from.map(|rows| &rows[at.clone()]);
                    let up_row = factors.map(|up| up.map(|rows| &rows[at.clone()]));
                    activate_row(activation, x_row, up_row, &mut y[..x.width]);
                }
            });
            Ok(())
        }
        #[cfg(kernels)]
        Arm::Kernels => {
            let launch = match activation {
                Activation::Gelu => E::gelu_forward,
                Activation::GeluTanh => E::gelu_tanh_forward,
                Activation::Silu => E::silu_forward,
            };
            let grid = block_per_row(x.rows, x.width.div_ceil(lanes::<E>()));
            let up = up.map_or(View::none(), |up| up.data);
            launch(queue, grid, out.data, x.data, up, x.width, out.stride, x.stride)
        }
    }
}

/// The gradients of `x` and `up` in their places, given `dy`, that of the outputs of [`activate_on`].
///
/// # Errors
/// What went wrong on the device before.
///
/// # Panics
/// As [`activate_on`].
pub fn activate_backward_on<E: Kernels>(
    queue: &Queue,
    activation: Activation,
    x: Rows<'_, E>,
    up: Option<Rows<'_, E>>,
    dy: Rows<'_, E>,
) -> Result<()> {
    assert_eq!((x.rows, x.width), (dy.rows, dy.width), "shapes of an activation");
    check(x, up);
    dy.check();
    match queue.arm() {
        Arm::Host(host) => {
            backward_on_host(&host, activation, x, up, dy);
            Ok(())
        }
        #[cfg(kernels)]
        Arm::Kernels => {
            let launch = match activation {
                Activation::Gelu => E::gelu_backward,
                Activation::GeluTanh => E::gelu_tanh_backward,
                Activation::Silu => E::silu_backward,
            };
            let grid = block_per_row(x.rows, x.width.div_ceil(lanes::<E>()));
            let up = up.map_or(View::none(), |up| up.data);
            launch(queue, grid, x.data, up, dy.data, x.width, x.stride, dy.stride)
        }
    }
}

fn backward_on_host<E: Element>(
    host: &Access<'_>,
    activation: Activation,
    x: Rows<'_, E>,
    up: Option<Rows<'_, E>>,
    dy: Rows<'_, E>,
) {
    let (n, stride, dy_stride) = (x.width, x.stride, dy.stride);
    let (gates, given) = (host.write(x), host.read(dy));
    let steps = gates.par_chunks_mut(BLOCK * stride).zip(given.par_chunks(BLOCK * dy_stride));
    match up {
        Some(up) => {
            let ups = host.write(up).par_chunks_mut(BLOCK * stride);
            steps.zip(ups).for_each(|((x, dy), up)| {
                let rows = x.chunks_mut(stride).zip(dy.chunks(dy_stride)).zip(up.chunks_mut(stride));
                rows.for_each(|((x, dy), up)| {
                    activate_row_backward(activation, &mut x[..n], Some(&mut up[..n]), &dy[..n]);
                });
            });
        }
        None => steps.for_each(|(x, dy)| {
            let rows = x.chunks_mut(stride).zip(dy.chunks(dy_stride));
            rows.for_each(|(x, dy)| activate_row_backward(activation, &mut x[..n], None, &dy[..n]));
        }),
    }
}

/// Fails where a gate has another shape, or rows are not there.
fn check<E>(x: Rows<'_, E>, up: Option<Rows<'_, E>>) {
    x.check();
    if let Some(up) = up {
        assert_eq!((x.rows, x.width, x.stride), (up.rows, up.width, up.stride), "shapes of a gate");
        up.check();
    }
}

/// Activates a row; an operand that is none lies in `y`.
fn activate_row<E: Element>(activation: Activation, x: Option<&[E]>, up: Option<Option<&[E]>>, y: &mut [E]) {
    const PIECE: usize = 256;
    let [mut values, mut factors] = [[0.0f32; PIECE]; 2];
    for (index, y) in y.chunks_mut(PIECE).enumerate() {
        let piece = index * PIECE..index * PIECE + y.len();
        let widen = |from: Option<&[E]>, to: &mut [f32]| {
            let from = from.map_or(&*y, |from| &from[piece.clone()]);
            to.iter_mut().zip(from).for_each(|(to, from)| *to = from.to_f32());
        };
        widen(x, &mut values);
        if let Some(up) = up {
            widen(up, &mut factors);
        }
        let factors = up.map(|_| &factors[..y.len()]);
        activate(activation, &values[..y.len()], factors, y);
    }
}

/// `x` and `up` become their gradients.
fn activate_row_backward<E: Element>(activation: Activation, x: &mut [E], up: Option<&mut [E]>, dy: &[E]) {
    vectorize(
        #[inline(always)]
        || match activation {
            Activation::Gelu => each_backward(x, up, dy, |x| {
                let share = 0.5 * (1.0 + math::erf(x * std::f32::consts::FRAC_1_SQRT_2));
                (share, NORMAL * math::exp(-0.5 * x * x))
            }),
            Activation::GeluTanh => each_backward(x, up, dy, |x| {
                let share = 0.5 * (1.0 + math::tanh(inner(x)));
                // Far out, where x² overflows, the share is 0 or 1.
                let slope = (3.0 * CUBIC * (x * x).min(1e6)).mul_add(SCALE, SCALE);
                (share, 2.0 * share * (1.0 - share) * slope)
            }),
            Activation::Silu => each_backward(x, up, dy, |x| {
                let share = 1.0 / (1.0 + math::exp(-x));
                (share, share * (1.0 - share))
            }),
        },
    );
}

/// `act(x) = x · s(x)`, so `act'(x) = s(x) + x · s'(x)`; `f` gives s and s'.
#[inline(always)]
fn each_backward<E: Element>(x: &mut [E], up: Option<&mut [E]>, dy: &[E], f: impl Fn(f32) -> (f32, f32)) {
    let gradients = |x: f32, dy: f32| {
        let (share, slope) = f(x);
        (dy * x.mul_add(slope, share), dy * (x * share))
    };
    match up {
        Some(up) => {
            for ((x, up), dy) in x.iter_mut().zip(up).zip(dy) {
                let (dx, dup) = gradients(x.to_f32(), dy.to_f32());
                *x = E::from_f32(dx * up.to_f32());
                *up = E::from_f32(dup);
            }
        }
        None => {
            for (x, dy) in x.iter_mut().zip(dy) {
                *x = E::from_f32(gradients(x.to_f32(), dy.to_f32()).0);
            }
        }
    }
}

#[inline(always)]
fn each<E: Element>(x: &[f32], up: Option<&[f32]>, y: &mut [E], f: impl Fn(f32) -> f32) {
    match up {
        Some(up) => {
            for ((y, x), up) in y.iter_mut().zip(x).zip(up) {
                *y = E::from_f32(f(*x) * up);
            }
        }
        None => {
            for (y, x) in y.iter_mut().zip(x) {
                *y = E::from_f32(f(*x));
            }
        }
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
    0.5 * x * (1.0 + math::tanh(inner(x)))
}

/// √(2/π)
const SCALE: f32 = 0.797_884_6;
const CUBIC: f32 = 0.044_715;
/// 1/√(2π), the density of the normal distribution at 0.
const NORMAL: f32 = 0.398_942_3;

/// What GELU by tanh takes the tanh of.
#[inline(always)]
fn inner(x: f32) -> f32 {
    SCALE * (CUBIC * x * x).mul_add(x, x)
}
