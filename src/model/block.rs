//! One transformer block on a block of rows: the formula of every family, told apart by data.
//!
//! ```text
//! norms ahead (all but OLMo-2)      norms after (OLMo-2)         parallel (GPT-NeoX)
//! x += attend(norm(x))              x += norm(attend(x))         x += attend(norm(x)) + mlp(norm(x))
//! x += mlp(norm(x))                 x += norm(mlp(x))
//! ```

use std::iter::once;
use std::ops::Range;

use super::config::{Config, QkNorm};
use super::weights::{self, Layer, Linear};
use crate::ops::activation::activate;
use crate::ops::attention::{self, Attention, QUERIES};
use crate::ops::elementwise::add_rows;
use crate::ops::matmul::{Panels, Rows, matmul};
use crate::ops::norm::Norm;
use crate::ops::rope::Rotary;
use crate::tensor::{Element, PANEL, round};

/// Columns of the wide layer that are computed together: their f32 sums stay in cache.
const WIDE: usize = 256;

/// What all blocks of a model share.
pub(super) struct Shape<'a> {
    pub config: &'a Config,
    pub attention: Attention,
}

/// Work memory of one thread.
pub(super) struct Scratch<E> {
    /// Inputs of a product, `[rows, C or I]`.
    input: Vec<E>,
    wide: Vec<E>,
    /// Outputs of a product, `[rows, max(Q + 2K, C)]` padded to panels.
    output: Vec<f32>,
    pub gate: Vec<f32>,
    pub up: Vec<f32>,
    pub attention: attention::Scratch<E>,
}

impl<E: Element> Scratch<E> {
    pub fn new(shape: &Shape, rows: usize, keys: usize) -> Self {
        let config = shape.config;
        let qkv = shape.attention.q_len() + 2 * shape.attention.kv_len();
        let zero = E::from_f32(0.0);
        Self {
            input: vec![zero; rows * stride::<E>(config.hidden_size)],
            wide: vec![zero; rows * stride::<E>(config.intermediate_size)],
            output: vec![0.0; rows * qkv.max(config.hidden_size).next_multiple_of(PANEL)],
            gate: vec![0.0; rows * WIDE],
            up: vec![0.0; rows * WIDE],
            attention: attention::Scratch::new(&shape.attention, keys),
        }
    }
}

/// Distance between rows of a product's inputs: whole groups, the padding stays zero.
pub(super) fn stride<E: Element>(k: usize) -> usize {
    k.next_multiple_of(E::GROUP)
}

impl Shape<'_> {
    pub(super) fn norm<'a>(&self, norm: &'a weights::Norm) -> Norm<&'a [f32]> {
        let Config { norm: kind, norm_eps: eps, .. } = *self.config;
        Norm { kind, eps, weight: norm.weight.as_deref(), bias: norm.bias.as_deref() }
    }

    /// Queries into `q` (`[rows, Q]`), keys and values into `kv` (`[rows, 2K]`), ready for attention.
    pub(super) fn project<E: Element>(
        &self,
        layer: &Layer<E>,
        x: &[f32],
        (positions, rotary): (&[u32], Option<&Rotary>),
        (q, kv): (&mut [E], &mut [E]),
        scratch: &mut Scratch<E>,
    ) {
        let (q_len, kv_len) = (self.attention.q_len(), 2 * self.attention.kv_len());
        let Scratch { input, output, .. } = scratch;
        self.input(&layer.attention_norm, x, input);
        let width = linear(&layer.qkv, input, positions.len(), output);
        let heads = q.chunks_exact_mut(q_len).zip(kv.chunks_exact_mut(kv_len));
        for ((row, position), heads) in output.chunks_mut(width).zip(positions).zip(heads) {
            self.prepare(layer, row, (*position, rotary), heads);
        }
    }

    /// What the first products of the attention or the MLP read: rows of the residual stream, normalised where norms come
    /// before.
    pub(super) fn input<E: Element>(&self, norm: &weights::Norm, x: &[f32], out: &mut [E]) {
        let d = self.config.hidden_size;
        if self.config.norm_after {
            convert(x, d, out);
        } else {
            self.norm(norm).forward(x, d, out, stride::<E>(d));
        }
    }

    /// Makes queries and a row of keys and values of one row's product: clamped, normalised, rotated, rounded.
    pub(super) fn prepare<E: Element>(
        &self,
        layer: &Layer<E>,
        row: &mut [f32],
        (position, rotary): (u32, Option<&Rotary>),
        (q, kv): (&mut [E], &mut [E]),
    ) {
        let (q_len, kv_len) = (self.attention.q_len(), self.attention.kv_len());
        let row = &mut row[..q_len + 2 * kv_len];
        if let Some(limit) = self.config.clip_qkv {
            row.iter_mut().for_each(|x| *x = x.clamp(-limit, limit));
        }
        let (queries, keys) = row[..q_len + kv_len].split_at_mut(q_len);
        self.normalise_heads(layer.q_norm.as_deref(), queries);
        self.normalise_heads(layer.k_norm.as_deref(), keys);
        if let Some(rotary) = rotary {
            rotary.apply(&mut row[..q_len + kv_len], self.attention.head_dim, position as usize);
        }
        let (queries, keys_and_values) = row.split_at(q_len);
        round(queries, q);
        round(keys_and_values, kv);
    }

    /// Norms of queries or keys: over each head (Qwen3) or over all of them (OLMo-2).
    fn normalise_heads(&self, weight: Option<&[f32]>, heads: &mut [f32]) {
        if self.config.qk_norm == QkNorm::None {
            return;
        }
        let width = match self.config.qk_norm {
            QkNorm::Head => self.attention.head_dim,
            _ => heads.len(),
        };
        let Config { norm: kind, norm_eps: eps, .. } = *self.config;
        Norm { kind, eps, weight, bias: None }.in_place(heads, width, width);
    }

    /// Attention over rows `rows` of one document whose packed keys and values are `blocks`; replaces `q`.
    pub(super) fn attend<E: Element>(
        &self,
        q: &mut [E],
        rows: Range<usize>,
        blocks: &[E],
        scratch: &mut Scratch<E>,
    ) {
        for (index, q) in q.chunks_mut(QUERIES * self.attention.q_len()).enumerate() {
            self.attention.forward(q, rows.start + index * QUERIES, blocks, &mut scratch.attention);
        }
    }

    /// Adds attention's output projection and the MLP to `x`, given the heads' outputs.
    pub(super) fn finish<E: Element>(
        &self,
        layer: &Layer<E>,
        heads: &[E],
        x: &mut [f32],
        scratch: &mut Scratch<E>,
    ) {
        let rows = x.len() / self.config.hidden_size;
        if self.config.parallel_residual {
            self.input(&layer.mlp_norm, x, &mut scratch.input);
        }
        let width = linear(&layer.output, heads, rows, &mut scratch.output);
        self.add(&layer.attention_norm, &mut scratch.output, width, x);
        if !self.config.parallel_residual {
            self.input(&layer.mlp_norm, x, &mut scratch.input);
        }
        let width = self.mlp(layer, rows, scratch);
        self.add(&layer.mlp_norm, &mut scratch.output, width, x);
    }

    /// `x += output`, normalised first where norms come after.
    pub(super) fn add(&self, norm: &weights::Norm, output: &mut [f32], width: usize, x: &mut [f32]) {
        let d = self.config.hidden_size;
        let output = &mut output[..x.len() / d * width];
        if self.config.norm_after {
            self.norm(norm).in_place(output, d, width);
        }
        for (x, output) in x.chunks_exact_mut(d).zip(output.chunks_exact(width)) {
            add_rows(x, once(&output[..d]));
        }
    }

    /// `down(act(gate(h)) · up(h))` of the rows in `scratch.input`, into `scratch.output`.
    fn mlp<E: Element>(&self, layer: &Layer<E>, rows: usize, scratch: &mut Scratch<E>) -> usize {
        let Scratch { input, wide, output, gate, up, .. } = scratch;
        let wide_stride = stride::<E>(self.config.intermediate_size);
        for first in (0..self.config.intermediate_size).step_by(WIDE) {
            let columns = WIDE.min(self.config.intermediate_size - first);
            if let Some(linear) = &layer.gate {
                columns_of(linear, input, rows, first..first + columns, gate);
            }
            columns_of(&layer.up, input, rows, first..first + columns, up);
            for row in 0..rows {
                let gate = layer.gate.as_ref().map(|_| &gate[row * WIDE..][..columns]);
                let out = &mut wide[row * wide_stride + first..][..columns];
                self.activate(gate, &up[row * WIDE..][..columns], out);
            }
        }
        linear(&layer.down, wide, rows, output)
    }

    /// `act(gate) · up`, or `act(up)` where there is no gate.
    pub(super) fn activate<E: Element>(&self, gate: Option<&[f32]>, up: &[f32], out: &mut [E]) {
        match gate {
            Some(gate) => activate(self.config.activation, gate, Some(up), out),
            None => activate(self.config.activation, up, None, out),
        }
    }
}

/// Rounds rows of `d` values to the products' input type.
fn convert<E: Element>(x: &[f32], d: usize, out: &mut [E]) {
    for (x, out) in x.chunks_exact(d).zip(out.chunks_exact_mut(stride::<E>(d))) {
        round(x, out);
    }
}

/// `out = input · Wᵀ + bias`; returns the distance between rows of `out`.
fn linear<E: Element>(linear: &Linear<E>, input: &[E], rows: usize, out: &mut [f32]) -> usize {
    let n = linear.weight.n();
    let width = n.next_multiple_of(PANEL);
    let a = Rows { data: input, stride: stride::<E>(linear.weight.k()), rows };
    matmul(a, Panels::of(&linear.weight, 0, n.div_ceil(PANEL)), out, width);
    add_bias(linear, 0..n, &mut out[..rows * width], width);
    width
}

/// The same for some of the outputs, starting at a whole panel; rows of `out` are [`WIDE`] apart.
fn columns_of<E: Element>(
    linear: &Linear<E>,
    input: &[E],
    rows: usize,
    columns: Range<usize>,
    out: &mut [f32],
) {
    let a = Rows { data: input, stride: stride::<E>(linear.weight.k()), rows };
    let panels = Panels::of(&linear.weight, columns.start / PANEL, columns.len().div_ceil(PANEL));
    matmul(a, panels, out, WIDE);
    add_bias(linear, columns, &mut out[..rows * WIDE], WIDE);
}

pub(super) fn add_bias<E: Element>(linear: &Linear<E>, columns: Range<usize>, out: &mut [f32], width: usize) {
    if let Some(bias) = &linear.bias {
        for out in out.chunks_exact_mut(width) {
            add_rows(out, once(&bias[columns.clone()]));
        }
    }
}
