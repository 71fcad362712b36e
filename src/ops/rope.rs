//! Rotary positions: the first `rotary_dim` values of a head are rotated in pairs `(i, i + rotary_dim / 2)` by the angle
//! `position · frequency_i` (Su et al., RoFormer; the half-split form of the Hugging Face checkpoints).

use rayon::prelude::*;

use super::elementwise::BLOCK;
#[cfg(kernels)]
use super::elementwise::{block_per_row, lanes};
use super::simd::vectorize;
use crate::Result;
use crate::device::{Arm, Buffer, Queue, Rows, View, kernels::Kernels};
use crate::model::config::Rope;
use crate::tensor::Element;

/// Forward.
const FORTH: f32 = 1.0;
/// By the opposite angle: the transpose of a rotation, so its gradient.
const BACK: f32 = -1.0;

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
    pub fn upload(&self, queue: &Queue) -> Result<Rotary<Buffer<f32>>> {
        Ok(Rotary { half: self.half, cos: queue.upload(&self.cos)?, sin: queue.upload(&self.sin)? })
    }

    /// Rotates the heads of one row: `heads` holds whole heads of `head_dim` values.
    pub fn apply(&self, heads: &mut [f32], head_dim: usize, position: usize) {
        let at = position * self.half;
        rotate(heads, head_dim, &self.cos[at..][..self.half], &self.sin[at..][..self.half], FORTH);
    }
}

/// Rotates the heads of one row by the angles of its position, times `direction`.
fn rotate<E: Element>(heads: &mut [E], head_dim: usize, cos: &[f32], sin: &[f32], direction: f32) {
    vectorize(
        #[inline(always)]
        || {
            for head in heads.chunks_exact_mut(head_dim) {
                let (low, high) = head[..2 * cos.len()].split_at_mut(cos.len());
                for (((low, high), cos), sin) in low.iter_mut().zip(high).zip(cos).zip(sin) {
                    let (a, b, sin) = (low.to_f32(), high.to_f32(), sin * direction);
                    *low = E::from_f32(a * cos - b * sin);
                    *high = E::from_f32(b * cos + a * sin);
                }
            }
        },
    );
}

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
        self.rotate_on(queue, heads, head_dim, positions, FORTH)
    }

    /// Turns the gradients of rotated heads into those of the heads, in place: [`Rotary::apply_on`] by the opposite
    /// angles.
    ///
    /// # Errors
    /// As [`Rotary::apply_on`].
    ///
    /// # Panics
    /// As [`Rotary::apply_on`].
    pub fn backward_on<E: Kernels>(
        &self,
        queue: &Queue,
        dheads: Rows<'_, E>,
        head_dim: usize,
        positions: View<'_, u32>,
    ) -> Result<()> {
        self.rotate_on(queue, dheads, head_dim, positions, BACK)
    }

    fn rotate_on<E: Kernels>(
        &self,
        queue: &Queue,
        heads: Rows<'_, E>,
        head_dim: usize,
        positions: View<'_, u32>,
        direction: f32,
    ) -> Result<()> {
        let Self { half, ref cos, ref sin } = *self;
        assert!(heads.width.is_multiple_of(head_dim) && 2 * half <= head_dim, "heads of {head_dim} values");
        assert_eq!(heads.rows, positions.len(), "positions");
        heads.check();
        match queue.arm() {
            Arm::Host(host) => {
                let (cos, sin, positions) =
                    (host.slice(cos.view()), host.slice(sin.view()), host.slice(positions));
                let unknown = vec![f32::NAN; half];
                let blocks = host.write(heads).par_chunks_mut(BLOCK * heads.stride);
                blocks.zip(positions.par_chunks(BLOCK)).for_each(|(rows, positions)| {
                    for (row, position) in rows.chunks_mut(heads.stride).zip(positions) {
                        let at = *position as usize * half;
                        let row_of = |table| <[f32]>::get(table, at..at + half).unwrap_or(&unknown);
                        rotate(&mut row[..heads.width], head_dim, row_of(cos), row_of(sin), direction);
                    }
                });
                Ok(())
            }
            #[cfg(kernels)]
            Arm::Kernels => {
                let (count, places) = (heads.width / head_dim, cos.len() / half);
                let grid = block_per_row(heads.rows, count * half.div_ceil(lanes::<E>()));
                let (cos, sin, stride) = (cos.view(), sin.view(), heads.stride);
                E::rope_forward(
                    queue, grid, heads.data, cos, sin, positions, count, head_dim, places, half, stride,
                    direction,
                )
            }
        }
    }
}
