//! Attention by kernels: rows of queries in tiles, keys and values streamed past them; backward as well with the sides
//! exchanged.

use crate::device::kernels::Kernels;
use crate::device::{Grid, Queue, Rows, View};
use crate::ops::elementwise::blocks;
use crate::tensor::Element;
use crate::{Error, Result};

use super::Attention;
use super::device::{Gradient, Tiles};

/// Threads of a block.
const THREADS: u32 = 128;
/// Sizes of heads that kernels are compiled for; others are padded to the next.
const WIDTHS: [usize; 5] = [32, 64, 96, 128, 256];

/// The size that the kernels for heads of `head_dim` values are compiled for.
///
/// # Errors
/// [`Error::Usage`] where there is none.
pub(in crate::ops) fn width(head_dim: usize) -> Result<usize> {
    let width = WIDTHS.into_iter().find(|width| *width >= head_dim && head_dim.is_multiple_of(2));
    width.ok_or_else(|| {
        Error::Usage(format!("heads of {head_dim} values: the kernels take even numbers up to 256"))
    })
}

/// What a block of a kernel takes.
pub(super) struct Block {
    /// Values of a head, padded.
    width: usize,
    /// Rows of queries.
    pub queries: usize,
    /// Bytes of shared memory: the queries, what is under way of keys and values, and in f32 a tile of weights.
    shared: u32,
}

impl Block {
    pub(super) fn new<E: Element>(head_dim: usize) -> Result<Self> {
        let width = width(head_dim)?;
        let pitch = pitch::<E>(width);
        let (queries, bytes) = if E::GROUP == 2 {
            let (queries, stages) = (if width <= 128 { 128 } else { 64 }, if width <= 96 { 3 } else { 2 });
            (queries, (queries + stages * 64) * pitch)
        } else {
            let queries = if width <= 128 { 32 } else { 16 };
            (queries, (queries + 2 * 32) * pitch + queries * 32 * size_of::<E>())
        };
        Ok(Self { width, queries, shared: bytes as u32 })
    }
}

/// Bytes of a row in shared memory, padded by 16.
fn pitch<E>(width: usize) -> usize {
    width * size_of::<E>() + 16
}

/// What the blocks of the kernel for gradients take.
struct Backward {
    /// Blocks for the keys of a tile and head.
    key_parts: usize,
    /// Blocks for the queries of a tile and head.
    query_parts: usize,
    /// Bytes of shared memory: see `shared`.
    shared: u32,
}

impl Backward {
    fn new<E: Element>(width: usize) -> Self {
        let (key_parts, query_parts, bytes) = if E::GROUP == 2 {
            match width {
                32..=96 => (if width == 96 { 2 } else { 1 }, 1, shared::<E>(width, 128, 32, 2)),
                128 => (2, 1, shared::<E>(width, 128, 16, 2)),
                _ => (2, 1, shared::<E>(width, 64, 16, 1)),
            }
        } else {
            let (parts, rows) = if width <= 128 { (1, 32) } else { (2, 8) };
            // Weights and their gradients.
            (parts, parts, shared::<E>(width, rows, 32, 1) + 2 * rows * 32 * size_of::<E>())
        };
        Self { key_parts, query_parts, shared: bytes as u32 }
    }
}

/// Bytes for two matrices' `rows` of a block, and `stages` of as many `others` with two numbers each.
fn shared<E>(width: usize, rows: usize, others: usize, stages: usize) -> usize {
    2 * (rows + stages * others) * pitch::<E>(width) + stages * others * 2 * size_of::<f32>()
}

impl Attention {
    /// Launches the forward pass.
    pub(super) fn launch_forward<E: Kernels>(
        &self,
        queue: &Queue,
        out: Rows<'_, E>,
        lse: View<'_, f32>,
        qkv: Rows<'_, E>,
        tiles: &Tiles,
    ) -> Result<()> {
        let Self { heads, kv_heads, head_dim, scale } = *self;
        let block = Block::new::<E>(head_dim)?;
        let launch = match block.width {
            32 => E::attention_forward_d32,
            64 => E::attention_forward_d64,
            96 => E::attention_forward_d96,
            128 => E::attention_forward_d128,
            _ => E::attention_forward_d256,
        };
        let grid =
            Grid { blocks: [tiles.count as u32, heads as u32, 1], threads: THREADS, shared: block.shared };
        let (list, count) = (tiles.buffer.view(), tiles.count);
        launch(
            queue, grid, out.data, lse, qkv.data, list, count, heads, kv_heads, head_dim, qkv.stride,
            out.stride, scale,
        )
    }

    /// Launches δ, which the gradients need.
    pub(super) fn launch_delta<E: Kernels>(
        &self,
        queue: &Queue,
        gradient: &Gradient<'_, E>,
        rows: usize,
    ) -> Result<()> {
        let Self { heads, head_dim, .. } = *self;
        let Gradient { dout, out, delta, .. } = *gradient;
        let grid = Grid { blocks: [blocks(rows), 1, 1], threads: THREADS, shared: 0 };
        let strides = [dout, out].map(|rows| rows.stride);
        E::attention_delta(queue, grid, delta, dout.data, out.data, heads, head_dim, strides[0], strides[1])
    }

    /// Launches the gradients.
    pub(super) fn launch_backward<E: Kernels>(
        &self,
        queue: &Queue,
        dqkv: Rows<'_, E>,
        gradient: &Gradient<'_, E>,
        tiles: &Tiles,
    ) -> Result<()> {
        let Self { heads, kv_heads, head_dim, scale } = *self;
        let Gradient { dout, lse, qkv, delta, .. } = *gradient;
        let width = Block::new::<E>(head_dim)?.width;
        let Backward { key_parts, query_parts, shared } = Backward::new::<E>(width);
        let launch = match width {
            32 => E::attention_backward_d32,
            64 => E::attention_backward_d64,
            96 => E::attention_backward_d96,
            128 => E::attention_backward_d128,
            _ => E::attention_backward_d256,
        };
        let parts = (kv_heads * key_parts + heads * query_parts) as u32;
        let grid = Grid { blocks: [tiles.count as u32, parts, 1], threads: THREADS, shared };
        let list = tiles.buffer.view();
        launch(
            queue,
            grid,
            dqkv.data,
            dout.data,
            lse,
            delta,
            qkv.data,
            list,
            heads,
            kv_heads,
            head_dim,
            dqkv.stride,
            dout.stride,
            qkv.stride,
            scale,
        )
    }
}
