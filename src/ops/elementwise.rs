//! What is done to each value of a matrix alone.

use rayon::prelude::*;

use super::simd::vectorize;
use crate::Result;
#[cfg(kernels)]
use crate::device::Grid;
use crate::device::kernels::Kernels;
use crate::device::{Arm, Queue, Rows};
use crate::tensor::round;

/// Rows that a thread of the host takes at a time.
pub(super) const BLOCK: usize = 16;

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
