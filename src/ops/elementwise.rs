//! What is done to each value of a matrix alone, on a device; the CPU's ops do it on their way.

use crate::Result;
use crate::device::kernels::Kernels;
use crate::device::{Grid, Queue, Rows};

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
    let grid = block_per_row(x.rows, x.width.div_ceil(4));
    E::convert_forward(queue, grid, out.data, x.data, x.width, out.stride, x.stride)
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
    let grid = block_per_row(x.rows, x.width.div_ceil(lanes::<E>()));
    E::clamp_forward(queue, grid, x.data, x.width, x.stride, limit)
}

/// Values in a vector of 16 bytes.
pub(super) const fn lanes<E>() -> usize {
    16 / size_of::<E>()
}

/// A block for each row, a thread for each of its vectors, up to the size that the kernels are bounded by.
pub(super) fn block_per_row(rows: usize, vectors: usize) -> Grid {
    let threads = vectors.next_multiple_of(32).clamp(32, 256) as u32;
    Grid { blocks: [blocks(rows), 1, 1], threads, shared: 0 }
}

/// A number of blocks as a grid takes it.
pub(super) fn blocks(count: usize) -> u32 {
    u32::try_from(count).expect("a matrix of 2³² rows exceeds every device")
}
