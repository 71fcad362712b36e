//! Storage: aligned buffers, and matrices in the layout that the products read.
//!
//! A [`Matrix`] of `n` outputs and `k` inputs is cut into panels of [`PANEL`] outputs. Inside a panel the inputs come one
//! after the other, each with its `PANEL` weights side by side, so that a product streams through it once. Elements
//! narrower than a register lane are grouped: `GROUP` consecutive inputs of one output lie together, as the hardware's
//! dot-product instructions want them.

use std::ops::Range;

use bytemuck::{Pod, Zeroable};
use half::bf16;
use rayon::prelude::*;

use crate::Result;
use crate::ops::matmul::Multiply;
use crate::ops::simd::vectorize;

/// Outputs in one panel: two registers of sixteen f32 lanes.
pub const PANEL: usize = 32;

/// A storage type of weights and of the products' inputs; sums are always f32.
pub trait Element: Multiply + Pod + Send + Sync + PartialEq + std::fmt::Debug {
    /// Consecutive inputs of one output that lie side by side in a panel.
    const GROUP: usize;
    /// The name that users give it.
    const NAME: &str;
    /// Rounds to nearest, ties to even.
    fn from_f32(value: f32) -> Self;
    /// Exact.
    fn to_f32(self) -> f32;
}

impl Element for f32 {
    const GROUP: usize = 1;
    const NAME: &str = "f32";

    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        value
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
}

impl Element for bf16 {
    const GROUP: usize = 2;
    const NAME: &str = "bf16";

    /// Integer arithmetic only, so that loops of it vectorise; a NaN stays one because its payload is never carried away.
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        let bits = value.to_bits();
        let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
        let nan = bits >> 16 | 0x40;
        Self::from_bits(if value.is_nan() { nan } else { rounded } as u16)
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
}

/// One cache line, the unit of allocation.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// A zero-filled array that starts on a cache line.
pub struct Buffer<T> {
    lines: Vec<Line>,
    len: usize,
    element: std::marker::PhantomData<T>,
}

impl<T: Pod> Buffer<T> {
    /// `len` zeros. Pages are touched only when written.
    pub fn zeroed(len: usize) -> Self {
        let bytes = len.checked_mul(size_of::<T>()).expect("no buffer exceeds the address space");
        let lines = bytes.div_ceil(size_of::<Line>());
        Self { lines: bytemuck::zeroed_vec(lines), len, element: std::marker::PhantomData }
    }
}

impl<T: Pod> std::ops::Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }
}

impl<T: Pod> std::ops::DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}

/// Weights `[n, k]` (outputs × inputs) in panels; outputs past `n` and inputs past `k` are zeros.
pub struct Matrix<E> {
    n: usize,
    k: usize,
    data: Buffer<E>,
}

impl<E: Element> Matrix<E> {
    /// Packs `[n, k]`: `read(rows, out)` fills `out` (row-major, `rows.len() × k`) with the rows of one panel. Panels are
    /// read in parallel.
    pub fn pack(
        n: usize,
        k: usize,
        read: impl Fn(Range<usize>, &mut [f32]) -> Result<()> + Sync,
    ) -> Result<Self> {
        let mut data = Buffer::zeroed(n.div_ceil(PANEL) * panel_len::<E>(k));
        data.par_chunks_mut(panel_len::<E>(k)).enumerate().try_for_each_init(
            || (vec![0.0; PANEL * k], vec![E::from_f32(0.0); PANEL * k]),
            |(rows, rounded), (index, panel)| {
                let range = index * PANEL..n.min((index + 1) * PANEL);
                let rows = &mut rows[..range.len() * k];
                read(range, rows)?;
                let rounded = &mut rounded[..rows.len()];
                round(rows, rounded);
                pack_panel(rounded, k, k, 0, panel);
                Ok(())
            },
        )?;
        Ok(Self { n, k, data })
    }

    /// Outputs.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Inputs.
    pub fn k(&self) -> usize {
        self.k
    }

    /// The panels, each [`panel_len`] elements.
    pub fn panels(&self) -> &[E] {
        &self.data
    }

    /// Copies the weights of one output into `out`, `k` values.
    ///
    /// # Panics
    /// If `index` is not below `n`: past it lies the padding of the last panel.
    pub fn row(&self, index: usize, out: &mut [f32]) {
        assert!(index < self.n, "row {index} of {}", self.n);
        let panel = &self.data[index / PANEL * panel_len::<E>(self.k)..];
        let column = index % PANEL * E::GROUP;
        for (group, out) in out.chunks_mut(E::GROUP).enumerate() {
            let at = group * PANEL * E::GROUP + column;
            for (out, value) in out.iter_mut().zip(&panel[at..at + E::GROUP]) {
                *out = value.to_f32();
            }
        }
    }
}

/// Elements of a panel over `k` inputs: the inputs are padded to whole groups.
pub const fn panel_len<E: Element>(k: usize) -> usize {
    k.next_multiple_of(E::GROUP) * PANEL
}

/// Rounds values to the storage type.
pub(crate) fn round<E: Element>(values: &[f32], out: &mut [E]) {
    vectorize(
        #[inline(always)]
        || {
            for (out, value) in out.iter_mut().zip(values) {
                *out = E::from_f32(*value);
            }
        },
    );
}

/// Interleaves rows of `k` values, `stride` apart, as the columns `first..` of a panel. What lies past the rows and past k
/// stays as it is.
pub(crate) fn pack_panel<E: Element>(rows: &[E], stride: usize, k: usize, first: usize, panel: &mut [E]) {
    for (group, panel) in panel.chunks_exact_mut(PANEL * E::GROUP).take(k.div_ceil(E::GROUP)).enumerate() {
        let inputs = group * E::GROUP..k.min((group + 1) * E::GROUP);
        for (row, column) in rows.chunks(stride).zip(panel.chunks_exact_mut(E::GROUP).skip(first)) {
            column[..inputs.len()].copy_from_slice(&row[inputs.clone()]);
        }
    }
}
