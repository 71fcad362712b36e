//! Matrix product: `out[r, j] = Σ_k a[r, k] · w[j, k]`, sums in f32.
//!
//! Every output is one chain of fused multiply-adds over k in ascending order, whatever the number of rows, their place
//! in the batch or the thread: a row's bits depend on the row alone. bf16 multiplies pairs of inputs, exact products
//! and f32 sums.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod device;
mod host;
#[cfg(target_arch = "x86_64")]
mod micro;
mod pack;
mod portable;

use half::bf16;

pub use self::device::{multiply_add_on, multiply_on, product, product_add, product_exact};
pub(super) use self::pack::Source;
pub use crate::device::Layout;
use crate::tensor::{Element, Matrix, PANEL, panel_len};

/// Left operand: `rows` rows, `stride` elements apart.
#[derive(Clone, Copy)]
pub struct Rows<'a, E> {
    /// The first row starts here.
    pub data: &'a [E],
    /// Distance between rows.
    pub stride: usize,
    /// How many.
    pub rows: usize,
}

/// Right operand: `count` panels of [`PANEL`] outputs. The inputs of a panel lie in `segments` runs of `segment` inputs,
/// so that keys and values of attention can be read where the cache of one layer keeps them.
#[derive(Clone, Copy)]
pub struct Panels<'a, E> {
    /// The first panel starts here.
    pub data: &'a [E],
    /// How many panels.
    pub count: usize,
    /// Distance between panels, in elements.
    pub stride: usize,
    /// Runs of inputs.
    pub segments: usize,
    /// Inputs in a run, whole groups.
    pub segment: usize,
    /// Distance between runs, in elements.
    pub segment_stride: usize,
}

impl<'a, E: Element> Panels<'a, E> {
    /// Panels `first .. first + count` of a matrix.
    pub fn of(matrix: &'a Matrix<E>, first: usize, count: usize) -> Self {
        let stride = panel_len::<E>(matrix.k());
        let segment = matrix.k().next_multiple_of(E::GROUP);
        let data = &matrix.panels()[first * stride..(first + count) * stride];
        Self { data, count, stride, segments: 1, segment, segment_stride: 0 }
    }

    fn k(&self) -> usize {
        self.segments.saturating_mul(self.segment)
    }

    /// Elements from the start of a panel to its end.
    fn extent(&self) -> usize {
        span(self.segments, self.segment_stride, self.segment.saturating_mul(PANEL))
    }
}

/// Elements from the start of the first of `count` runs of `len`, `stride` apart, to the end of the last. Saturates, since
/// a sum that wrapped around would pass the checks that micro-kernels rely on.
fn span(count: usize, stride: usize, len: usize) -> usize {
    count.saturating_sub(1).saturating_mul(stride).saturating_add(len)
}

/// The products that an element type has on this machine.
pub trait Multiply: Sized + 'static {
    /// The micro-kernels that run here, the fastest first; the last one runs everywhere.
    fn kernels() -> impl Iterator<Item = Kernel<Self>>;
    /// Whether the machine multiplies this type faster than f32.
    fn is_fast() -> bool;
    /// The fastest micro-kernel here.
    fn kernel() -> Kernel<Self> {
        Self::kernels().next().expect("one runs everywhere")
    }
}

/// A micro-kernel: up to `rows` rows times one panel.
#[derive(Clone, Copy)]
pub struct Kernel<E: 'static> {
    /// Rows that it keeps in registers.
    rows: usize,
    run: fn(Left<E>, Panels<E>, Start, &mut [f32], usize),
    /// [`pack::interleave`] at its fastest.
    interleave: fn(pack::Source<E>, usize, &mut [E]),
    /// [`pack::transpose`] at its fastest.
    transpose: fn(pack::Source<E>, &mut [E]),
}

/// What a micro-kernel multiplies a panel by. The inputs of a row come in groups.
#[derive(Clone, Copy)]
struct Left<'a, E> {
    /// The first row starts here.
    data: &'a [E],
    /// How many rows.
    rows: usize,
    /// Distance between rows.
    stride: usize,
    /// Distance between the groups of a row.
    step: usize,
}

impl<E: Element> Left<'_, E> {
    /// Elements from the start of the first row to the end of the last, over `k` inputs.
    fn extent(&self, k: usize) -> usize {
        let row = if k == 0 { 0 } else { span(k / E::GROUP, self.step, E::GROUP) };
        span(self.rows, self.stride, row)
    }
}

/// What sums start from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    /// Zero.
    Zero,
    /// The outputs: sums over the inputs before these, whose chains go on.
    Outputs,
}

impl Multiply for f32 {
    fn kernels() -> impl Iterator<Item = Kernel<Self>> {
        #[cfg(target_arch = "x86_64")]
        let vectors = [avx512::f32_kernel, avx2::f32_kernel].into_iter().filter_map(|kernel| kernel());
        #[cfg(not(target_arch = "x86_64"))]
        let vectors = std::iter::empty();
        vectors.chain([portable::kernel()])
    }

    fn is_fast() -> bool {
        true
    }
}

impl Multiply for bf16 {
    fn kernels() -> impl Iterator<Item = Kernel<Self>> {
        #[cfg(target_arch = "x86_64")]
        let vectors = avx512::bf16_kernel();
        #[cfg(not(target_arch = "x86_64"))]
        let vectors = None;
        vectors.into_iter().chain([portable::kernel()])
    }

    fn is_fast() -> bool {
        Self::kernels().count() > 1
    }
}

/// `out[r, 32·p + c] = Σ_k a[r, k] · panel_p[k, c]`: `out` holds `a.rows` rows, `out_stride >= 32 · b.count` apart.
///
/// # Panics
/// If an operand is shorter than its shape says.
pub fn matmul<E: Element>(a: Rows<E>, b: Panels<E>, out: &mut [f32], out_stride: usize) {
    multiply(E::kernel(), a, b, out, out_stride);
}

/// [`matmul`] by a given micro-kernel.
pub fn multiply<E: Element>(kernel: Kernel<E>, a: Rows<E>, b: Panels<E>, out: &mut [f32], out_stride: usize) {
    multiply_from(kernel, Start::Zero, a, b, out, out_stride);
}

/// [`matmul`] added to `out`: its sums go on over more inputs.
pub(super) fn matmul_add<E: Element>(a: Rows<E>, b: Panels<E>, out: &mut [f32], out_stride: usize) {
    multiply_from(E::kernel(), Start::Outputs, a, b, out, out_stride);
}

fn multiply_from<E: Element>(
    kernel: Kernel<E>,
    start: Start,
    a: Rows<E>,
    b: Panels<E>,
    out: &mut [f32],
    out_stride: usize,
) {
    if a.rows == 0 || b.count == 0 {
        return;
    }
    assert!(a.data.len() >= span(a.rows, a.stride, b.k()), "left operand too short");
    assert!(b.data.len() >= span(b.count, b.stride, b.extent()), "right operand too short");
    assert!(out.len() >= span(a.rows, out_stride, b.count.saturating_mul(PANEL)), "output too short");
    for panel in 0..b.count {
        let one = Panels { data: &b.data[panel * b.stride..][..b.extent()], count: 1, ..b };
        for row in (0..a.rows).step_by(kernel.rows) {
            let rows = kernel.rows.min(a.rows - row);
            let tile = Left { data: &a.data[row * a.stride..], rows, stride: a.stride, step: E::GROUP };
            let out = &mut out[row * out_stride + panel * PANEL..];
            (kernel.run)(tile, one, start, out, out_stride);
        }
    }
}

/// Fails loudly where a micro-kernel would reach past a slice.
fn check_tile<E: Element>(rows: usize, a: Left<E>, b: Panels<E>, out: &[f32], out_stride: usize) {
    assert!(a.rows == rows && b.segment.is_multiple_of(E::GROUP));
    assert!(a.data.len() >= a.extent(b.k()));
    assert!(b.data.len() >= b.extent());
    assert!(out.len() >= span(rows, out_stride, PANEL));
}
