//! A layer on few rows: threads share out the outputs of each product, so that the weights are read once, whatever the
//! number of threads. The bits are those of [`super::block`], every output being one chain over its inputs.

use std::ops::Range;
use std::sync::Mutex;

use rayon::prelude::*;

use super::block::{Scratch, Shape, add_bias, stride};
use super::forward::{Keys, Rotated, lock};
use super::weights::{Layer, Linear};
use crate::ops::matmul::{Panels, Rows, matmul};
use crate::tensor::{Element, PANEL, panel_len};

/// Rows up to which this is the faster way.
pub(super) const ROWS: usize = 64;
/// Bytes of weights that a thread takes at a time.
const GRAIN: usize = 64 << 10;

/// Work memory.
pub(super) struct Columns<E> {
    /// Inputs of a product `[rows, C]`.
    input: Vec<E>,
    /// The MLP's `[rows, I]`.
    wide: Vec<E>,
    /// The same, panel by panel.
    wide_panels: Vec<E>,
    /// Outputs of a product, panel by panel: `[panels, rows, PANEL]`.
    panels: Vec<f32>,
    /// The same in rows, padded to whole panels.
    output: Vec<f32>,
}

impl<E: Element> Columns<E> {
    pub fn new(shape: &Shape) -> Self {
        let config = shape.config;
        let zero = E::from_f32(0.0);
        let qkv = shape.attention.q_len() + 2 * shape.attention.kv_len();
        let outputs = ROWS * qkv.max(config.hidden_size).next_multiple_of(PANEL);
        Self {
            input: vec![zero; ROWS * stride::<E>(config.hidden_size)],
            wide: vec![zero; ROWS * stride::<E>(config.intermediate_size)],
            wide_panels: vec![zero; ROWS * config.intermediate_size.next_multiple_of(PANEL)],
            panels: vec![0.0; outputs],
            output: vec![0.0; outputs],
        }
    }

    /// Queries into `q`, keys and values into `kv`, ready for attention.
    pub fn project(
        &mut self,
        shape: &Shape,
        layer: &Layer<E>,
        x: &[f32],
        (positions, rotary): Rotated,
        (q, kv): (&mut [E], &mut [E]),
    ) {
        let (q_len, kv_len) = (shape.attention.q_len(), 2 * shape.attention.kv_len());
        shape.input(&layer.attention_norm, x, &mut self.input);
        let Self { input, panels, output, .. } = self;
        let width = product(&layer.qkv, input, positions.len(), panels, output);
        let heads = q.chunks_exact_mut(q_len).zip(kv.chunks_exact_mut(kv_len));
        for ((row, position), heads) in output.chunks_exact_mut(width).zip(positions).zip(heads) {
            shape.prepare(layer, row, (*position, rotary), heads);
        }
    }

    /// Attention of each row, and everything after it.
    pub fn finish(&mut self, shape: &Shape, layer: &Layer<E>, q: &mut [E], x: &mut [f32], keys: &Keys<E>) {
        let rows = x.len() / shape.config.hidden_size;
        attend(shape, q, keys);
        if shape.config.parallel_residual {
            shape.input(&layer.mlp_norm, x, &mut self.input);
        }
        let width = product(&layer.output, q, rows, &mut self.panels, &mut self.output);
        shape.add(&layer.attention_norm, &mut self.output, width, x);
        if !shape.config.parallel_residual {
            shape.input(&layer.mlp_norm, x, &mut self.input);
        }
        self.widen(shape, layer, rows, keys.threads);
        let width = product(&layer.down, &self.wide, rows, &mut self.panels, &mut self.output);
        shape.add(&layer.mlp_norm, &mut self.output, width, x);
    }

    /// `act(gate(h)) · up(h)`
    fn widen(&mut self, shape: &Shape, layer: &Layer<E>, rows: usize, threads: &[Mutex<Scratch<E>>]) {
        let Self { input, wide, wide_panels, .. } = self;
        let i = shape.config.intermediate_size;
        let panels = i.div_ceil(PANEL);
        let of_panel = |panel: usize, out: &mut [E]| {
            let Scratch { gate, up, .. } = &mut *lock(threads);
            one_panel(&layer.up, input, rows, panel, up);
            if let Some(linear) = &layer.gate {
                one_panel(linear, input, rows, panel, gate);
            }
            let values = rows * PANEL;
            shape.activate(layer.gate.as_ref().map(|_| &gate[..values]), &up[..values], out);
        };
        let products = 1 + usize::from(layer.gate.is_some());
        let grain = GRAIN / (products * size_of::<E>() * panel_len::<E>(layer.up.weight.k()));
        share(0..panels, &mut wide_panels[..panels * rows * PANEL], rows * PANEL, grain, &of_panel);
        gather(wide_panels, rows, wide, i, stride::<E>(i));
    }
}

/// Replaces each row's queries by the heads' outputs.
fn attend<E: Element>(shape: &Shape, q: &mut [E], keys: &Keys<E>) {
    let attention = &shape.attention;
    let shared = attention.q_len() / attention.kv_heads;
    q.par_chunks_exact_mut(shared).enumerate().for_each(|(index, q)| {
        let (position, blocks) = keys.of_row(index / attention.kv_heads);
        let scratch = &mut lock(keys.threads).attention;
        attention.forward_row(q, position, index % attention.kv_heads, blocks, scratch);
    });
}

/// `output = input · Wᵀ + bias`; returns the distance between rows of `output`.
fn product<E: Element>(
    linear: &Linear<E>,
    input: &[E],
    rows: usize,
    panels: &mut [f32],
    output: &mut [f32],
) -> usize {
    let width = linear.weight.n().next_multiple_of(PANEL);
    let grain = GRAIN / (size_of::<E>() * panel_len::<E>(linear.weight.k()));
    let panels = &mut panels[..rows * width];
    share(0..width / PANEL, panels, rows * PANEL, grain, &|panel, out: &mut [f32]| {
        one_panel(linear, input, rows, panel, out);
    });
    gather(panels, rows, output, width, width);
    width
}

/// One panel of a product with its bias, rows [`PANEL`] apart.
fn one_panel<E: Element>(linear: &Linear<E>, input: &[E], rows: usize, panel: usize, out: &mut [f32]) {
    let a = Rows { data: input, stride: stride::<E>(linear.weight.k()), rows };
    matmul(a, Panels::of(&linear.weight, panel, 1), out, PANEL);
    let first = panel * PANEL;
    let columns = first..linear.weight.n().min(first + PANEL);
    add_bias(linear, columns, &mut out[..rows * PANEL], PANEL);
}

/// Has the threads share out panels, at least `grain` at a time: `f` fills `len` values for each.
fn share<T: Send>(
    panels: Range<usize>,
    out: &mut [T],
    len: usize,
    grain: usize,
    f: &(impl Fn(usize, &mut [T]) + Sync),
) {
    if panels.len() <= grain.max(1) {
        panels.zip(out.chunks_exact_mut(len)).for_each(|(panel, out)| f(panel, out));
        return;
    }
    let middle = panels.start + panels.len() / 2;
    let (low, high) = out.split_at_mut((middle - panels.start) * len);
    rayon::join(
        || share(panels.start..middle, low, len, grain, f),
        || share(middle..panels.end, high, len, grain, f),
    );
}

/// Panels of rows as rows of `width` values.
fn gather<T: Copy>(panels: &[T], rows: usize, out: &mut [T], width: usize, stride: usize) {
    for (panel, first) in panels.chunks_exact(rows * PANEL).zip((0..width).step_by(PANEL)) {
        let columns = PANEL.min(width - first);
        for (values, out) in panel.chunks_exact(PANEL).zip(out.chunks_mut(stride)) {
            out[first..first + columns].copy_from_slice(&values[..columns]);
        }
    }
}
