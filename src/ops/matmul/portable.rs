//! The micro-kernel in plain Rust, compiled once for each instruction set and picked at run time.

use super::{Kernel, Left, Panels, Start, check_tile, pack};
use crate::ops::simd::vectorize;
use crate::tensor::{Element, PANEL};

/// Accumulators of three rows fill the sixteen registers of AVX2 and suit NEON.
const ROWS: usize = 3;

pub(super) fn kernel<E: Element>() -> Kernel<E> {
    Kernel { rows: ROWS, run: dispatch, interleave: pack::interleave, transpose: pack::transpose }
}

fn dispatch<E: Element>(a: Left<E>, b: Panels<E>, start: Start, out: &mut [f32], out_stride: usize) {
    vectorize(
        #[inline(always)]
        || match a.rows {
            1 => tile::<E, 1>(a, b, start, out, out_stride),
            2 => tile::<E, 2>(a, b, start, out, out_stride),
            _ => tile::<E, ROWS>(a, b, start, out, out_stride),
        },
    );
}

#[inline(always)]
fn tile<E: Element, const MR: usize>(
    a: Left<E>,
    b: Panels<E>,
    start: Start,
    out: &mut [f32],
    out_stride: usize,
) {
    check_tile(MR, a, b, out, out_stride);
    let mut sums = [[0.0f32; PANEL]; MR];
    if start == Start::Outputs {
        for (row, sums) in sums.iter_mut().enumerate() {
            sums.copy_from_slice(&out[row * out_stride..][..PANEL]);
        }
    }
    for segment in 0..b.segments {
        let inputs = &b.data[segment * b.segment_stride..][..b.segment * PANEL];
        for (group, weights) in inputs.chunks_exact(PANEL * E::GROUP).enumerate() {
            let inputs = (segment * (b.segment / E::GROUP) + group) * a.step;
            for (row, sums) in sums.iter_mut().enumerate() {
                let values = &a.data[row * a.stride + inputs..][..E::GROUP];
                for (column, sum) in sums.iter_mut().enumerate() {
                    for (value, weight) in values.iter().zip(&weights[column * E::GROUP..][..E::GROUP]) {
                        *sum = value.to_f32().mul_add(weight.to_f32(), *sum);
                    }
                }
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        out[row * out_stride..][..PANEL].copy_from_slice(sums);
    }
}
