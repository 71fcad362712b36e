//! Norms on a device; their kernels hold rows in registers, a warp or a block to each.

use std::ops::Range;

use rayon::prelude::*;

use super::Norm;
use crate::Result;
#[cfg(kernels)]
use crate::device::Grid;
use crate::device::kernels::Kernels;
#[cfg(kernels)]
use crate::device::kernels::{layer_norm_add_forward, rms_norm_add_forward};
use crate::device::{Access, Arm, Queue, Rows, View};
#[cfg(kernels)]
use crate::model::config::NormKind;
use crate::ops::elementwise::BLOCK;
#[cfg(kernels)]
use crate::ops::elementwise::blocks;
use crate::ops::simd::vectorize;
use crate::tensor::Element;

/// Values of the longest row that a warp takes.
#[cfg(kernels)]
const WARP_ROW: usize = 768;
/// Warps of a block, where each takes a row.
#[cfg(kernels)]
const WARPS: usize = 4;
/// Values of a thread, where a block takes a row.
#[cfg(kernels)]
const VALUES: usize = 16;

impl<'a> Norm<View<'a, f32>> {
    /// Normalises rows of `x` into `out`: all of them, or those that `rows` names in its order. A row that `x` does not
    /// have gives NaN.
    ///
    /// # Errors
    /// What went wrong on the device before.
    ///
    /// # Panics
    /// If widths or numbers of rows differ, or rows do not start on 16 bytes.
    pub fn forward_on<E: Kernels>(
        &self,
        queue: &Queue,
        x: Rows<'_, f32>,
        rows: Option<View<'_, u32>>,
        out: Rows<'_, E>,
    ) -> Result<()> {
        let (count, d) = (out.rows, out.width);
        assert_eq!((rows.map_or(x.rows, |rows| rows.len()), x.width), (count, d), "shapes of a norm");
        assert!(x.rows > 0 || count == 0, "rows of an empty matrix");
        self.check(d);
        x.check_aligned();
        out.check_aligned();
        match queue.arm() {
            Arm::Host(host) => {
                self.forward_on_host(&host, x, rows, out);
                Ok(())
            }
            #[cfg(kernels)]
            Arm::Kernels => {
                let launch = match self.kind {
                    NormKind::Layer => E::layer_norm_forward,
                    NormKind::Rms => E::rms_norm_forward,
                };
                let (weight, bias) = self.views();
                let rows = rows.unwrap_or(View::none());
                let (grid, strides) = (grid(count, d), (x.stride, out.stride));
                launch(
                    queue, grid, out.data, x.data, weight, bias, rows, count, d, x.rows, strides.0,
                    strides.1, self.eps,
                )
            }
        }
    }

    fn forward_on_host<E: Element>(
        &self,
        host: &Access<'_>,
        x: Rows<'_, f32>,
        rows: Option<View<'_, u32>>,
        out: Rows<'_, E>,
    ) {
        let d = x.width;
        let norm = self.map(|view| host.slice(view));
        let chosen = rows.map(|rows| host.slice(rows));
        let (from, to) = (host.read(x), host.write(out));
        to.par_chunks_mut(BLOCK * out.stride).enumerate().for_each(|(block, to)| {
            for (row, y) in (block * BLOCK..).zip(to.chunks_mut(out.stride)) {
                let row = chosen.map_or(row, |rows| rows[row] as usize);
                match from.get(row * x.stride..row * x.stride + d) {
                    Some(x) => norm.forward(x, d, y, out.stride),
                    None => y[..d].fill(E::from_f32(f32::NAN)),
                }
            }
        });
    }

    /// `x += norm(y)`
    ///
    /// # Errors
    /// What went wrong on the device before.
    ///
    /// # Panics
    /// If the shapes differ, or rows do not start on 16 bytes.
    pub fn add_on(&self, queue: &Queue, x: Rows<'_, f32>, y: Rows<'_, f32>) -> Result<()> {
        let (rows, d) = (x.rows, x.width);
        assert_eq!((y.rows, y.width), (rows, d), "shapes of a norm");
        self.check(d);
        x.check_aligned();
        y.check_aligned();
        match queue.arm() {
            Arm::Host(host) => {
                let norm = self.map(|view| host.slice(view));
                let (to, from) = (host.write(x), host.read(y));
                let blocks = to.par_chunks_mut(BLOCK * x.stride).zip(from.par_chunks(BLOCK * y.stride));
                blocks.for_each(|(to, from)| {
                    vectorize(
                        #[inline(always)]
                        || {
                            for (x, y) in to.chunks_mut(x.stride).zip(from.chunks(y.stride)) {
                                norm.add_row(&mut x[..d], &y[..d]);
                            }
                        },
                    );
                });
                Ok(())
            }
            #[cfg(kernels)]
            Arm::Kernels => {
                let launch = match self.kind {
                    NormKind::Layer => layer_norm_add_forward,
                    NormKind::Rms => rms_norm_add_forward,
                };
                let (weight, bias) = self.views();
                let (grid, strides) = (grid(rows, d), (x.stride, y.stride));
                launch(queue, grid, x.data, y.data, weight, bias, rows, d, strides.0, strides.1, self.eps)
            }
        }
    }

    /// Normalises, in place, each head (or group of heads) of `d` values within the `columns` of each row.
    ///
    /// # Errors
    /// What went wrong on the device before.
    ///
    /// # Panics
    /// If the columns are not whole groups within the rows, or rows do not start on 16 bytes.
    pub fn heads_on<E: Kernels>(
        &self,
        queue: &Queue,
        x: Rows<'_, E>,
        columns: Range<usize>,
        d: usize,
    ) -> Result<()> {
        assert!(columns.end <= x.width && columns.len().is_multiple_of(d), "{columns:?} in groups of {d}");
        self.check(d);
        x.check_aligned();
        match queue.arm() {
            Arm::Host(host) => {
                let norm = self.map(|view| host.slice(view));
                host.write(x).par_chunks_mut(BLOCK * x.stride).for_each(|rows| {
                    for row in rows.chunks_mut(x.stride) {
                        norm.in_place(&mut row[columns.clone()], d, d);
                    }
                });
                Ok(())
            }
            #[cfg(kernels)]
            Arm::Kernels => {
                let groups = columns.len() / d;
                let launch = match self.kind {
                    NormKind::Layer => E::layer_norm_heads_forward,
                    NormKind::Rms => E::rms_norm_heads_forward,
                };
                let (weight, bias) = self.views();
                let (grid, first) = (grid(x.rows * groups, d), columns.start);
                launch(queue, grid, x.data, weight, bias, x.rows, groups, d, first, x.stride, self.eps)
            }
        }
    }

    /// Fails where there are too few parameters for rows of `d` values.
    pub(super) fn check(&self, d: usize) {
        for values in [self.weight, self.bias].into_iter().flatten() {
            assert!(values.len() >= d, "{} parameters for rows of {d}", values.len());
        }
    }

    /// Weight and bias as kernels take them.
    #[cfg(kernels)]
    pub(super) fn views(&self) -> (View<'a, f32>, View<'a, f32>) {
        (self.weight.unwrap_or(View::none()), self.bias.unwrap_or(View::none()))
    }
}

/// As the kernels read it from the row's length: a warp to each row, or a block.
#[cfg(kernels)]
fn grid(rows: usize, d: usize) -> Grid {
    if d <= WARP_ROW {
        return Grid { blocks: [blocks(rows.div_ceil(WARPS)), 1, 1], threads: 32 * WARPS as u32, shared: 0 };
    }
    let warps = d.div_ceil(32 * VALUES).min(32) as u32;
    Grid { blocks: [blocks(rows), 1, 1], threads: 32 * warps, shared: warps * size_of::<f32>() as u32 }
}
