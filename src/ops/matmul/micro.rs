//! The loop of the micro-kernels, for every instruction set that has vectors of f32 sums.
#![allow(unsafe_code)]

use super::{Left, Panels, Start};
use crate::tensor::{Element, PANEL};

/// An instruction set for one type of inputs. One group of inputs fills a 32-bit lane.
///
/// # Safety
/// Methods may only be called where the instructions exist, with pointers to as many values as a vector or a group has.
pub(super) unsafe trait Lanes {
    type Element: Element;
    /// Of weights or of one input in every lane.
    type Vector: Copy;
    type Sums: Copy;
    /// Sums of a vector; two vectors of them divide a panel.
    const COUNT: usize;
    unsafe fn zero() -> Self::Sums;
    unsafe fn resume(out: *const f32) -> Self::Sums;
    unsafe fn store(sums: Self::Sums, out: *mut f32);
    unsafe fn broadcast(group: *const Self::Element) -> Self::Vector;
    unsafe fn load(weights: *const Self::Element) -> Self::Vector;
    unsafe fn multiply_add(sums: Self::Sums, a: Self::Vector, b: Self::Vector) -> Self::Sums;
}

/// `MR` rows times one panel, two vectors of columns at a time.
///
/// # Safety
/// [`check_tile`](super::check_tile) has passed for `MR` rows, and the machine has the instructions of `L`.
#[inline(always)]
pub(super) unsafe fn tile<L: Lanes, const MR: usize>(
    a: Left<L::Element>,
    b: Panels<L::Element>,
    start: Start,
    out: *mut f32,
    out_stride: usize,
) {
    let group = L::Element::GROUP;
    for first in (0..PANEL).step_by(2 * L::COUNT) {
        // SAFETY: MR rows of k inputs, the panel and MR output rows lie inside their slices.
        unsafe {
            let out = out.add(first);
            let mut sums = [[L::zero(); 2]; MR];
            if start == Start::Outputs {
                for (row, sums) in sums.iter_mut().enumerate() {
                    let out = out.add(row * out_stride);
                    *sums = [L::resume(out), L::resume(out.add(L::COUNT))];
                }
            }
            let mut inputs = a.data.as_ptr();
            for segment in 0..b.segments {
                let mut weights = b.data.as_ptr().add(segment * b.segment_stride + first * group);
                for _ in 0..b.segment / group {
                    let low = L::load(weights);
                    let high = L::load(weights.add(L::COUNT * group));
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let input = L::broadcast(inputs.add(row * a.stride));
                        sums[0] = L::multiply_add(sums[0], input, low);
                        sums[1] = L::multiply_add(sums[1], input, high);
                    }
                    weights = weights.wrapping_add(PANEL * group);
                    inputs = inputs.wrapping_add(a.step);
                }
            }
            for (row, sums) in sums.iter().enumerate() {
                let out = out.add(row * out_stride);
                L::store(sums[0], out);
                L::store(sums[1], out.add(L::COUNT));
            }
        }
    }
}
