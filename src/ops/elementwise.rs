//! What is done to each value of a matrix alone, and sums of its columns.

use rayon::prelude::*;

use super::simd::vectorize;
use crate::Result;
#[cfg(kernels)]
use crate::device::Grid;
use crate::device::kernels::Kernels;
#[cfg(kernels)]
use crate::device::kernels::column_sums_add;
use crate::device::{Arm, Queue, Rows, View};
use crate::tensor::{Element, round};

/// Rows that a thread of the host takes at a time.
pub(super) const BLOCK: usize = 16;
/// Warps of a block that sums columns, each of them other rows.
#[cfg(kernels)]
const SUM_WARPS: usize = 8;

/// `out = x`, rounded to `E`: rows as inputs of a product.
///
/// # Errors
/// What went wrong on the device before.
///
/// # Panics
/// If the shapes differ.
pub fn convert_on<E: Kernels>(queue: &Queue, x: Rows<'_, f32>, out: Rows<'_, E>) -> Result<()> {
    assert_eq!((x.rows, x.width), (out.rows, out.width), "shapes of a conversion");
    x.check();
    out.check();
    match queue.arm() {
        Arm::Host(host) => {
            let (from, to) = (host.read(x), host.write(out));
            let blocks = to.par_chunks_mut(BLOCK * out.stride).zip(from.par_chunks(BLOCK * x.stride));
            blocks.for_each(|(to, from)| {
                for (to, from) in to.chunks_mut(out.stride).zip(from.chunks(x.stride)) {
                    round(&from[..x.width], &mut to[..x.width]);
                }
            });
            Ok(())
        }
        #[cfg(kernels)]
        Arm::Kernels => {
            let grid = block_per_row(x.rows, x.width.div_ceil(4));
            E::convert_forward(queue, grid, out.data, x.data, x.width, out.stride, x.stride)
        }
    }
}

/// Clamps `x` to ± `limit` in place; NaN stays NaN.
///
/// # Errors
/// What went wrong on the device before.
///
/// # Panics
/// If there are fewer rows than `x` says.
pub fn clamp_on<E: Kernels>(queue: &Queue, x: Rows<'_, E>, limit: f32) -> Result<()> {
    x.check();
    match queue.arm() {
        Arm::Host(host) => {
            host.write(x).par_chunks_mut(BLOCK * x.stride).for_each(|rows| {
                vectorize(
                    #[inline(always)]
                    || {
                        for value in rows.chunks_mut(x.stride).flat_map(|row| &mut row[..x.width]) {
                            *value = E::from_f32(value.to_f32().clamp(-limit, limit));
                        }
                    },
                );
            });
            Ok(())
        }
        #[cfg(kernels)]
        Arm::Kernels => {
            let grid = block_per_row(x.rows, x.width.div_ceil(lanes::<E>()));
            E::clamp_forward(queue, grid, x.data, x.width, x.stride, limit)
        }
    }
}

/// `dx = 0` where `x`, before it was clamped, lies outside ± `limit`; in place.
///
/// # Errors
/// What went wrong on the device before.
///
/// # Panics
/// If the shapes differ.
pub fn clamp_backward_on<E: Kernels>(
    queue: &Queue,
    x: Rows<'_, E>,
    dx: Rows<'_, E>,
    limit: f32,
) -> Result<()> {
    assert_eq!((x.rows, x.width), (dx.rows, dx.width), "shapes of a clamp");
    x.check();
    dx.check();
    match queue.arm() {
        Arm::Host(host) => {
            let (from, to) = (host.read(x), host.write(dx));
            let zero = E::from_f32(0.0);
            let blocks = to.par_chunks_mut(BLOCK * dx.stride).zip(from.par_chunks(BLOCK * x.stride));
            blocks.for_each(|(to, from)| {
                vectorize(
                    #[inline(always)]
                    || {
                        for (dx, from) in to.chunks_mut(dx.stride).zip(from.chunks(x.stride)) {
                            for (dx, x) in dx.iter_mut().zip(&from[..x.width]) {
                                *dx = if x.to_f32().abs() > limit { zero } else { *dx };
                            }
                        }
                    },
                );
            });
            Ok(())
        }
        #[cfg(kernels)]
        Arm::Kernels => {
            let grid = block_per_row(x.rows, x.width.div_ceil(lanes::<E>()));
            E::clamp_backward(queue, grid, dx.data, x.data, x.width, dx.stride, x.stride, limit)
        }
    }
}

/// Rows of a chunk of [`column_sums_on`], and the number of chunks: by the number of rows alone.
fn chunks(rows: usize) -> (usize, usize) {
    let each = rows.div_ceil(CHUNKS).max(FEWEST);
    (each, rows.div_ceil(each))
}

/// Most chunks: the sums of that many are little beside the rows.
const CHUNKS: usize = 128;
/// Fewest rows of a chunk.
const FEWEST: usize = 32;

/// Values of scratch that [`column_sums_on`] needs for up to `rows` rows of `width` values.
pub fn column_sums_scratch(rows: usize, width: usize) -> usize {
    rows.div_ceil(FEWEST).min(CHUNKS) * width
}

/// `dbias[i] += Σ dy[r, i]` over all rows, by chunks of them, whose sums are added in order.
///
/// # Errors
/// What went wrong on the device before.
///
/// # Panics
/// If the widths differ, or there is too little scratch.
pub fn column_sums_on<E: Kernels>(
    queue: &Queue,
    dy: Rows<'_, E>,
    scratch: View<'_, f32>,
    dbias: View<'_, f32>,
) -> Result<()> {
    let n = dy.width;
    assert_eq!(dbias.len(), n, "sums of columns");
    dy.check();
    let (each, count) = chunks(dy.rows);
    let scratch = scratch.slice(0..count * n);
    match queue.arm() {
        Arm::Host(host) => {
            let (from, sums) = (host.read(dy), host.slice_mut(scratch));
            let chunks = sums.par_chunks_mut(n).zip(from.par_chunks(each * dy.stride));
            chunks.for_each(|(sums, rows)| {
                sums.fill(0.0);
                add_rows(sums, rows.chunks(dy.stride).map(|row| &row[..n]));
            });
            add_rows(host.slice_mut(dbias), sums.chunks_exact(n));
            Ok(())
        }
        #[cfg(kernels)]
        Arm::Kernels => {
            let strips = n.div_ceil(32 * lanes::<E>());
            let shared = (SUM_WARPS * 32 * lanes::<E>() * size_of::<f32>()) as u32;
            let grid =
                Grid { blocks: [blocks(strips), blocks(count), 1], threads: 32 * SUM_WARPS as u32, shared };
            E::column_sums(queue, grid, scratch, dy.data, dy.rows, each, n, dy.stride)?;
            add_sums(queue, scratch, count, dbias)
        }
    }
}

/// `out[i] += Σ rows[r][i]`
pub(crate) fn add_rows<'a, E: Element>(out: &mut [f32], rows: impl Iterator<Item = &'a [E]>) {
    vectorize(
        #[inline(always)]
        || {
            for row in rows {
                for (out, x) in out.iter_mut().zip(row) {
                    *out += x.to_f32();
                }
            }
        },
    );
}

/// The same on a device, for `count` rows that lie one behind the other.
#[cfg(kernels)]
pub(super) fn add_sums(queue: &Queue, sums: View<'_, f32>, count: usize, out: View<'_, f32>) -> Result<()> {
    const WARPS: usize = 16;
    let strip = 32 * lanes::<f32>();
    let shared = (WARPS * strip * size_of::<f32>()) as u32;
    let strips = blocks(out.len().div_ceil(strip));
    let grid = Grid { blocks: [strips, 1, 1], threads: 32 * WARPS as u32, shared };
    column_sums_add(queue, grid, out, sums, count, out.len())
}

/// Values in a vector of 16 bytes.
#[cfg(kernels)]
pub(super) const fn lanes<E>() -> usize {
    16 / size_of::<E>()
}

/// A block for each row, a thread for each of its vectors, up to the size that the kernels are bounded by.
#[cfg(kernels)]
pub(super) fn block_per_row(rows: usize, vectors: usize) -> Grid {
    let threads = vectors.next_multiple_of(32).clamp(32, 256) as u32;
    Grid { blocks: [blocks(rows), 1, 1], threads, shared: 0 }
}

/// A number of blocks as a grid takes it.
#[cfg(kernels)]
pub(super) fn blocks(count: usize) -> u32 {
    u32::try_from(count).expect("a matrix of 2³² rows exceeds every device")
}
