//! Causal grouped-query attention over packed documents:
//! `o_i = Σ_{j<=i} softmax_j(scale · q_i·k_j) v_j`, each document on its own.
//!
//! Keys and values of a document are packed into blocks of [`PANEL`] keys, in the layout that the products read, so that
//! scores are one product and the weighted sum of values another. Blocks start at the document's first token: a row's
//! bits do not depend on where in the batch the document lies. Query head h reads the keys of head `h / (H / KV)`.

mod device;
mod host;
#[cfg(kernels)]
mod launch;

pub use device::Tiles;
#[cfg(kernels)]
pub(in crate::ops) use launch::width;

use super::math;
use super::matmul::{Panels, Rows, matmul};
use super::simd::vectorize;
use crate::tensor::{Element, PANEL, pack_panel};

/// Rows of queries that share one pass over the keys: their scores stay in the second-level cache.
pub const QUERIES: usize = 24;

/// The sizes of attention.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// Query heads H.
    pub heads: usize,
    /// Key and value heads KV, a divisor of H.
    pub kv_heads: usize,
    /// Values in a head, even.
    pub head_dim: usize,
    /// Factor of the scores, usually `1 / √head_dim`.
    pub scale: f32,
}

/// What a row's weights are divided by.
#[derive(Clone, Copy)]
struct Total {
    /// The largest score, not yet scaled.
    max: f32,
    /// Σ e^((score − max) · scale)
    sum: f32,
}

/// Work memory of one thread.
pub struct Scratch<E> {
    scores: Vec<f32>,
    weights: Vec<E>,
    output: Vec<f32>,
}

impl<E: Element> Scratch<E> {
    /// Room for documents of up to `keys` tokens.
    pub fn new(attention: &Attention, keys: usize) -> Self {
        let keys = keys.next_multiple_of(PANEL);
        Self {
            scores: vec![0.0; QUERIES * keys],
            weights: vec![E::from_f32(0.0); QUERIES * keys],
            output: vec![0.0; QUERIES * attention.head_dim.next_multiple_of(PANEL)],
        }
    }
}

impl Attention {
    /// Values of all query heads in a row.
    pub fn q_len(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Values of all key heads in a row; as many again for the values.
    pub fn kv_len(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Elements of one head's keys in a block.
    fn key_len(&self) -> usize {
        self.head_dim * PANEL
    }

    /// Elements of one head's keys and values in a block.
    fn head_len(&self) -> usize {
        self.key_len() + self.head_dim.next_multiple_of(PANEL) * PANEL
    }

    /// Elements of a block: [`PANEL`] keys and their values, all heads.
    pub fn block_len(&self) -> usize {
        self.kv_heads * self.head_len()
    }

    /// Packs rows of keys and values (`2 · kv_len` values each, keys first) as keys `first..` of a block of [`PANEL`]. With
    /// the first key a block begins anew: those past its rows are zeros.
    pub fn pack<E: Element>(&self, rows: &[E], first: usize, block: &mut [E]) {
        if first == 0 {
            block.fill(E::from_f32(0.0));
        }
        let stride = 2 * self.kv_len();
        for (head, block) in block.chunks_exact_mut(self.head_len()).enumerate() {
            let (keys, values) = block.split_at_mut(self.key_len());
            let column = head * self.head_dim;
            pack_panel(&rows[column..], stride, self.head_dim, first, keys);
            for (row, at) in rows.chunks_exact(stride).zip(first..) {
                pack_value(at, &row[self.kv_len() + column..][..self.head_dim], values);
            }
        }
    }

    /// Makes keys `first..` of a block, and their values, zeros again.
    pub fn clear<E: Element>(&self, first: usize, block: &mut [E]) {
        let rows = vec![E::from_f32(0.0); (PANEL - first) * 2 * self.kv_len()];
        self.pack(&rows, first, block);
    }

    /// Replaces the queries of rows `first..` of one document by the heads' outputs. `q` holds up to [`QUERIES`] rows,
    /// `q_len` apart; `blocks` the document's packed keys and values.
    pub fn forward<E: Element>(&self, q: &mut [E], first: usize, blocks: &[E], scratch: &mut Scratch<E>) {
        let rows = q.len() / self.q_len();
        let count = (first + rows).div_ceil(PANEL);
        for head in 0..self.heads {
            let blocks = &blocks[head / (self.heads / self.kv_heads) * self.head_len()..];
            let queries = Rows { data: &q[head * self.head_dim..], stride: self.q_len(), rows };
            let values = self.values(&blocks[self.key_len()..], count);
            let totals =
                self.attend(queries, |row| first + row + 1, self.keys(blocks, count), values, scratch);
            let rows = q.chunks_exact_mut(self.q_len()).map(|row| &mut row[head * self.head_dim..]);
            self.write(rows, &totals, scratch);
        }
    }

    /// [`Attention::forward`] of one row, number `row` of its document, for the query heads `q` that share the key head
    /// `kv_head`: they read the keys together.
    pub fn forward_row<E: Element>(
        &self,
        q: &mut [E],
        row: usize,
        kv_head: usize,
        blocks: &[E],
        scratch: &mut Scratch<E>,
    ) {
        let (d, count) = (self.head_dim, (row + 1).div_ceil(PANEL));
        let blocks = &blocks[kv_head * self.head_len()..];
        for q in q.chunks_mut(QUERIES * d) {
            let queries = Rows { data: &*q, stride: d, rows: q.len() / d };
            let values = self.values(&blocks[self.key_len()..], count);
            let totals = self.attend(queries, |_| row + 1, self.keys(blocks, count), values, scratch);
            self.write(q.chunks_exact_mut(d), &totals, scratch);
        }
    }

    /// Leaves the weighted sums of values in `scratch`, for up to [`QUERIES`] queries of a head, query r over the first
    /// `limit(r)` keys, and returns what they are to be divided by.
    fn attend<E: Element>(
        &self,
        queries: Rows<E>,
        limit: impl Fn(usize) -> usize,
        keys: Panels<E>,
        values: Panels<E>,
        scratch: &mut Scratch<E>,
    ) -> [Total; QUERIES] {
        let (rows, count, wide) = (queries.rows, keys.count * PANEL, values.count * PANEL);
        let Scratch { scores, weights, output } = scratch;
        matmul(queries, keys, scores, count);
        let totals = vectorize(
            #[inline(always)]
            || self.softmax(rows, limit, count, scores, weights),
        );
        matmul(Rows { data: &weights[..], stride: count, rows }, values, output, wide);
        totals
    }

    /// Divides by the sums and writes a head's outputs to the starts of rows.
    fn write<'a, E: Element>(
        &self,
        rows: impl Iterator<Item = &'a mut [E]>,
        totals: &[Total],
        scratch: &Scratch<E>,
    ) {
        let outputs = scratch.output.chunks_exact(self.head_dim.next_multiple_of(PANEL));
        for ((row, output), total) in rows.zip(outputs).zip(totals) {
            let row = &mut row[..self.head_dim];
            vectorize(
                #[inline(always)]
                || {
                    for (out, x) in row.iter_mut().zip(output) {
                        *out = E::from_f32(x / total.sum);
                    }
                },
            );
        }
    }

    fn keys<'a, E: Element>(&self, blocks: &'a [E], count: usize) -> Panels<'a, E> {
        let stride = self.block_len();
        Panels { data: blocks, count, stride, segments: 1, segment: self.head_dim, segment_stride: 0 }
    }

    fn values<'a, E: Element>(&self, values: &'a [E], blocks: usize) -> Panels<'a, E> {
        Panels {
            data: values,
            count: self.head_dim.div_ceil(PANEL),
            stride: PANEL * PANEL,
            segments: blocks,
            segment: PANEL,
            segment_stride: self.block_len(),
        }
    }

    /// Turns scores into weights e^(s − max), zero past each row's limit, and returns their totals. The sum is that of
    /// the rounded weights, so that rounding them does not change their share.
    #[inline(always)]
    fn softmax<E: Element>(
        &self,
        rows: usize,
        limit: impl Fn(usize) -> usize,
        keys: usize,
        scores: &mut [f32],
        weights: &mut [E],
    ) -> [Total; QUERIES] {
        let mut totals = [Total { max: 0.0, sum: 1.0 }; QUERIES];
        let lines = scores.chunks_exact_mut(keys).zip(weights.chunks_exact_mut(keys));
        for (row, ((scores, weights), total)) in lines.zip(&mut totals).take(rows).enumerate() {
            let limit = limit(row);
            let max = math::max(&scores[..limit]);
            for (score, weight) in scores[..limit].iter_mut().zip(&mut weights[..limit]) {
                *weight = E::from_f32(math::exp((*score - max) * self.scale));
                *score = weight.to_f32();
            }
            scores[limit..].fill(0.0);
            weights[limit..].fill(E::from_f32(0.0));
            *total = Total { max, sum: math::sum(scores, |x| x) };
        }
        totals
    }
}

/// Writes one key's values as input `at` of the panels.
fn pack_value<E: Element>(at: usize, value: &[E], panels: &mut [E]) {
    let start = at / E::GROUP * PANEL * E::GROUP + at % E::GROUP;
    for (value, panel) in value.chunks(PANEL).zip(panels.chunks_exact_mut(PANEL * PANEL)) {
        for (value, out) in value.iter().zip(panel[start..].iter_mut().step_by(E::GROUP)) {
            *out = *value;
        }
    }
}
