//! Products of row-major operands on the host: what [`super::multiply_on`] computes there. Weights change with each step
//! of training, so operands are packed as they are used.
//!
//! The output is cut into tiles, one a task. A task goes over its inputs block by block: it packs a block of `b`, which
//! stays in the second-level cache while some rows of `a` at a time, in the first, are multiplied by all of it. Sums of a
//! tile wait in the task's scratch for the next block, so every output is one chain of multiply-adds over all inputs in
//! ascending order: its bits depend neither on blocks and tiles nor on threads.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::pack::{self, Source};
use super::{Kernel, Layout, Left, Panels, Start};
use crate::ops::simd::vectorize;
use crate::tensor::{Buffer, Element, PANEL};

/// Inputs of a block.
const INPUTS: usize = 256;
/// The most rows of a tile, over which packing `b` is shared.
const ROWS: usize = 512;
/// The most panels of a tile.
const PANELS: usize = 8;
/// Tiles of rows, one for each call of the micro-kernel, that are packed together.
const LEFT: usize = 8;

/// A product `[m, n, k]`.
pub(super) struct Product<'a, E: 'static> {
    pub kernel: Kernel<E>,
    pub layout: Layout,
    pub sizes: [usize; 3],
    pub a: Source<'a, E>,
    pub b: Source<'a, E>,
    /// `n` values, or none.
    pub bias: &'a [f32],
}

/// Part of the output.
struct Tile<'a, D> {
    /// The first row.
    first: usize,
    /// Which columns.
    columns: Range<usize>,
    /// Those columns of each row.
    rows: Vec<&'a mut [D]>,
}

/// Where a thread packs and sums.
struct Scratch {
    left: Buffer<f32>,
    right: Buffer<f32>,
    sums: Buffer<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        left: Buffer::zeroed(LEFT * 16 * INPUTS),
        right: Buffer::zeroed(PANELS * PANEL * INPUTS),
        sums: Buffer::zeroed(ROWS * PANELS * PANEL),
    });
}

impl<E: Element> Product<'_, E> {
    /// Calls `merge(output, sum + bias)` for every output, rows `stride` apart.
    pub fn run<D: Send>(&self, out: &mut [D], stride: usize, merge: impl Fn(&mut D, f32) + Copy + Sync) {
        let [m, n, _] = self.sizes;
        if m == 0 || n == 0 {
            return;
        }
        let cuts = cuts(m, n.div_ceil(PANEL), rayon::current_num_threads());
        tiles(out, stride, self.sizes, cuts).into_par_iter().for_each(|tile| {
            SCRATCH.with_borrow_mut(|scratch| self.tile(tile, scratch, merge));
        });
    }

    fn tile<D>(&self, mut tile: Tile<'_, D>, scratch: &mut Scratch, merge: impl Fn(&mut D, f32) + Copy) {
        let (kernel, k) = (self.kernel, self.sizes[2]);
        let rows = tile.rows.len();
        let bias = self.bias.get(tile.columns.clone()).unwrap_or_default();
        for first in (0..k.max(1)).step_by(INPUTS) {
            let inputs = first..k.min(first + INPUTS);
            let right = self.right(&inputs, &tile.columns, bytemuck::cast_slice_mut(&mut scratch.right));
            let width = right.count * PANEL;
            let start = if first == 0 { Start::Zero } else { Start::Outputs };
            for row in (0..rows).step_by(LEFT * kernel.rows) {
                let block = row..rows.min(row + LEFT * kernel.rows);
                let at = tile.first + block.start..tile.first + block.end;
                let left = self.left(&inputs, at, bytemuck::cast_slice_mut(&mut scratch.left));
                let sums = &mut scratch.sums[row * width..block.end * width];
                left.multiply(kernel, right, start, sums);
                if inputs.end == k {
                    merge_rows(&mut tile.rows[block], sums, width, bias, merge);
                }
            }
        }
    }

    /// Packs some inputs of some columns of `b`.
    fn right<'s>(
        &self,
        inputs: &Range<usize>,
        columns: &Range<usize>,
        scratch: &'s mut [E],
    ) -> Panels<'s, E> {
        if self.layout == Layout::Nt {
            let from = self.b.part([columns.start, inputs.start], [columns.len(), inputs.len()]);
            from.outputs(self.kernel, scratch)
        } else {
            let from = self.b.part([inputs.start, columns.start], [inputs.len(), columns.len()]);
            from.inputs(self.kernel, scratch)
        }
    }

    /// Some inputs of some rows of `a`, packed where they do not lie as the kernel wants them.
    fn left<'s>(&'s self, inputs: &Range<usize>, rows: Range<usize>, scratch: &'s mut [E]) -> Block<'s, E> {
        let padded = inputs.len().next_multiple_of(E::GROUP);
        if self.layout == Layout::Tn {
            let from = self.a.part([inputs.start, rows.start], [inputs.len(), rows.len()]);
            (self.kernel.interleave)(from, self.kernel.rows, scratch);
            let pitch = pack::pitch(self.kernel.rows);
            let rows = Left { data: scratch, rows: rows.len(), stride: E::GROUP, step: pitch * E::GROUP };
            return Block { rows, tile: pitch * padded };
        }
        let from = self.a.part([rows.start, inputs.start], [rows.len(), inputs.len()]);
        let (data, stride) = if padded == inputs.len() {
            (from.data, from.stride)
        } else {
            pack::copy(from, padded, scratch);
            (&*scratch, padded)
        };
        Block {
            rows: Left { data, rows: rows.len(), stride, step: E::GROUP },
            tile: self.kernel.rows * stride,
        }
    }
}

/// Rows of the left operand, in tiles of as many as a micro-kernel takes.
#[derive(Clone, Copy)]
struct Block<'a, E> {
    rows: Left<'a, E>,
    /// Elements from a tile to the next.
    tile: usize,
}

impl<E: Element> Block<'_, E> {
    /// Sums `[rows, panels]`, continued or anew.
    fn multiply(self, kernel: Kernel<E>, b: Panels<E>, start: Start, sums: &mut [f32]) {
        let width = b.count * PANEL;
        for (tile, sums) in sums.chunks_mut(kernel.rows * width).enumerate() {
            let left =
                Left { data: &self.rows.data[tile * self.tile..], rows: sums.len() / width, ..self.rows };
            for panel in 0..b.count {
                let one = Panels { data: &b.data[panel * b.stride..][..b.stride], count: 1, ..b };
                (kernel.run)(left, one, start, &mut sums[panel * PANEL..], width);
            }
        }
    }
}

fn merge_rows<D>(
    rows: &mut [&mut [D]],
    sums: &[f32],
    width: usize,
    bias: &[f32],
    merge: impl Fn(&mut D, f32) + Copy,
) {
    vectorize(
        #[inline(always)]
        || {
            for (row, sums) in rows.iter_mut().zip(sums.chunks_exact(width)) {
                if bias.is_empty() {
                    for (out, sum) in row.iter_mut().zip(sums) {
                        merge(out, *sum);
                    }
                } else {
                    for (out, (sum, bias)) in row.iter_mut().zip(sums.iter().zip(bias)) {
                        merge(out, sum + bias);
                    }
                }
            }
        },
    );
}

/// Into how many rows and columns of tiles an output is cut: tiles that fit the scratch, and as much work for each thread.
fn cuts(m: usize, panels: usize, threads: usize) -> [usize; 2] {
    let mut cuts = [m.div_ceil(ROWS), panels.div_ceil(PANELS)];
    loop {
        let [rows, columns] = [m.div_ceil(cuts[0]), panels.div_ceil(cuts[1]) * PANEL];
        let tiles = cuts[0] * cuts[1];
        if tiles.is_multiple_of(threads) || tiles >= 4 * threads || rows * columns <= 32 * PANEL {
            return cuts;
        }
        if rows < columns {
            cuts[1] = panels.min(2 * cuts[1]);
        } else {
            cuts[0] *= 2;
        }
    }
}

/// The tiles of an output, row by row of them.
fn tiles<D>(
    out: &mut [D],
    stride: usize,
    [m, n, _]: [usize; 3],
    [high, wide]: [usize; 2],
) -> Vec<Tile<'_, D>> {
    let panels = n.div_ceil(PANEL);
    let column = |cut: usize| n.min(panels * cut / wide * PANEL);
    let tile = |index: usize| {
        let (first, end) = (m * (index / wide) / high, m * (index / wide + 1) / high);
        let columns = column(index % wide)..column(index % wide + 1);
        Tile { first, columns, rows: Vec::with_capacity(end - first) }
    };
    let mut tiles: Vec<_> = (0..high * wide).map(tile).collect();
    let mut rows = out.chunks_mut(stride);
    for band in tiles.chunks_exact_mut(wide) {
        for mut row in rows.by_ref().take(band[0].rows.capacity()) {
            for tile in &mut *band {
                let part;
                (part, row) = row.split_at_mut(tile.columns.len());
                tile.rows.push(part);
            }
        }
    }
    tiles
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small integers: every sum is exact, in every order.
    fn values(len: usize, factor: usize) -> Vec<f32> {
        (0..len).map(|i| (i * factor % 17) as f32 - 8.0).collect()
    }

    fn check<E: Element>(layout: Layout, sizes: [usize; 3]) {
        let [m, n, k] = sizes;
        let stored = |values: &[f32]| -> Vec<E> { values.iter().map(|x| E::from_f32(*x)).collect() };
        let (a, b) = (values(m * k, 7), values(n * k, 5));
        let a_at = |row: usize, i: usize| if layout == Layout::Tn { a[i * m + row] } else { a[row * k + i] };
        let b_at = |column: usize, i: usize| {
            if layout == Layout::Nt { b[column * k + i] } else { b[i * n + column] }
        };
        let source = |data, rows, width| Source { data, stride: width, rows, width };
        let (a_stored, b_stored) = (stored(&a), stored(&b));
        let a_source = if layout == Layout::Tn { source(&a_stored, k, m) } else { source(&a_stored, m, k) };
        let b_source = if layout == Layout::Nt { source(&b_stored, n, k) } else { source(&b_stored, k, n) };
        let bias = values(n, 3);
        for kernel in E::kernels() {
            let mut out = vec![1.0f32; m * n];
            let product = Product { kernel, layout, sizes, a: a_source, b: b_source, bias: &bias };
            product.run(&mut out, n, |out, sum| *out += sum);
            for (index, out) in out.iter().enumerate() {
                let (row, column) = (index / n, index % n);
                let sum: f32 = (0..k).map(|i| a_at(row, i) * b_at(column, i)).sum();
                assert_eq!(*out, 1.0 + sum + bias[column], "{layout:?} {sizes:?} [{row}, {column}]");
            }
        }
    }

    #[test]
    fn every_kernel_packs_as_it_reads() {
        for layout in [Layout::Nt, Layout::Nn, Layout::Tn] {
            for sizes in [[1, 1, 0], [1, 1, 1], [13, 33, 31], [25, 64, 48], [100, 290, 257], [5, 31, 600]] {
                check::<f32>(layout, sizes);
                check::<half::bf16>(layout, sizes);
            }
        }
    }

    #[test]
    fn every_thread_has_a_tile_and_none_is_empty() {
        for m in [1, 4, 33, 255, 1024, 8192] {
            for panels in [1, 2, 8, 10, 22, 256] {
                for threads in [1, 2, 3, 7, 64] {
                    let [high, wide] = cuts(m, panels, threads);
                    assert!(high <= m && wide <= panels, "{m} {panels} {threads}");
                    assert!(m.div_ceil(high) <= ROWS && panels.div_ceil(wide) <= PANELS);
                    let enough = (high * wide).is_multiple_of(threads) || high * wide >= 4 * threads;
                    assert!(enough || m.div_ceil(high) * panels.div_ceil(wide) <= 32);
                }
            }
        }
    }
}
