//! Norms by kernels: rows of values in registers, a warp or a block to each.

use std::ops::Range;

use super::Norm;
use crate::Result;
use crate::device::kernels::{Kernels, layer_norm_add_forward, rms_norm_add_forward};
use crate::device::{Buffer, Grid, Queue, Rows, View};
use crate::model::config::NormKind;
use crate::ops::elementwise::blocks;

/// Values of the longest row that a warp takes.
const WARP_ROW: usize = 768;
/// Warps of a block, where each takes a row.
const WARPS: usize = 4;
/// Values of a thread, where a block takes a row.
const VALUES: usize = 16;

impl Norm<'_, Buffer<f32>> {
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
        let (weight, bias) = self.parameters(d);
        let launch = match self.kind {
            NormKind::Layer => E::layer_norm_forward,
            NormKind::Rms => E::rms_norm_forward,
        };
        launch(
            queue,
            grid(count, d),
            checked(out),
            checked(x),
            weight,
            bias,
            rows.unwrap_or(View::none()),
            count,
            d,
            x.rows,
            x.stride,
            out.stride,
            self.eps,
        )
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
        let (weight, bias) = self.parameters(d);
        let launch = match self.kind {
            NormKind::Layer => layer_norm_add_forward,
            NormKind::Rms => rms_norm_add_forward,
        };
        let (grid, strides) = (grid(rows, d), (x.stride, y.stride));
        launch(queue, grid, checked(x), checked(y), weight, bias, rows, d, strides.0, strides.1, self.eps)
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
        let groups = columns.len() / d;
        let (weight, bias) = self.parameters(d);
        let launch = match self.kind {
            NormKind::Layer => E::layer_norm_heads_forward,
            NormKind::Rms => E::rms_norm_heads_forward,
        };
        let grid = grid(x.rows * groups, d);
        let (first, stride) = (columns.start, x.stride);
        launch(queue, grid, checked(x), weight, bias, x.rows, groups, d, first, stride, self.eps)
    }

    /// Weight and bias for rows of `d` values.
    fn parameters(&self, d: usize) -> (View<'_, f32>, View<'_, f32>) {
        for values in [self.weight, self.bias].into_iter().flatten() {
            assert!(values.len() >= d, "{} parameters for rows of {d}", values.len());
        }
        (self.weight.into(), self.bias.into())
    }
}

/// As the kernels read it from the row's length: a warp to each row, or a block.
fn grid(rows: usize, d: usize) -> Grid {
    if d <= WARP_ROW {
        return Grid { blocks: [blocks(rows.div_ceil(WARPS)), 1, 1], threads: 32 * WARPS as u32, shared: 0 };
    }
    let warps = d.div_ceil(32 * VALUES).min(32) as u32;
    Grid { blocks: [blocks(rows), 1, 1], threads: 32 * warps, shared: warps * size_of::<f32>() as u32 }
}

/// The data of rows that a kernel may read and write.
fn checked<'a, T>(rows: Rows<'a, T>) -> View<'a, T> {
    rows.check_aligned();
    rows.data
}
