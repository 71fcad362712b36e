//! Attention on the host over row-major queries, keys and values, each tile of rows a task.
//!
//! Backward, a task computes the gradients of its rows' queries, past which keys stream, then those of its rows' keys and
//! values, past which the queries of their group stream: what an early tile saves in the one it has in the other. Weights
//! are computed twice so that no two tasks add to one sum. Every sum is one chain over the document's rows in ascending
//! order, so its bits depend neither on tiles nor on threads.

use std::iter;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::device::{Gradient, Tiles};
use super::{Attention, QUERIES, Scratch};
use crate::device::{Access, Rows, View};
use crate::ops::math;
use crate::ops::matmul::{self, Panels, Source, matmul, matmul_add};
use crate::ops::simd::vectorize;
use crate::tensor::{Element, PANEL};

/// Rows of a tile. Packing what streams past costs as much as ten of them.
pub(super) const ROWS: usize = 2 * QUERIES;
/// Rows that stream past at a time, backward: their scores stay in the second-level cache.
const OTHERS: usize = 4 * PANEL;

/// Rows of a document, from the pack's first row on.
struct Tile {
    rows: Range<usize>,
    document: Range<usize>,
}

fn tiles(host: &Access<'_>, tiles: &Tiles) -> Vec<Tile> {
    let words = host.slice(tiles.buffer.view());
    let tile = |words: &[u32]| {
        let [first, start, end] = [0, 1, 2].map(|index| words[index] as usize);
        Tile { rows: first..end.min(first + ROWS), document: start..end }
    };
    words.chunks_exact(3).take(tiles.count).map(tile).collect()
}

/// Each tile's rows of a matrix with rows `stride` apart.
fn shares<'a, T>(mut memory: &'a mut [T], stride: usize, tiles: &[Tile]) -> Vec<&'a mut [T]> {
    let mut done = 0;
    let share = |tile: &Tile| {
        let skipped = (tile.rows.start - done).saturating_mul(stride).min(memory.len());
        let rest = std::mem::take(&mut memory).split_at_mut(skipped).1;
        let share;
        (share, memory) = rest.split_at_mut((tile.rows.len() * stride).min(rest.len()));
        done = tile.rows.end;
        share
    };
    tiles.iter().map(share).collect()
}

fn source<'a, E: Element>(host: &'a Access<'_>, rows: Rows<'a, E>) -> Source<'a, E> {
    Source { data: host.read(rows), stride: rows.stride, rows: rows.rows, width: rows.width }
}

/// Rows as the left operand of a product.
fn left<'a, E>(rows: &Source<'a, E>) -> matmul::Rows<'a, E> {
    matmul::Rows { data: rows.data, stride: rows.stride, rows: rows.rows }
}

impl Attention {
    /// Query heads that share keys.
    fn group(&self, kv: usize) -> Range<usize> {
        let group = self.heads / self.kv_heads;
        kv * group..(kv + 1) * group
    }

    fn queries<'a, E>(&self, qkv: &Source<'a, E>, rows: &Range<usize>, head: usize) -> Source<'a, E> {
        qkv.part([rows.start, head * self.head_dim], [rows.len(), self.head_dim])
    }

    fn keys_and_values<'a, E>(
        &self,
        qkv: &Source<'a, E>,
        rows: &Range<usize>,
        kv: usize,
    ) -> [Source<'a, E>; 2] {
        [self.heads + kv, self.heads + self.kv_heads + kv].map(|head| self.queries(qkv, rows, head))
    }
}

/// Work memory of tasks: as many as run at the same time, each made when it is first needed.
struct Spare<T>(Mutex<Vec<T>>);

impl<T: Send> Spare<T> {
    fn new() -> Self {
        Self(Mutex::default())
    }

    /// Runs a task with one that is free.
    fn with(&self, make: impl FnOnce() -> T, run: impl FnOnce(&mut T)) {
        let spare = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let free = spare().pop();
        let mut work = free.unwrap_or_else(make);
        run(&mut work);
        spare().push(work);
    }
}

/// What [`Attention::forward_on`] does.
pub(super) fn forward<E: Element>(
    attention: &Attention,
    host: &Access<'_>,
    out: Rows<'_, E>,
    lse: View<'_, f32>,
    qkv: Rows<'_, E>,
    on: &Tiles,
) {
    let tiles = tiles(host, on);
    let longest = tiles.iter().map(|tile| tile.rows.end - tile.document.start).max().unwrap_or(0);
    let packed = longest.next_multiple_of(PANEL) * attention.head_dim.next_multiple_of(PANEL);
    let zeros = || vec![E::from_f32(0.0); packed];
    let qkv = source(host, qkv);
    let rows = shares(host.write(out), out.stride, &tiles).into_iter();
    let tasks: Vec<_> = rows.zip(shares(host.slice_mut(lse), attention.heads, &tiles)).zip(&tiles).collect();
    let spare = Spare::new();
    let make = || Forward {
        attention,
        qkv,
        stride: out.stride,
        packed: [zeros(), zeros()],
        scratch: Scratch::new(attention, longest),
    };
    // The last tiles of documents have the most keys.
    tasks.into_par_iter().rev().with_max_len(1).for_each(|((out, lse), tile)| {
        spare.with(make, |work| work.tile(tile, out, lse));
    });
}

/// A task's forward pass.
struct Forward<'a, E> {
    attention: &'a Attention,
    qkv: Source<'a, E>,
    /// Distance between rows of the output.
    stride: usize,
    packed: [Vec<E>; 2],
    scratch: Scratch<E>,
}

impl<E: Element> Forward<'_, E> {
    fn tile(&mut self, tile: &Tile, out: &mut [E], lse: &mut [f32]) {
        let Self { attention, qkv, stride, packed: [keys, values], scratch } = self;
        for kv in 0..attention.kv_heads {
            let seen = tile.document.start..tile.rows.end;
            let [k, v] = attention.keys_and_values(qkv, &seen, kv);
            let (keys, values) = (k.outputs(E::kernel(), keys), v.inputs(E::kernel(), values));
            for (head, first) in attention
                .group(kv)
                .flat_map(|head| (0..tile.rows.len()).step_by(QUERIES).map(move |first| (head, first)))
            {
                let rows = tile.rows.start + first..tile.rows.end.min(tile.rows.start + first + QUERIES);
                let queries = attention.queries(qkv, &rows, head);
                let before = rows.start - tile.document.start;
                let count = (before + rows.len()).div_ceil(PANEL);
                let segment = values.segment.min(count * PANEL);
                let (keys, values) = (Panels { count, ..keys }, Panels { segment, ..values });
                let totals = attention.attend(left(&queries), |row| before + row + 1, keys, values, scratch);
                let outputs =
                    out.chunks_mut(*stride).skip(first).map(|row| &mut row[head * attention.head_dim..]);
                attention.write(outputs.take(rows.len()), &totals, scratch);
                let sums = lse.chunks_exact_mut(attention.heads).skip(first).take(rows.len());
                sums.zip(totals)
                    .for_each(|(row, total)| row[head] = total.max * attention.scale + total.sum.ln());
            }
        }
    }
}

/// What [`Attention::backward_on`] does.
pub(super) fn backward<E: Element>(
    attention: &Attention,
    host: &Access<'_>,
    dqkv: Rows<'_, E>,
    gradient: &Gradient<'_, E>,
    on: &Tiles,
) {
    let (heads, tiles) = (attention.heads, tiles(host, on));
    let (dout, out) = (source(host, gradient.dout), source(host, gradient.out));
    let delta = host.slice_mut(gradient.delta);
    delta[..on.rows * heads].par_chunks_mut(heads).enumerate().with_min_len(ROWS).for_each(|(row, delta)| {
        for (head, delta) in delta.iter_mut().enumerate() {
            let [dout, out] = [&dout, &out].map(|rows| attention.queries(rows, &(row..row + 1), head).data);
            *delta = dot(dout, out);
        }
    });
    let inputs =
        Inputs { attention, qkv: source(host, gradient.qkv), dout, lse: host.slice(gradient.lse), delta };
    let spare = Spare::new();
    let tasks = shares(host.write(dqkv), dqkv.stride, &tiles).into_par_iter().zip(&tiles);
    tasks.with_max_len(1).for_each(|(rows, tile)| {
        spare.with(|| Backward::new(inputs), |work| work.tile(tile, rows, dqkv.stride));
    });
}

/// Σ a·b, in an order that depends on the length alone.
fn dot<E: Element>(a: &[E], b: &[E]) -> f32 {
    let mut lanes = [0.0f32; 16];
    vectorize(
        #[inline(always)]
        || {
            for (a, b) in a.chunks(lanes.len()).zip(b.chunks(lanes.len())) {
                for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
                    *lane = a.to_f32().mul_add(b.to_f32(), *lane);
                }
            }
        },
    );
    lanes.iter().sum()
}

/// What all tasks of a backward pass read.
#[derive(Clone, Copy)]
struct Inputs<'a, E> {
    attention: &'a Attention,
    qkv: Source<'a, E>,
    dout: Source<'a, E>,
    lse: &'a [f32],
    delta: &'a [f32],
}

/// Whose gradients are computed; the other side's rows stream past.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Queries,
    Keys,
}

/// A task's backward pass.
struct Backward<'a, E> {
    inputs: Inputs<'a, E>,
    packed: Vec<E>,
    /// Scores, then products with dout.
    products: [Vec<f32>; 2],
    /// Weights, then their gradients.
    weights: [Vec<E>; 2],
    /// The streaming queries' logarithms of sums, and their δ.
    statistics: [Vec<f32>; 2],
    /// Gradients of queries or keys, less the scale, then of values.
    sums: [Vec<f32>; 2],
}

impl<'a, E: Element> Backward<'a, E> {
    fn new(inputs: Inputs<'a, E>) -> Self {
        let wide = inputs.attention.head_dim.next_multiple_of(PANEL);
        let (zeros, elements) = (|len| vec![0.0; len], |len| vec![E::from_f32(0.0); len]);
        Self {
            inputs,
            packed: elements(OTHERS * wide),
            products: [zeros(ROWS * OTHERS), zeros(ROWS * OTHERS)],
            weights: [elements(ROWS * OTHERS), elements(ROWS * OTHERS)],
            statistics: [zeros(OTHERS), zeros(OTHERS)],
            sums: [zeros(ROWS * wide), zeros(ROWS * wide)],
        }
    }

    /// The gradients of a tile's rows.
    fn tile(&mut self, tile: &Tile, out: &mut [E], stride: usize) {
        let attention = self.inputs.attention;
        let blocks = |first: usize, end: usize| {
            (first..end).step_by(OTHERS).map(move |first| first..end.min(first + OTHERS))
        };
        for head in 0..attention.heads {
            self.clear();
            blocks(tile.document.start, tile.rows.end)
                .for_each(|keys| self.add(Side::Queries, head, &tile.rows, &keys));
            write(&self.sums[0], attention.scale, head, attention.head_dim, out, stride);
        }
        for kv in 0..attention.kv_heads {
            self.clear();
            for head in attention.group(kv) {
                blocks(tile.rows.start, tile.document.end)
                    .for_each(|queries| self.add(Side::Keys, head, &tile.rows, &queries));
            }
            let (keys, values) = (attention.heads + kv, attention.heads + attention.kv_heads + kv);
            write(&self.sums[0], attention.scale, keys, attention.head_dim, out, stride);
            write(&self.sums[1], 1.0, values, attention.head_dim, out, stride);
        }
    }

    fn clear(&mut self) {
        self.sums.iter_mut().for_each(|sums| sums.fill(0.0));
    }

    /// Adds what `others` of the other side give to rows `own`, for one head of queries.
    fn add(&mut self, side: Side, head: usize, own: &Range<usize>, others: &Range<usize>) {
        let Inputs { attention, qkv, dout, .. } = self.inputs;
        let kv = head / (attention.heads / attention.kv_heads);
        let queries = |rows| [&qkv, &dout].map(|matrix| attention.queries(matrix, rows, head));
        let keys = |rows| attention.keys_and_values(&qkv, rows, kv);
        let (own_rows, other_rows) = match side {
            Side::Queries => (queries(own), keys(others)),
            Side::Keys => (keys(own), queries(others)),
        };
        let (kernel, width) = (E::kernel(), others.len().next_multiple_of(PANEL));
        let wide = attention.head_dim.next_multiple_of(PANEL);
        for ((own, other), products) in own_rows.iter().zip(&other_rows).zip(&mut self.products) {
            matmul(left(own), other.outputs(kernel, &mut self.packed), products, width);
        }
        self.weigh(side, head, own, others);
        let [weights, gradients] = self.weights.each_ref().map(|data| matmul::Rows {
            data: &data[..],
            stride: width,
            rows: own.len(),
        });
        let [a, b] = &mut self.sums;
        matmul_add(gradients, other_rows[0].inputs(kernel, &mut self.packed), a, wide);
        if side == Side::Keys {
            matmul_add(weights, other_rows[1].inputs(kernel, &mut self.packed), b, wide);
        }
    }

    /// Turns scores and products with dout into weights and their gradients, zero where the key lies past the query.
    fn weigh(&mut self, side: Side, head: usize, own: &Range<usize>, others: &Range<usize>) {
        let Inputs { attention: Attention { heads, scale, .. }, lse, delta, .. } = self.inputs;
        let (len, width) = (others.len(), others.len().next_multiple_of(PANEL));
        let of = |row: usize| (lse[row * heads + head], delta[row * heads + head]);
        let [other_lse, other_delta] = &mut self.statistics;
        if side == Side::Keys {
            for ((query, lse), delta) in others.clone().zip(&mut *other_lse).zip(&mut *other_delta) {
                (*lse, *delta) = of(query);
            }
        }
        let ([scores, products], [weights, gradients]) = (&self.products, &mut self.weights);
        let lines = scores.chunks_exact(width).zip(products.chunks_exact(width));
        let outputs = weights.chunks_exact_mut(width).zip(gradients.chunks_exact_mut(width));
        for (row, (line, (weights, gradients))) in own.clone().zip(lines.zip(outputs)) {
            let seen = match side {
                Side::Queries => 0..(row + 1).saturating_sub(others.start).min(len),
                Side::Keys => row.saturating_sub(others.start).min(len)..len,
            };
            for line in [&mut *weights, &mut *gradients] {
                line[..seen.start].fill(E::from_f32(0.0));
                line[seen.end..].fill(E::from_f32(0.0));
            }
            let line = (&line.0[seen.clone()], &line.1[seen.clone()]);
            let outputs = (&mut weights[seen.clone()], &mut gradients[seen.clone()]);
            match side {
                Side::Queries => weigh_row(*scale, line, iter::repeat(of(row)), outputs),
                Side::Keys => {
                    let statistics =
                        other_lse[seen.clone()].iter().copied().zip(other_delta[seen].iter().copied());
                    weigh_row(*scale, line, statistics, outputs);
                }
            }
        }
    }
}

/// `p = e^(scale · score − lse)` and `p · (product − δ)`.
#[inline(always)]
fn weigh_row<E: Element>(
    scale: f32,
    (scores, products): (&[f32], &[f32]),
    statistics: impl Iterator<Item = (f32, f32)>,
    (weights, gradients): (&mut [E], &mut [E]),
) {
    vectorize(
        #[inline(always)]
        || {
            let inputs = scores.iter().zip(products).zip(statistics);
            for (((score, product), (lse, delta)), (weight, gradient)) in
                inputs.zip(weights.iter_mut().zip(gradients))
            {
                let p = math::exp(score * scale - lse);
                *weight = E::from_f32(p);
                *gradient = E::from_f32(p * (product - delta));
            }
        },
    );
}

/// Writes rows of sums, each times `factor`, as head `head` of rows of `out`.
fn write<E: Element>(sums: &[f32], factor: f32, head: usize, head_dim: usize, out: &mut [E], stride: usize) {
    for (row, sums) in out.chunks_mut(stride).zip(sums.chunks_exact(head_dim.next_multiple_of(PANEL))) {
        let row = &mut row[head * head_dim..][..head_dim];
        vectorize(
            #[inline(always)]
            || {
                for (out, sum) in row.iter_mut().zip(sums) {
                    *out = E::from_f32(sum * factor);
                }
            },
        );
    }
}
