//! Rotary positions: the first `rotary_dim` values of a head are rotated in pairs `(i, i + rotary_dim / 2)` by the angle
//! `position · frequency_i` (Su et al., RoFormer; the half-split form of the Hugging Face checkpoints).

#[cfg(kernels)]
use super::elementwise::{block_per_row, lanes};
use super::simd::vectorize;
#[cfg(kernels)]
use crate::Result;
#[cfg(kernels)]
use crate::device::{Buffer, Queue, Rows, View, kernels::Kernels};
use crate::model::config::Rope;

/// Cosines and sines of every position up to a length.
pub struct Rotary<V = Vec<f32>> {
    half: usize,
    /// `[positions, half]`
    cos: V,
    /// `[positions, half]`
    sin: V,
}

impl Rotary {
    /// Tables for `positions` positions. Angles are products in f32, as the reference computes them.
    pub fn new(rope: &Rope, positions: usize) -> Self {
        let frequencies = rope.inverse_frequencies();
        let angles = || {
            let of = |position| frequencies.iter().map(move |f| f64::from(position as f32 * f));
            (0..positions).flat_map(of)
        };
        let cos = angles().map(|angle| angle.cos() as f32).collect();
        let sin = angles().map(|angle| angle.sin() as f32).collect();
        Self { half: frequencies.len(), cos, sin }
    }

    /// The tables on a device.
    ///
    /// # Errors
    /// As [`Queue::upload`].
    #[cfg(kernels)]
    pub fn upload(&self, queue: &Queue) -> Result<Rotary<Buffer<f32>>> {
        Ok(Rotary { half: self.half, cos: queue.upload(&self.cos)?, sin: queue.upload(&self.sin)? })
    }

    /// Rotates the heads of one row: `heads` holds whole heads of `head_dim` values.
    pub fn apply(&self, heads: &mut [f32], head_dim: usize, position: usize) {
        let at = position * self.half;
        let (cos, sin) = (&self.cos[at..][..self.half], &self.sin[at..][..self.half]);
        vectorize(
            #[inline(always)]
            || {
                for head in heads.chunks_exact_mut(head_dim) {
                    let (low, high) = head[..2 * self.half].split_at_mut(self.half);
                    for (((a, b), cos), sin) in low.iter_mut().zip(high).zip(cos).zip(sin) {
                        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                    }
                }
            },
        );
    }
}

#[cfg(kernels)]
impl Rotary<Buffer<f32>> {
    /// Rotates the heads of rows, each at its position. Pairs of a position past the tables become NaN.
    ///
    /// # Errors
    /// What went wrong on the device before.
    ///
    /// # Panics
    /// If rows are not whole heads that have room for the rotated values, or there is not a position for each row.
    pub fn apply_on<E: Kernels>(
        &self,
        queue: &Queue,
        heads: Rows<'_, E>,
        head_dim: usize,
        positions: View<'_, u32>,
    ) -> Result<()> {
        let Self { half, ref cos, ref sin } = *self;
        assert!(heads.width.is_multiple_of(head_dim) && 2 * half <= head_dim, "heads of {head_dim} values");
        assert_eq!(heads.rows, positions.len(), "positions");
        heads.check();
        let (count, places) = (heads.width / head_dim, cos.len() / half);
        let grid = block_per_row(heads.rows, count * half.div_ceil(lanes::<E>()));
        let (cos, sin) = (cos.view(), sin.view());
        E::rope_forward(
            queue,
            grid,
            heads.data,
            cos,
            sin,
            positions,
            count,
            head_dim,
            places,
            half,
            heads.stride,
        )
    }
}
