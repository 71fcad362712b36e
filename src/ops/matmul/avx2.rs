//! The micro-kernel for AVX2: six rows times half a panel, twelve accumulators in the sixteen registers. Each step loads
//! two vectors of weights and broadcasts six inputs for twelve multiply-adds. f32 only: there is no fast bf16.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::micro::{Lanes, tile};
use super::{Kernel, Left, Panels, Start, check_tile, pack};

const ROWS: usize = 6;

pub(super) fn f32_kernel() -> Option<Kernel<f32>> {
    (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Kernel {
        rows: ROWS,
        run: f32_tile,
        interleave: pack::interleave,
        transpose: pack::transpose,
    })
}

fn f32_tile(a: Left<f32>, b: Panels<f32>, start: Start, out: &mut [f32], out_stride: usize) {
    assert!((1..=ROWS).contains(&a.rows));
    check_tile(a.rows, a, b, out, out_stride);
    // SAFETY: this function is only handed out after the features were detected; shapes are checked above.
    unsafe { f32_rows(a, b, start, out.as_mut_ptr(), out_stride) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn f32_rows(a: Left<f32>, b: Panels<f32>, start: Start, out: *mut f32, stride: usize) {
    // SAFETY: the shapes are checked, and the caller has the features.
    unsafe {
        match a.rows {
            1 => tile::<F32, 1>(a, b, start, out, stride),
            2 => tile::<F32, 2>(a, b, start, out, stride),
            3 => tile::<F32, 3>(a, b, start, out, stride),
            4 => tile::<F32, 4>(a, b, start, out, stride),
            5 => tile::<F32, 5>(a, b, start, out, stride),
            _ => tile::<F32, ROWS>(a, b, start, out, stride),
        }
    }
}

struct F32;

// SAFETY: each method is one instruction.
unsafe impl Lanes for F32 {
    type Element = f32;
    type Vector = __m256;
    type Sums = __m256;
    const COUNT: usize = 8;

    #[inline(always)]
    unsafe fn zero() -> __m256 {
        // SAFETY: the trait's.
        unsafe { _mm256_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn resume(out: *const f32) -> __m256 {
        // SAFETY: the trait's.
        unsafe { _mm256_loadu_ps(out) }
    }

    #[inline(always)]
    unsafe fn store(sums: __m256, out: *mut f32) {
        // SAFETY: the trait's.
        unsafe { _mm256_storeu_ps(out, sums) }
    }

    #[inline(always)]
    unsafe fn broadcast(group: *const f32) -> __m256 {
        // SAFETY: the trait's.
        unsafe { _mm256_broadcast_ss(&*group) }
    }

    #[inline(always)]
    unsafe fn load(weights: *const f32) -> __m256 {
        // SAFETY: the trait's.
        unsafe { _mm256_loadu_ps(weights) }
    }

    #[inline(always)]
    unsafe fn multiply_add(sums: __m256, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the trait's.
        unsafe { _mm256_fmadd_ps(a, b, sums) }
    }
}
