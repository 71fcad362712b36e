//! Normalisation of rows of `d` values:
//!
//! - layer: `y = (x − mean) · rstd · weight + bias`, `rstd = 1 / √(var + eps)` with the biased variance;
//! - RMS: `y = x · rstd · weight`, `rstd = 1 / √(mean(x²) + eps)`.

#[cfg(kernels)]
mod device;

use super::math;
use super::simd::vectorize;
use crate::model::config::NormKind;
use crate::tensor::Element;

/// One norm with its parameters, in slices or on a device; a missing weight is 1, a missing bias 0.
#[derive(Clone, Copy)]
pub struct Norm<'a, V: ?Sized = [f32]> {
    /// Which of the two formulas.
    pub kind: NormKind,
    /// Added to the variance.
    pub eps: f32,
    /// `[d]`
    pub weight: Option<&'a V>,
    /// `[d]`
    pub bias: Option<&'a V>,
}

impl Norm<'_> {
    /// Normalises rows of `d` values from `x` into rows `stride` apart in `y`.
    pub fn forward<E: Element>(&self, x: &[f32], d: usize, y: &mut [E], stride: usize) {
        vectorize(
            #[inline(always)]
            || {
                for (x, y) in x.chunks_exact(d).zip(y.chunks_mut(stride)) {
                    let (shift, rstd) = self.moments(x);
                    self.write(x, shift, rstd, &mut y[..d]);
                }
            },
        );
    }

    /// Normalises rows of `d` values, `stride` apart, in place.
    pub fn in_place(&self, x: &mut [f32], d: usize, stride: usize) {
        vectorize(
            #[inline(always)]
            || {
                for x in x.chunks_mut(stride) {
                    let x = &mut x[..d];
                    let (shift, rstd) = self.moments(x);
                    x.iter_mut().for_each(|x| *x = (*x - shift) * rstd);
                    self.scale(x);
                }
            },
        );
    }

    #[inline(always)]
    fn moments(&self, x: &[f32]) -> (f32, f32) {
        let n = x.len() as f32;
        let shift = match self.kind {
            NormKind::Layer => math::sum(x, |x| x) / n,
            NormKind::Rms => 0.0,
        };
        let squares = math::sum(x, |x| (x - shift) * (x - shift));
        (shift, 1.0 / (squares / n + self.eps).sqrt())
    }

    #[inline(always)]
    fn write<E: Element>(&self, x: &[f32], shift: f32, rstd: f32, y: &mut [E]) {
        match (self.weight, self.bias) {
            (None, None) => {
                y.iter_mut().zip(x).for_each(|(y, x)| *y = E::from_f32((x - shift) * rstd));
            }
            (None, Some(bias)) => {
                for ((y, x), b) in y.iter_mut().zip(x).zip(bias) {
                    *y = E::from_f32((x - shift).mul_add(rstd, *b));
                }
            }
            (Some(weight), None) => {
                for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
                    *y = E::from_f32((x - shift) * rstd * w);
                }
            }
            (Some(weight), Some(bias)) => {
                for (((y, x), w), b) in y.iter_mut().zip(x).zip(weight).zip(bias) {
                    *y = E::from_f32(((x - shift) * rstd).mul_add(*w, *b));
                }
            }
        }
    }

    #[inline(always)]
    fn scale(&self, x: &mut [f32]) {
        if let Some(weight) = self.weight {
            x.iter_mut().zip(weight).for_each(|(x, w)| *x *= w);
        }
        if let Some(bias) = self.bias {
            x.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
        }
    }
}
