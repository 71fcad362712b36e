//! Attention of a pack of documents on a device: shapes, and the two arms.

use crate::device::kernels::Kernels;
use crate::device::{Arm, Buffer, Queue, Rows, View};
use crate::tensor::Element;
use crate::{Error, Result};

use super::{Attention, host};

/// Words of a tile: its first row, its document's first row and end row.
const TILE: usize = 3;

/// The tiles of rows of a pack of documents, on a device: every layer reads the same ones.
pub struct Tiles {
    pub(super) buffer: Buffer<u32>,
    pub(super) count: usize,
    /// Rows of the pack.
    pub(super) rows: usize,
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
    /// end of the last.
    ///
    /// # Errors
    /// As [`Queue::write`]; [`Error::Usage`] for heads that the device does not take.
    ///
    /// # Panics
    /// If there is no room for as many tokens.
    pub fn write<E: Element>(
        &mut self,
        queue: &Queue,
        attention: &Attention,
        cu_seqlens: &[usize],
    ) -> Result<()> {
        let rows = tile_rows::<E>(queue, attention)?;
        let mut tiles = Vec::new();
        for ends in cu_seqlens.windows(2) {
            let firsts = (ends[0]..ends[1]).step_by(rows);
            tiles.extend(firsts.map(|first| [first as u32, ends[0] as u32, ends[1] as u32]));
        }
        // Tiles with the most keys come first, so that no block starts a long one when others are done. The host's tasks
        // need no order but that of the memory, which they share out.
        if !is_host(queue) {
            tiles.sort_by_key(|[first, document, _]| std::cmp::Reverse(first - document));
        }
        queue.write(self.buffer.view(), tiles.as_flattened())?;
        self.count = tiles.len();
        self.rows = cu_seqlens.iter().copied().max().unwrap_or(0);
        Ok(())
    }
}

fn is_host(queue: &Queue) -> bool {
    matches!(queue.arm(), Arm::Host(_))
}

/// Rows of a tile.
#[cfg_attr(
    not(kernels),
    expect(clippy::extra_unused_type_parameters, reason = "the host's tiles are the same for all types")
)]
fn tile_rows<E: Element>(queue: &Queue, attention: &Attention) -> Result<usize> {
    match queue.arm() {
        Arm::Host(_) if attention.head_dim.is_multiple_of(2) => Ok(host::ROWS),
        Arm::Host(_) => {
            Err(Error::Usage(format!("heads of {} values: expected an even number", attention.head_dim)))
        }
        #[cfg(kernels)]
        Arm::Kernels => Ok(super::launch::Block::new::<E>(attention.head_dim)?.queries),
    }
}

/// What gradients are computed from.
#[derive(Clone, Copy)]
pub(super) struct Gradient<'a, E> {
    pub dout: Rows<'a, E>,
    pub out: Rows<'a, E>,
    pub lse: View<'a, f32>,
    pub qkv: Rows<'a, E>,
    pub delta: View<'a, f32>,
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
        self.check(tiles, &[out], &[qkv]);
        assert!(lse.is_empty() || tiles.rows * self.heads <= lse.len(), "{} sums", lse.len());
        match queue.arm() {
            Arm::Host(host) => {
                host::forward(self, &host, out, lse, qkv, tiles);
                Ok(())
            }
            #[cfg(kernels)]
            Arm::Kernels => self.launch_forward(queue, out, lse, qkv, tiles),
        }
    }

    /// Writes the gradients of queries, keys and values `[T, (H + 2·KV)·D]` from that of the outputs, `dout` `[T, H·D]`:
    /// with weights `p_ij = e^(scale · q_i·k_j − lse_i)`, computed again,
    ///
    /// `dv_j = Σ p_ij dout_i`, `ds_ij = p_ij (dout_i·v_j − dout_i·out_i)`, `dq_i = scale Σ ds_ij k_j`,
    /// `dk_j = scale Σ ds_ij q_i`.
    ///
    /// `out`, `lse` and `qkv` are those of [`Attention::forward_on`]; `delta` `[T, H]` is work memory.
    ///
    /// # Errors
    /// As [`Attention::forward_on`].
    ///
    /// # Panics
    /// As [`Attention::forward_on`].
    #[expect(clippy::too_many_arguments, reason = "each is a matrix of its own")]
    pub fn backward_on<E: Kernels>(
        &self,
        queue: &Queue,
        dqkv: Rows<'_, E>,
        dout: Rows<'_, E>,
        out: Rows<'_, E>,
        lse: View<'_, f32>,
        qkv: Rows<'_, E>,
        delta: View<'_, f32>,
        tiles: &Tiles,
    ) -> Result<()> {
        self.check(tiles, &[dout, out], &[dqkv, qkv]);
        let len = tiles.rows * self.heads;
        assert!(len <= lse.len() && len <= delta.len(), "{} sums, {} of delta", lse.len(), delta.len());
        let gradient = Gradient { dout, out, lse, qkv, delta };
        match queue.arm() {
            Arm::Host(host) => {
                host::backward(self, &host, dqkv, &gradient, tiles);
                Ok(())
            }
            #[cfg(kernels)]
            Arm::Kernels => {
                self.launch_delta(queue, &gradient, tiles.rows)?;
                self.launch_backward(queue, dqkv, &gradient, tiles)
            }
        }
    }

    /// Fails where a matrix of all heads' queries, or of queries, keys and values, is not what `tiles` are about.
    fn check<E>(&self, tiles: &Tiles, heads: &[Rows<'_, E>], all: &[Rows<'_, E>]) {
        assert!(self.heads.is_multiple_of(self.kv_heads), "{} heads share {}", self.heads, self.kv_heads);
        let widths = [self.q_len(), self.q_len() + 2 * self.kv_len()];
        for (width, matrices) in widths.into_iter().zip([heads, all]) {
            for rows in matrices {
                assert!(tiles.rows <= rows.rows, "{} rows, {} in a matrix", tiles.rows, rows.rows);
                assert_eq!(rows.width, width, "width");
                rows.check_aligned();
            }
        }
    }
}
