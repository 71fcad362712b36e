//! Attention of new tokens behind those in a cache, on a device: for row r at position i of its sequence
//! `o_r = Σ_{j<=i} softmax_j(scale · q_r·k_j) v_j`, where the keys and values of the sequence lie in the cache, row by row.
//!
//! A row's bits depend on its sequence alone: neither on its neighbours nor on the pieces in which the sequence was read.
//! On the CPU keys lie packed, and [`Attention::forward_row`] reads them.

use super::attention::{Attention, width};
use super::elementwise::blocks;
use crate::Result;
use crate::device::kernels::Kernels;
use crate::device::{Buffer, Grid, Queue, Rows, View};

/// Threads of a block that attends.
const THREADS: u32 = 256;
/// Threads of a block that copies a row.
const COPYING: u32 = 128;
/// Query heads of a block at most: they read the keys together.
const HEADS: usize = 4;

/// A row of a pack in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The first row of its sequence.
    pub first: u32,
    /// Its position in the sequence.
    pub position: u32,
}

/// The places of a pack's rows, on a device: every layer reads the same ones.
pub struct Places {
    /// `[T, 2]`
    buffer: Buffer<u32>,
    /// Rows of the pack.
    rows: usize,
    /// Rows that a cache needs to have.
    end: usize,
}

impl Places {
    /// Room for packs of up to `tokens` tokens.
    ///
    /// # Errors
    /// As [`Queue::alloc`].
    pub fn new(queue: &Queue, tokens: usize) -> Result<Self> {
        Ok(Self { buffer: queue.alloc(tokens.saturating_mul(2))?, rows: 0, end: 0 })
    }

    /// Replaces them.
    ///
    /// # Errors
    /// As [`Queue::write`].
    ///
    /// # Panics
    /// If there is no room for as many.
    pub fn write(&mut self, queue: &Queue, places: &[Place]) -> Result<()> {
        let words: Vec<_> = places.iter().flat_map(|place| [place.first, place.position]).collect();
        queue.write(self.buffer.view(), &words)?;
        let ends = places.iter().map(|place| place.first as usize + place.position as usize + 1);
        (self.rows, self.end) = (places.len(), ends.max().unwrap_or(0));
        Ok(())
    }

    fn view(&self) -> View<'_, u32> {
        self.buffer.view().slice(0..2 * self.rows)
    }
}

/// Copies the keys and values of new rows, `kv` `[T, 2·KV·D]`, to their places in `cache` `[.., 2·KV·D]`.
///
/// # Errors
/// What went wrong on the device before.
///
/// # Panics
/// If a shape is not that of `places`, a place lies past the cache, or the cache's rows do not start on 16 bytes.
pub fn append_on<E: Kernels>(
    queue: &Queue,
    cache: Rows<'_, E>,
    kv: Rows<'_, E>,
    places: &Places,
) -> Result<()> {
    assert_eq!((kv.rows, kv.width), (places.rows, cache.width), "shapes of keys and values");
    assert!(places.end <= cache.rows, "{} rows of {}", places.end, cache.rows);
    kv.check();
    cache.check_aligned();
    let grid = Grid { blocks: [blocks(kv.rows), 1, 1], threads: COPYING, shared: 0 };
    E::decode_append(queue, grid, cache.data, kv.data, places.view(), kv.width, kv.stride, cache.stride)
}

/// Writes the heads' outputs `[T, H·D]` of new rows `qkv` `[T, (H + 2·KV)·D]`, whose keys and values are in the cache
/// already: see [`append_on`].
///
/// # Errors
/// As [`append_on`]; [`crate::Error::Usage`] for heads that no kernel takes.
///
/// # Panics
/// As [`append_on`].
pub fn attend_on<E: Kernels>(
    queue: &Queue,
    attention: &Attention,
    out: Rows<'_, E>,
    qkv: Rows<'_, E>,
    cache: Rows<'_, E>,
    places: &Places,
) -> Result<()> {
    let Attention { heads, kv_heads, head_dim, scale } = *attention;
    let (q_len, kv_len) = (attention.q_len(), 2 * attention.kv_len());
    assert!(heads.is_multiple_of(kv_heads), "{heads} heads share {kv_heads}");
    assert_eq!([out.width, qkv.width, cache.width], [q_len, q_len + kv_len, kv_len], "widths");
    assert_eq!([out.rows, qkv.rows], [places.rows; 2], "rows");
    assert!(places.end <= cache.rows, "{} rows of {}", places.end, cache.rows);
    [out, qkv, cache].iter().for_each(Rows::check_aligned);
    let width = width(head_dim)?;
    let launch = match width {
        32 => E::decode_attend_d32,
        64 => E::decode_attend_d64,
        96 => E::decode_attend_d96,
        128 => E::decode_attend_d128,
        _ => E::decode_attend_d256,
    };
    let groups = kv_heads * (heads / kv_heads).div_ceil(HEADS);
    // The queries, and what each warp has of each head: the values, a maximum and a sum.
    let floats = HEADS * width + THREADS as usize / 32 * HEADS * (width + 2);
    let grid = Grid {
        blocks: [blocks(places.rows), blocks(groups), 1],
        threads: THREADS,
        shared: (floats * size_of::<f32>()) as u32,
    };
    launch(
        queue,
        grid,
        out.data,
        qkv.data,
        cache.data,
        places.view(),
        heads,
        kv_heads,
        head_dim,
        qkv.stride,
        cache.stride,
        out.stride,
        scale,
    )
}
