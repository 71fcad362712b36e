//! Attention by kernels: rows of queries in tiles, keys and values streamed past them.

use crate::device::kernels::Kernels;
use crate::device::{Buffer, Grid, Queue, Rows, View};
use crate::tensor::Element;
use crate::{Error, Result};

use super::Attention;

/// Threads of a block.
const THREADS: u32 = 128;
/// Sizes of heads that kernels are compiled for; others are padded to the next.
const WIDTHS: [usize; 5] = [32, 64, 96, 128, 256];
/// Words of a tile: its first row, its document's first row and end row.
const TILE: usize = 3;

/// What a block of a kernel takes.
struct Block {
    /// Values of a head, padded.
    width: usize,
    /// Rows of queries.
    queries: usize,
    /// Bytes of shared memory: the queries, what is under way of keys and values, and in f32 a tile of weights.
    shared: u32,
}

impl Block {
    fn new<E: Element>(head_dim: usize) -> Result<Self> {
        let width = WIDTHS.into_iter().find(|width| *width >= head_dim && head_dim.is_multiple_of(2));
        let width = width.ok_or_else(|| {
            Error::Usage(format!("heads of {head_dim} values: the kernels take even numbers up to 256"))
        })?;
        // Rows are padded by 16 bytes.
        let pitch = width * size_of::<E>() + 16;
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

/// The tiles of queries of a pack of documents, on a device: every layer reads the same ones.
pub struct Tiles {
    buffer: Buffer<u32>,
    count: usize,
    /// Rows of the pack.
    rows: usize,
}

impl Tiles {
    /// Room for the tiles of packs of up to `tokens` tokens, none of them yet.
    ///
    /// # Errors
    /// As [`Queue::alloc`].
    pub fn new(queue: &Queue, tokens: usize) -> Result<Self> {
        Ok(Self { buffer: queue.alloc(tokens.saturating_mul(TILE))?, count: 0, rows: 0 })
    }

    /// Replaces them by those of documents that end where the next begins, `cu_seqlens` being where each begins and the
    /// end of the last. Tiles with the most keys come first, so that no block starts a long one when others are done.
    ///
    /// # Errors
    /// As [`Queue::write`]; [`Error::Usage`] for heads that no kernel takes.
    ///
    /// # Panics
    /// If there is no room for as many tokens.
    pub fn write<E: Element>(
        &mut self,
        queue: &Queue,
        attention: &Attention,
        cu_seqlens: &[usize],
    ) -> Result<()> {
        let queries = Block::new::<E>(attention.head_dim)?.queries;
        let mut tiles = Vec::new();
        for ends in cu_seqlens.windows(2) {
            let firsts = (ends[0]..ends[1]).step_by(queries);
            tiles.extend(firsts.map(|first| [first as u32, ends[0] as u32, ends[1] as u32]));
        }
        tiles.sort_by_key(|[first, document, _]| std::cmp::Reverse(first - document));
        queue.write(self.buffer.view(), tiles.as_flattened())?;
        self.count = tiles.len();
        self.rows = cu_seqlens.iter().copied().max().unwrap_or(0);
        Ok(())
    }
}

impl Attention {
    /// Writes the heads' outputs `[T, H·D]`, and to `lse` `[T, H]`, unless it is none, the logarithms of the sums of
    /// e^(scaled scores). Rows of `qkv` are queries, keys and values: `[T, (H + 2·KV)·D]`.
    ///
    /// # Errors
    /// What went wrong on the device before; [`Error::Usage`] for heads that no kernel takes.
    ///
    /// # Panics
    /// If a shape is not that of `tiles` and these sizes, or rows do not start on 16 bytes.
    pub fn forward_on<E: Kernels>(
        &self,
        queue: &Queue,
        out: Rows<'_, E>,
        lse: View<'_, f32>,
        qkv: Rows<'_, E>,
        tiles: &Tiles,
    ) -> Result<()> {
        let Self { heads, kv_heads, head_dim, scale } = *self;
        let Tiles { ref buffer, count, rows } = *tiles;
        assert!(rows <= out.rows && rows <= qkv.rows, "{rows} rows, {} out, {} in", out.rows, qkv.rows);
        assert_eq!((out.width, qkv.width), (self.q_len(), self.q_len() + 2 * self.kv_len()), "widths");
        assert!(lse.is_empty() || rows * heads <= lse.len(), "{} sums for {rows} rows", lse.len());
        assert!(heads.is_multiple_of(kv_heads), "{heads} heads share {kv_heads}");
        out.check_aligned();
        qkv.check_aligned();
        let block = Block::new::<E>(head_dim)?;
        let launch = match block.width {
            32 => E::attention_forward_d32,
            64 => E::attention_forward_d64,
            96 => E::attention_forward_d96,
            128 => E::attention_forward_d128,
            _ => E::attention_forward_d256,
        };
        let grid = Grid { blocks: [count as u32, heads as u32, 1], threads: THREADS, shared: block.shared };
        let (tiles, q_stride, out_stride) = (buffer.view(), qkv.stride, out.stride);
        launch(
            queue, grid, out.data, lse, qkv.data, tiles, count, heads, kv_heads, head_dim, q_stride,
            out_stride, scale,
        )
    }
}
