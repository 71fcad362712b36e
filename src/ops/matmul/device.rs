//! Products of row-major operands: by the vendor's library where there is one, else by kernels, or by the host's loops.

use bytemuck::Pod;

use super::host::Product;
use super::pack::Source;
use crate::Result;
#[cfg(kernels)]
use crate::device::Grid;
use crate::device::kernels::Kernels;
use crate::device::{Access, Arm, Bias, Layout, Queue, Rows, View};
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

/// `out = a · b + bias`, stored as `T`.
///
/// # Errors
/// What went wrong on the device before.
///
/// # Panics
/// If the shapes do not fit.
pub fn product<T: Kernels>(
    queue: &Queue,
    layout: Layout,
    a: Rows<'_, T>,
    b: Rows<'_, T>,
    bias: Option<Bias<'_, T>>,
    out: Rows<'_, T>,
) -> Result<()> {
    let rounded = bias.map_or(View::none(), |bias| bias.rounded);
    if queue.product(layout, a, b, rounded, out, false)? {
        return Ok(());
    }
    multiply_on(queue, layout, a, b, exact(bias), out)
}

/// `out += a · b + bias`, sums in f32: the residual stream, and gradients.
///
/// # Errors
/// What went wrong on the device before.
///
/// # Panics
/// If the shapes do not fit.
pub fn product_add<T: Kernels>(
    queue: &Queue,
    layout: Layout,
    a: Rows<'_, T>,
    b: Rows<'_, T>,
    bias: Option<Bias<'_, T>>,
    out: Rows<'_, f32>,
) -> Result<()> {
    if queue.product(layout, a, b, exact(bias), out, true)? {
        return Ok(());
    }
    multiply_add_on(queue, layout, a, b, exact(bias), out)
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
    if queue.product(Layout::Nt, x, weight, View::none(), out, false)? {
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

/// `out = a · b + bias` by the kernel of `layout` alone, stored as `T`; an empty `bias` adds nothing. A row's bits depend on the
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
fn sizes<T: Copy, D: Copy>(
    layout: Layout,
    a: Rows<'_, T>,
    b: Rows<'_, T>,
    bias: View<'_, f32>,
    out: Rows<'_, D>,
) -> [usize; 3] {
    let sizes = layout.sizes(a, b, out);
    assert!(bias.is_empty() || bias.len() == out.width, "{} biases for {} outputs", bias.len(), out.width);
    a.check_aligned();
    b.check_aligned();
    out.check_aligned();
    sizes
}

#[cfg(kernels)]
fn grid(m: usize, n: usize) -> Grid {
    let blocks = m.div_ceil(TILE).saturating_mul(n.div_ceil(TILE));
    let blocks = u32::try_from(blocks).expect("outputs of 2³² blocks exceed every device");
    Grid { blocks: [blocks, 1, 1], threads: THREADS, shared: SHARED }
}
