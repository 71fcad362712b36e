//! The attention of a block, with its products.

use super::{Block, Shape};
use crate::Result;
use crate::device::kernels::Kernels;
use crate::device::{Buffer, Matrix, Rows};
use crate::model::Config;
use crate::model::config::QkNorm;
use crate::model::layout;
use crate::ops::elementwise::{clamp_backward_on, clamp_on};
use crate::ops::matmul::{Layout, product};

/// What backward needs of the attention.
pub struct Saved<E> {
    /// Queries, keys and values as they came out of the product `[T, Q + 2K]`, where they were clamped or normalised.
    raw: Option<Matrix<E>>,
    /// The same as the attention read them.
    qkv: Matrix<E>,
    /// The heads' outputs `[T, Q]`.
    heads: Matrix<E>,
    /// `[T, H]`
    lse: Buffer<f32>,
    /// The last product's output `[T, C]`, where a norm comes after it.
    pub output: Option<Matrix<f32>>,
}

/// Work memory of the attention's backward.
pub struct Work<E> {
    /// `[T, Q]`
    dheads: Matrix<E>,
    /// `[T, Q + 2K]`
    dqkv: Matrix<E>,
    /// `[T, H]`
    delta: Buffer<f32>,
}

impl<E: Kernels> Saved<E> {
    pub fn new(shape: &Shape, rows: usize) -> Result<Self> {
        let Shape { queue, config, attention } = *shape;
        let qkv = || Matrix::new(queue, rows, attention.q_len() + 2 * attention.kv_len());
        let output = || Matrix::new(queue, rows, config.hidden_size);
        let changed = config.clip_qkv.is_some() || config.qk_norm != QkNorm::None;
        Ok(Self {
            raw: changed.then(qkv).transpose()?,
            qkv: qkv()?,
            heads: Matrix::new(queue, rows, attention.q_len())?,
            lse: queue.alloc(rows * attention.heads)?,
            output: config.norm_after.then(output).transpose()?,
        })
    }
}

impl<E: Kernels> Work<E> {
    pub fn new(shape: &Shape, rows: usize) -> Result<Self> {
        let Shape { queue, attention, .. } = *shape;
        Ok(Self {
            dheads: Matrix::new(queue, rows, attention.q_len())?,
            dqkv: Matrix::new(queue, rows, attention.q_len() + 2 * attention.kv_len())?,
            delta: queue.alloc(rows * attention.heads)?,
        })
    }
}

impl<'a, E: Kernels> Block<'a, E> {
    /// Adds the attention of `x` to `y`.
    pub(super) fn attend(&self, x: Rows<'a, f32>, saved: &'a Saved<E>, y: Rows<'a, f32>) -> Result<()> {
        let (queue, rows) = (self.shape.queue, x.rows);
        let (qkv, heads) = (saved.qkv.first(rows), saved.heads.first(rows));
        let input = self.input(x, self.layer.attention_norm)?;
        let linear = self.parameters.linear(self.layer.qkv);
        product(queue, Layout::Nt, input, linear.weight, linear.bias, qkv)?;
        if let Some(raw) = &saved.raw {
            let len = rows * qkv.stride;
            queue.copy(qkv.data.slice(0..len), raw.view().data.slice(0..len))?;
        }
        self.prepare(qkv)?;
        self.shape.attention.forward_on(queue, heads, saved.lse.view(), qkv, self.tiles)?;
        self.add(self.layer.output, heads, (self.layer.attention_norm, &saved.output), y)
    }

    /// From the gradient of what was added, in [`super::Work::dy`], to that of `x`.
    pub(super) fn attend_backward(&self, x: Rows<'a, f32>, saved: &'a Saved<E>) -> Result<()> {
        let (queue, rows) = (self.shape.queue, x.rows);
        let Work { dheads, dqkv, delta } = &self.work.attention;
        let (dheads, dqkv, heads) = (dheads.first(rows), dqkv.first(rows), saved.heads.first(rows));
        let (dy, output) = (self.dy(rows), self.parameters.linear(self.layer.output));
        self.linear_backward(&output, heads, dy)?;
        product(queue, Layout::Nn, dy, output.weight, None, dheads)?;
        let (qkv, lse) = (saved.qkv.first(rows), saved.lse.view());
        self.shape.attention.backward_on(queue, dqkv, dheads, heads, lse, qkv, delta.view(), self.tiles)?;
        self.prepare_backward(saved, dqkv)?;
        let qkv = self.parameters.linear(self.layer.qkv);
        self.input_backward(x, self.layer.attention_norm, &[(qkv, dqkv)])
    }

    /// Queries, keys and values as the attention reads them: clamped, normalised, rotated.
    fn prepare(&self, qkv: Rows<'a, E>) -> Result<()> {
        let Shape { queue, config, attention } = *self.shape;
        if let Some(limit) = config.clip_qkv {
            clamp_on(queue, qkv, limit)?;
        }
        for (norm, columns, d) in self.head_norms() {
            self.norm(norm).heads_on(queue, qkv, columns, d)?;
        }
        match self.rotary {
            Some(rotary) => {
                let heads = qkv.columns(0..attention.q_len() + attention.kv_len());
                rotary.apply_on(queue, heads, config.head_dim, self.positions)
            }
            None => Ok(()),
        }
    }

    fn prepare_backward(&self, saved: &'a Saved<E>, dqkv: Rows<'a, E>) -> Result<()> {
        let Shape { queue, config, attention } = *self.shape;
        if let Some(rotary) = self.rotary {
            let heads = dqkv.columns(0..attention.q_len() + attention.kv_len());
            rotary.backward_on(queue, heads, config.head_dim, self.positions)?;
        }
        let Some(raw) = &saved.raw else { return Ok(()) };
        let raw = raw.first(dqkv.rows);
        for (norm, columns, d) in self.head_norms() {
            let gradient = self.norm_gradient(norm);
            self.norm(norm).heads_backward_on(queue, raw, dqkv, columns, d, gradient)?;
        }
        config.clip_qkv.map_or(Ok(()), |limit| clamp_backward_on(queue, raw, dqkv, limit))
    }

    /// The norms of queries and keys: parameters, columns, values that are normalised together. No family clamps and
    /// normalises, so these norms read what the product gave.
    fn head_norms(&self) -> impl Iterator<Item = (layout::Norm, std::ops::Range<usize>, usize)> + use<'a, E> {
        let Config { qk_norm, head_dim, .. } = *self.shape.config;
        let (q, k) = (self.shape.attention.q_len(), self.shape.attention.kv_len());
        let norms = [(self.layer.q_norm, 0..q), (self.layer.k_norm, q..q + k)];
        norms.into_iter().filter(move |_| qk_norm != QkNorm::None).map(move |(norm, columns)| {
            let d = if qk_norm == QkNorm::Head { head_dim } else { columns.len() };
            (norm, columns, d)
        })
    }
}
