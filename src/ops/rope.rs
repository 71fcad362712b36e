//! Rotary positions: the first `rotary_dim` values of a head are rotated in pairs `(i, i + rotary_dim / 2)` by the angle
//! `position · frequency_i` (Su et al., RoFormer; the half-split form of the Hugging Face checkpoints).

use super::simd::vectorize;
use crate::model::config::Rope;

/// Cosines and sines of every position up to a length.
pub struct Rotary {
    half: usize,
    /// `[positions, half]`
    cos: Vec<f32>,
    /// `[positions, half]`
    sin: Vec<f32>,
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
