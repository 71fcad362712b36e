//! Rotary positions: the first `rotary_dim` values of a head are rotated in pairs `(i, i + rotary_dim / 2)` by the angle
//! `position · frequency_i` (Su et al., RoFormer; the half-split form of the Hugging Face checkpoints).

use crate::model::config::Rope;

/// Cosines and sines of every position up to a length.
pub struct Rotary {
    half: usize,
    /// `[positions, half]` pairs of cosine and sine.
    table: Vec<[f32; 2]>,
}

impl Rotary {
    /// Tables for `positions` positions. Angles are products in f32, as the reference computes them.
    pub fn new(rope: &Rope, positions: usize) -> Self {
        let frequencies = rope.inverse_frequencies();
        let table = (0..positions)
            .flat_map(|position| {
                frequencies.iter().map(move |frequency| {
                    let angle = f64::from(position as f32 * frequency);
                    [angle.cos() as f32, angle.sin() as f32]
                })
            })
            .collect();
        Self { half: frequencies.len(), table }
    }

    /// Rotates the heads of one row: `heads` holds whole heads of `head_dim` values.
    pub fn apply(&self, heads: &mut [f32], head_dim: usize, position: usize) {
        let angles = &self.table[position * self.half..][..self.half];
        for head in heads.chunks_exact_mut(head_dim) {
            let (low, high) = head[..2 * self.half].split_at_mut(self.half);
            for ((a, b), [cos, sin]) in low.iter_mut().zip(high).zip(angles) {
                (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
            }
        }
    }
}
