//! Products of row-major operands: by the vendor's library where there is one, else by kernels, or by the host's loops.

use bytemuck::Pod;

use super::host::Product;
use super::pack::Source;
use crate::Result;
#[cfg(kernels)]
use crate::device::Grid;
use crate::device::kernels::Kernels;
use crate::device::{Access, Arm, Bias, Queue, Rows, View};
use crate::tensor::Element;

/// Rows and columns of a block's outputs.
#[cfg(kernels)]
const TILE: usize = 128;
/// Threads of a block.
#[cfg(kernels)]
const THREADS: u32 = 128;
/// Shared memory of a block: three stages of 64 bytes of k for each of its rows and columns.
#[cfg(kernels)]
const SHARED: u32 = 3 * 2 * TILE as u32 * 64;

/// Where the index that is summed over stands in the operands of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `a [M, K] · b [N, K]ᵀ`: inputs by weights.
    Nt,
    /// `a [M, K] · b [K, N]`: gradients of inputs.
    Nn,
    /// `a [K, M]ᵀ · b [K, N]`: gradients of weights.
    Tn,
}

/// `out = x · weightᵀ + bias`, stored as `T`.
///
/// # Errors
/// What went wrong on the device before.
///
/// # Panics
/// If the shapes do not fit.
pub fn product<T: Kernels>(
    queue: &Queue,
    x: Rows<'_, T>,
    weight: Rows<'_, T>,
    bias: Option<Bias<'_, T>>,
    out: Rows<'_, T>,
) -> Result<()> {
    let rounded = bias.map_or(View::none(), |bias| bias.rounded);
    if queue.product(out, x, weight, rounded, false)? {
        return Ok(());
    }
    multiply_on(queue, Layout::Nt, x, weight, exact(bias), out)
}

/// `out += x · weightᵀ + bias`, sums in f32: the residual stream.
///
/// # Errors
/// What went wrong on the device before.
///
/// # Panics
/// If the shapes do not fit.
pub fn product_add<T: Kernels>(
    queue: &Queue,
    x: Rows<'_, T>,
    weight: Rows<'_, T>,
    bias: Option<Bias<'_, T>>,
    out: Rows<'_, f32>,
) -> Result<()> {
    if queue.product(out, x, weight, exact(bias), true)? {
        return Ok(());
    }
    multiply_add_on(queue, Layout::Nt, x, weight, exact(bias), out)
}

/// `out = x · weightᵀ`, sums in f32 as they are: logits.
///
/// # Errors
/// What went wrong on the device before.
///
/// # Panics
/// If the shapes do not fit.
pub fn product_exact<T: Kernels>(
    queue: &Queue,
    x: Rows<'_, T>,
    weight: Rows<'_, T>,
    out: Rows<'_, f32>,
) -> Result<()> {
    if queue.product(out, x, weight, View::none(), false)? {
        return Ok(());
    }
    let sizes = sizes(Layout::Nt, x, weight, View::none(), out);
    match queue.arm() {
        Arm::Host(host) => {
            run(&host, Layout::Nt, sizes, [x, weight], View::none(), out, |out, sum| *out = sum);
            Ok(())
        }
        #[cfg(kernels)]
        Arm::Kernels => {
            let ([m, n, k], [a, b]) = (sizes, [x, weight]);
            let grid = grid(m, n);
            T::matmul_nt_exact(
                queue,
                grid,
                out.data,
                a.data,
                b.data,
                View::none(),
                m,
                n,
                k,
                a.stride,
                b.stride,
                out.stride,
            )
        }
    }
}

fn exact<'a, T>(bias: Option<Bias<'a, T>>) -> View<'a, f32> {
    bias.map_or(View::none(), |bias| bias.exact)
}

/// `out = a · b + bias` by the kernel of `layout`, stored as `T`; an empty `bias` adds nothing. A row's bits depend on the
/// row alone.
///
/// # Errors
/// What went wrong on the device before.
///
/// # Panics
/// If the shapes do not fit, or rows do not start on 16 bytes.
pub fn multiply_on<T: Kernels>(
    queue: &Queue,
    layout: Layout,
    a: Rows<'_, T>,
    b: Rows<'_, T>,
    bias: View<'_, f32>,
    out: Rows<'_, T>,
) -> Result<()> {
    let sizes = sizes(layout, a, b, bias, out);
    match queue.arm() {
        Arm::Host(host) => {
            run(&host, layout, sizes, [a, b], bias, out, |out, sum| *out = T::from_f32(sum));
            Ok(())
        }
        #[cfg(kernels)]
        Arm::Kernels => {
            let launch = match layout {
                Layout::Nt => T::matmul_nt,
                Layout::Nn => T::matmul_nn,
                Layout::Tn => T::matmul_tn,
            };
            let [m, n, k] = sizes;
            launch(queue, grid(m, n), out.data, a.data, b.data, bias, m, n, k, a.stride, b.stride, out.stride)
        }
    }
}

/// `out += a · b + bias` in f32, as [`multiply_on`].
///
/// # Errors
/// What went wrong on the device before.
///
/// # Panics
/// As [`multiply_on`].
pub fn multiply_add_on<T: Kernels>(
    queue: &Queue,
    layout: Layout,
    a: Rows<'_, T>,
    b: Rows<'_, T>,
    bias: View<'_, f32>,
    out: Rows<'_, f32>,
) -> Result<()> {
    let sizes = sizes(layout, a, b, bias, out);
    match queue.arm() {
        Arm::Host(host) => {
            run(&host, layout, sizes, [a, b], bias, out, |out, sum| *out += sum);
            Ok(())
        }
        #[cfg(kernels)]
        Arm::Kernels => {
            let launch = match layout {
                Layout::Nt => T::matmul_nt_add,
                Layout::Nn => T::matmul_nn_add,
                Layout::Tn => T::matmul_tn_add,
            };
            let [m, n, k] = sizes;
            launch(queue, grid(m, n), out.data, a.data, b.data, bias, m, n, k, a.stride, b.stride, out.stride)
        }
    }
}

/// The host's arm: `merge(output, sum + bias)` for every output.
fn run<T: Element, D: Pod + Send>(
    host: &Access<'_>,
    layout: Layout,
    sizes: [usize; 3],
    operands: [Rows<'_, T>; 2],
    bias: View<'_, f32>,
    out: Rows<'_, D>,
    merge: impl Fn(&mut D, f32) + Copy + Sync,
) {
    let [a, b] = operands.map(|rows| Source {
        data: host.read(rows),
        stride: rows.stride,
        rows: rows.rows,
        width: rows.width,
    });
    let product = Product { kernel: T::kernel(), layout, sizes, a, b, bias: host.slice(bias) };
    product.run(host.write(out), out.stride, merge);
}

/// M, N and K, once everything fits them.
fn sizes<T, D>(
    layout: Layout,
    a: Rows<'_, T>,
    b: Rows<'_, T>,
    bias: View<'_, f32>,
    out: Rows<'_, D>,
) -> [usize; 3] {
    let ((m, k), (n, depth)) = match layout {
        Layout::Nt => ((a.rows, a.width), (b.rows, b.width)),
        Layout::Nn => ((a.rows, a.width), (b.width, b.rows)),
        Layout::Tn => ((a.width, a.rows), (b.width, b.rows)),
    };
    assert_eq!((k, m, n), (depth, out.rows, out.width), "shapes of a product");
    assert!(bias.is_empty() || bias.len() == n, "{} biases for {n} outputs", bias.len());
    a.check_aligned();
    b.check_aligned();
    out.check_aligned();
    [m, n, k]
}

#[cfg(kernels)]
fn grid(m: usize, n: usize) -> Grid {
    let blocks = m.div_ceil(TILE).saturating_mul(n.div_ceil(TILE));
    let blocks = u32::try_from(blocks).expect("outputs of 2³² blocks exceed every device");
    Grid { blocks: [blocks, 1, 1], threads: THREADS, shared: SHARED }
}
