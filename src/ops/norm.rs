//! Normalisation of rows of `d` values:
//!
//! - layer: `y = (x − mean) · rstd · weight + bias`, `rstd = 1 / √(var + eps)` with the biased variance;
//! - RMS: `y = x · rstd · weight + bias`, `rstd = 1 / √(mean(x²) + eps)`.
//!
//! Backward, with `n = (x − mean) · rstd` and `g = dy · weight`: `dx = rstd · (g − mean(g) − n · mean(g · n))`, without
//! `mean(g)` for RMS; `dweight += Σ dy · n`, `dbias += Σ dy`. The moments are computed again: x is read anyway.

mod backward;
mod chunks;
mod device;

pub use chunks::NormGradient;

use super::math;
use super::simd::vectorize;
use crate::model::config::NormKind;
use crate::tensor::Element;

/// One norm with its parameters, as slices `&[f32]` or on a device as [`View`](crate::device::View)s; a missing weight is
/// 1, a missing bias 0.
#[derive(Clone, Copy)]
pub struct Norm<P> {
    /// Which of the two formulas.
    pub kind: NormKind,
    /// Added to the variance.
    pub eps: f32,
    /// `[d]`
    pub weight: Option<P>,
    /// `[d]`
    pub bias: Option<P>,
}

impl<P> Norm<P> {
    /// The same norm with its parameters somewhere else.
    fn map<Q>(self, f: impl Fn(P) -> Q) -> Norm<Q> {
        let Self { kind, eps, weight, bias } = self;
        Norm { kind, eps, weight: weight.map(&f), bias: bias.map(&f) }
    }
}

impl Norm<&[f32]> {
    /// Normalises rows of `d` values from `x` into rows `stride` apart in `y`.
    pub fn forward<E: Element>(&self, x: &[f32], d: usize, y: &mut [E], stride: usize) {
        vectorize(
            #[inline(always)]
            || {
                for (x, y) in x.chunks_exact(d).zip(y.chunks_mut(stride)) {
                    self.row(x, &mut y[..d]);
                }
            },
        );
    }

    /// Normalises rows of `d` values, `stride` apart, in place.
    pub fn in_place<E: Element>(&self, x: &mut [E], d: usize, stride: usize) {
        vectorize(
            #[inline(always)]
            || {
                for x in x.chunks_mut(stride) {
                    self.row_in_place(&mut x[..d]);
                }
            },
        );
    }

    #[inline(always)]
    fn row<E: Element>(&self, x: &[f32], y: &mut [E]) {
        let (shift, rstd) = self.moments(x);
        self.each(
            y.iter_mut().zip(x),
            #[inline(always)]
            |(y, x), w, b| *y = E::from_f32(((x - shift) * rstd).mul_add(w, b)),
        );
    }

    /// `x += norm(y)`
    #[inline(always)]
    fn add_row(&self, x: &mut [f32], y: &[f32]) {
        let (shift, rstd) = self.moments(y);
        self.each(
            x.iter_mut().zip(y),
            #[inline(always)]
            |(x, y), w, b| *x += ((y - shift) * rstd).mul_add(w, b),
        );
    }

    #[inline(always)]
    fn row_in_place<E: Element>(&self, x: &mut [E]) {
        let (shift, rstd) = self.moments(x);
        self.each(
            x.iter_mut(),
            #[inline(always)]
            |x, w, b| *x = E::from_f32(((x.to_f32() - shift) * rstd).mul_add(w, b)),
        );
    }

    #[inline(always)]
    fn moments<E: Element>(&self, x: &[E]) -> (f32, f32) {
        let n = x.len() as f32;
        let shift = match self.kind {
            NormKind::Layer => math::sum(x, |x| x.to_f32()) / n,
            NormKind::Rms => 0.0,
        };
        let squares = math::sum(x, |x| (x.to_f32() - shift) * (x.to_f32() - shift));
        (shift, 1.0 / (squares / n + self.eps).sqrt())
    }

    /// Hands each item to `put` with its weight and its bias.
    #[inline(always)]
    fn each<I>(&self, items: impl Iterator<Item = I>, put: impl Fn(I, f32, f32)) {
        match (self.weight, self.bias) {
            (None, None) => {
                for item in items {
                    put(item, 1.0, 0.0);
                }
            }
            (None, Some(bias)) => {
                for (item, b) in items.zip(bias) {
                    put(item, 1.0, *b);
                }
            }
            (Some(weight), None) => {
                for (item, w) in items.zip(weight) {
                    put(item, *w, 0.0);
                }
            }
            (Some(weight), Some(bias)) => {
                for ((item, w), b) in items.zip(weight).zip(bias) {
                    put(item, *w, *b);
                }
            }
        }
    }
}
