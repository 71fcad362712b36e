//! The micro-kernel for AVX-512: twelve rows times one panel, 24 accumulators in the 32 registers.
//!
//! With two multiply-adds a cycle, 24 chains hide a latency of up to twelve cycles, and each step loads two vectors of
//! weights and broadcasts twelve inputs for 24 multiply-adds.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use half::bf16;

use super::{Kernel, Panels, Rows, check_tile};
use crate::tensor::{Element, PANEL};

const ROWS: usize = 12;
const LANES: usize = 16;

pub(super) fn f32_kernel() -> Option<Kernel<f32>> {
    is_x86_feature_detected!("avx512f").then_some(Kernel { rows: ROWS, run: f32_tile })
}

pub(super) fn bf16_kernel() -> Option<Kernel<bf16>> {
    let found = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16");
    found.then_some(Kernel { rows: ROWS, run: bf16_tile })
}

fn f32_tile(a: Rows<f32>, b: Panels<f32>, out: &mut [f32], out_stride: usize) {
    assert!((1..=ROWS).contains(&a.rows));
    check_tile(a.rows, a, b, out, out_stride);
    // SAFETY: this function is only handed out after the feature was detected; shapes are checked above.
    unsafe { f32_rows(a, b, out.as_mut_ptr(), out_stride) }
}

fn bf16_tile(a: Rows<bf16>, b: Panels<bf16>, out: &mut [f32], out_stride: usize) {
    assert!((1..=ROWS).contains(&a.rows));
    check_tile(a.rows, a, b, out, out_stride);
    // SAFETY: as for f32.
    unsafe { bf16_rows(a, b, out.as_mut_ptr(), out_stride) }
}

#[target_feature(enable = "avx512f")]
unsafe fn f32_rows(a: Rows<f32>, b: Panels<f32>, out: *mut f32, out_stride: usize) {
    // SAFETY: passed on.
    unsafe { by_rows(a, b, out, out_stride) }
}

#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn bf16_rows(a: Rows<bf16>, b: Panels<bf16>, out: *mut f32, out_stride: usize) {
    // SAFETY: passed on.
    unsafe { by_rows(a, b, out, out_stride) }
}

/// The three instructions in which the types differ. One group of inputs fills a 32-bit lane.
trait Lane: Element {
    type Vector: Copy;
    unsafe fn broadcast(group: *const Self) -> Self::Vector;
    unsafe fn load(weights: *const Self) -> Self::Vector;
    unsafe fn multiply_add(sum: __m512, a: Self::Vector, b: Self::Vector) -> __m512;
}

impl Lane for f32 {
    type Vector = __m512;

    #[inline(always)]
    unsafe fn broadcast(group: *const f32) -> __m512 {
        // SAFETY: the caller has checked the extent and the feature.
        unsafe { _mm512_set1_ps(*group) }
    }

    #[inline(always)]
    unsafe fn load(weights: *const f32) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_loadu_ps(weights) }
    }

    #[inline(always)]
    unsafe fn multiply_add(sum: __m512, a: __m512, b: __m512) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_fmadd_ps(a, b, sum) }
    }
}

impl Lane for bf16 {
    type Vector = __m512bh;

    #[inline(always)]
    unsafe fn broadcast(group: *const bf16) -> __m512bh {
        // SAFETY: the caller has checked the extent and the feature; a pair need not be aligned; the types have equal size.
        unsafe { std::mem::transmute(_mm512_set1_epi32(group.cast::<i32>().read_unaligned())) }
    }

    #[inline(always)]
    unsafe fn load(weights: *const bf16) -> __m512bh {
        // SAFETY: as above.
        unsafe { std::mem::transmute(_mm512_loadu_si512(weights.cast())) }
    }

    #[inline(always)]
    unsafe fn multiply_add(sum: __m512, a: __m512bh, b: __m512bh) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_dpbf16_ps(sum, a, b) }
    }
}

#[inline(always)]
unsafe fn by_rows<E: Lane>(a: Rows<E>, b: Panels<E>, out: *mut f32, stride: usize) {
    // SAFETY: `check_tile` has seen `a.rows` rows, and the caller has the feature.
    unsafe {
        match a.rows {
            1 => tile::<E, 1>(a, b, out, stride),
            2 => tile::<E, 2>(a, b, out, stride),
            3 => tile::<E, 3>(a, b, out, stride),
            4 => tile::<E, 4>(a, b, out, stride),
            5 => tile::<E, 5>(a, b, out, stride),
            6 => tile::<E, 6>(a, b, out, stride),
            7 => tile::<E, 7>(a, b, out, stride),
            8 => tile::<E, 8>(a, b, out, stride),
            9 => tile::<E, 9>(a, b, out, stride),
            10 => tile::<E, 10>(a, b, out, stride),
            11 => tile::<E, 11>(a, b, out, stride),
            _ => tile::<E, ROWS>(a, b, out, stride),
        }
    }
}

#[inline(always)]
unsafe fn tile<E: Lane, const MR: usize>(a: Rows<E>, b: Panels<E>, out: *mut f32, out_stride: usize) {
    // SAFETY: `check_tile` has verified that MR rows of k inputs, the panel and MR output rows lie inside their slices.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); 2]; MR];
        let mut inputs = a.data.as_ptr();
        for segment in 0..b.segments {
            let mut weights = b.data.as_ptr().add(segment * b.segment_stride);
            for _ in 0..b.segment / E::GROUP {
                let low = E::load(weights);
                let high = E::load(weights.add(LANES * E::GROUP));
                for (row, sums) in sums.iter_mut().enumerate() {
                    let input = E::broadcast(inputs.add(row * a.stride));
                    sums[0] = E::multiply_add(sums[0], input, low);
                    sums[1] = E::multiply_add(sums[1], input, high);
                }
                weights = weights.add(PANEL * E::GROUP);
                inputs = inputs.add(E::GROUP);
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            let out = out.add(row * out_stride);
            _mm512_storeu_ps(out, sums[0]);
            _mm512_storeu_ps(out.add(LANES), sums[1]);
        }
    }
}
