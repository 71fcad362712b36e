//! The micro-kernel for AVX-512: twelve rows times one panel, 24 accumulators in the 32 registers.
//!
//! With two multiply-adds a cycle, 24 chains hide a latency of up to twelve cycles, and each step loads two vectors of
//! weights and broadcasts twelve inputs for 24 multiply-adds.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use half::bf16;

use super::micro::{Lanes, tile};
use super::{Kernel, Left, Panels, Start, check_tile, pack, span};
use crate::tensor::{Element, PANEL};

const ROWS: usize = 12;
const LANES: usize = 16;

pub(super) fn f32_kernel() -> Option<Kernel<f32>> {
    is_detected().then_some(kernel(f32_tile))
}

pub(super) fn bf16_kernel() -> Option<Kernel<bf16>> {
    (is_detected() && is_x86_feature_detected!("avx512bf16")).then_some(kernel(bf16_tile))
}

/// What packing needs, and all processors have that anybody trains on.
fn is_detected() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
}

/// The kernel that runs `run`; only where [`is_detected`].
fn kernel<E: Gather>(run: fn(Left<E>, Panels<E>, Start, &mut [f32], usize)) -> Kernel<E> {
    Kernel { rows: ROWS, run, interleave: interleave::<E>, transpose: transpose::<E> }
}

fn f32_tile(a: Left<f32>, b: Panels<f32>, start: Start, out: &mut [f32], out_stride: usize) {
    assert!((1..=ROWS).contains(&a.rows));
    check_tile(a.rows, a, b, out, out_stride);
    // SAFETY: this function is only handed out after the feature was detected; shapes are checked above.
    unsafe { f32_rows(a, b, start, out.as_mut_ptr(), out_stride) }
}

fn bf16_tile(a: Left<bf16>, b: Panels<bf16>, start: Start, out: &mut [f32], out_stride: usize) {
    assert!((1..=ROWS).contains(&a.rows));
    check_tile(a.rows, a, b, out, out_stride);
    // SAFETY: as for f32.
    unsafe { bf16_rows(a, b, start, out.as_mut_ptr(), out_stride) }
}

#[target_feature(enable = "avx512f")]
unsafe fn f32_rows(a: Left<f32>, b: Panels<f32>, start: Start, out: *mut f32, out_stride: usize) {
    // SAFETY: passed on.
    unsafe { by_rows::<F32>(a, b, start, out, out_stride) }
}

#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn bf16_rows(a: Left<bf16>, b: Panels<bf16>, start: Start, out: *mut f32, out_stride: usize) {
    // SAFETY: passed on.
    unsafe { by_rows::<Bf16>(a, b, start, out, out_stride) }
}

#[inline(always)]
unsafe fn by_rows<L: Lanes>(
    a: Left<L::Element>,
    b: Panels<L::Element>,
    start: Start,
    out: *mut f32,
    stride: usize,
) {
    // SAFETY: `check_tile` has seen `a.rows` rows, and the caller has the feature.
    unsafe {
        match a.rows {
            1 => tile::<L, 1>(a, b, start, out, stride),
            2 => tile::<L, 2>(a, b, start, out, stride),
            3 => tile::<L, 3>(a, b, start, out, stride),
            4 => tile::<L, 4>(a, b, start, out, stride),
            5 => tile::<L, 5>(a, b, start, out, stride),
            6 => tile::<L, 6>(a, b, start, out, stride),
            7 => tile::<L, 7>(a, b, start, out, stride),
            8 => tile::<L, 8>(a, b, start, out, stride),
            9 => tile::<L, 9>(a, b, start, out, stride),
            10 => tile::<L, 10>(a, b, start, out, stride),
            11 => tile::<L, 11>(a, b, start, out, stride),
            _ => tile::<L, ROWS>(a, b, start, out, stride),
        }
    }
}

struct F32;

// SAFETY: each method is one instruction.
unsafe impl Lanes for F32 {
    type Element = f32;
    type Vector = __m512;
    type Sums = __m512;
    const COUNT: usize = LANES;

    #[inline(always)]
    unsafe fn zero() -> __m512 {
        // SAFETY: the trait's.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn resume(out: *const f32) -> __m512 {
        // SAFETY: the trait's.
        unsafe { _mm512_loadu_ps(out) }
    }

    #[inline(always)]
    unsafe fn store(sums: __m512, out: *mut f32) {
        // SAFETY: the trait's.
        unsafe { _mm512_storeu_ps(out, sums) }
    }

    #[inline(always)]
    unsafe fn broadcast(group: *const f32) -> __m512 {
        // SAFETY: the trait's.
        unsafe { _mm512_set1_ps(*group) }
    }

    #[inline(always)]
    unsafe fn load(weights: *const f32) -> __m512 {
        // SAFETY: the trait's.
        unsafe { _mm512_loadu_ps(weights) }
    }

    #[inline(always)]
    unsafe fn multiply_add(sums: __m512, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the trait's.
        unsafe { _mm512_fmadd_ps(a, b, sums) }
    }
}

struct Bf16;

// SAFETY: each method is one instruction, or f32's.
unsafe impl Lanes for Bf16 {
    type Element = bf16;
    type Vector = __m512bh;
    type Sums = __m512;
    const COUNT: usize = LANES;

    #[inline(always)]
    unsafe fn zero() -> __m512 {
        // SAFETY: the trait's.
        unsafe { F32::zero() }
    }

    #[inline(always)]
    unsafe fn resume(out: *const f32) -> __m512 {
        // SAFETY: the trait's.
        unsafe { F32::resume(out) }
    }

    #[inline(always)]
    unsafe fn store(sums: __m512, out: *mut f32) {
        // SAFETY: the trait's.
        unsafe { F32::store(sums, out) }
    }

    #[inline(always)]
    unsafe fn broadcast(group: *const bf16) -> __m512bh {
        // SAFETY: the trait's; a pair need not be aligned, and the types have equal size.
        unsafe { std::mem::transmute(_mm512_set1_epi32(group.cast::<i32>().read_unaligned())) }
    }

    #[inline(always)]
    unsafe fn load(weights: *const bf16) -> __m512bh {
        // SAFETY: the trait's.
        unsafe { std::mem::transmute(_mm512_loadu_si512(weights.cast())) }
    }

    #[inline(always)]
    unsafe fn multiply_add(sums: __m512, a: __m512bh, b: __m512bh) -> __m512 {
        // SAFETY: the trait's.
        unsafe { _mm512_dpbf16_ps(sums, a, b) }
    }
}

/// How inputs that lie in rows come into lanes.
trait Gather: Element {
    /// Groups of sixteen columns from `count` inputs, which lie in rows; zero outside `mask`.
    unsafe fn gather(inputs: *const Self, stride: usize, count: usize, mask: u16) -> __m512i;
}

impl Gather for f32 {
    #[inline(always)]
    unsafe fn gather(inputs: *const f32, _: usize, _: usize, mask: u16) -> __m512i {
        // SAFETY: the caller has checked the extent and the feature.
        unsafe { _mm512_maskz_loadu_epi32(mask, inputs.cast()) }
    }
}

impl Gather for bf16 {
    #[inline(always)]
    unsafe fn gather(inputs: *const bf16, stride: usize, count: usize, mask: u16) -> __m512i {
        // SAFETY: as above; the second input is only touched where there is one.
        unsafe {
            let low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, inputs.cast()));
            if count < Self::GROUP {
                return low;
            }
            let high = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, inputs.add(stride).cast()));
            _mm512_or_si512(low, _mm512_slli_epi32::<16>(high))
        }
    }
}

/// [`pack::interleave`], sixteen lanes at a time.
fn interleave<E: Gather>(from: pack::Source<E>, lanes: usize, out: &mut [E]) {
    if from.rows == 0 {
        return;
    }
    let panels = from.width.div_ceil(lanes);
    assert!(from.data.len() >= span(from.rows, from.stride, from.width));
    assert!(out.len() >= from.rows.next_multiple_of(E::GROUP) * pack::pitch(lanes) * panels);
    // SAFETY: the extents were just checked; a kernel with this function is only handed out where there is AVX-512.
    unsafe { interleave_panels(from, lanes, out.as_mut_ptr()) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn interleave_panels<E: Gather>(from: pack::Source<E>, lanes: usize, out: *mut E) {
    let first = |count: usize| ((1u32 << count.min(LANES)) - 1) as u16;
    let pitch = pack::pitch(lanes);
    let panel = from.rows.next_multiple_of(E::GROUP) * pitch;
    for group in (0..from.rows).step_by(E::GROUP) {
        let count = E::GROUP.min(from.rows - group);
        for column in (0..from.width).step_by(lanes) {
            for lane in (0..lanes).step_by(LANES) {
                let left = from.width.saturating_sub(column + lane).min(lanes - lane);
                // SAFETY: `left` columns of `count` rows are inside the source, unless there is none and nothing is
                // loaded; registers are inside the output.
                unsafe {
                    let inputs = from.data.as_ptr().wrapping_add(group * from.stride + column + lane);
                    // A task packs the columns behind these next; until then they come from memory, unless it is told now.
                    _mm_prefetch::<_MM_HINT_T1>(inputs.wrapping_add(from.width).cast());
                    let values = E::gather(inputs, from.stride, count, first(left));
                    let to = out.add(column / lanes * panel + group * pitch + lane * E::GROUP);
                    _mm512_storeu_si512(to.cast(), values);
                }
            }
        }
    }
}

/// [`pack::transpose`], by blocks of sixteen rows and sixteen groups where they are whole.
fn transpose<E: Element>(from: pack::Source<E>, panel: &mut [E]) {
    let block = LANES * E::GROUP;
    let whole = if from.rows == PANEL { from.width / block * block } else { 0 };
    for k in (0..whole).step_by(block) {
        for row in (0..PANEL).step_by(LANES) {
            let from = from.part([row, k], [LANES, block]);
            let to = &mut panel[k * PANEL + row * E::GROUP..][..(LANES - 1) * PANEL * E::GROUP + block];
            // SAFETY: sixteen rows of a register each lie inside both slices, and a kernel with this function is only
            // handed out where AVX-512 was detected.
            unsafe { transpose_block(from.data.as_ptr(), from.stride, to.as_mut_ptr()) }
        }
    }
    pack::transpose(from.part([0, whole], [from.rows, from.width - whole]), &mut panel[whole * PANEL..]);
}

/// Sixteen rows of sixteen lanes: each of four rounds merges rows i and i + 8 lane by lane into rows 2i and 2i + 1.
#[target_feature(enable = "avx512f")]
unsafe fn transpose_block<E: Element>(from: *const E, stride: usize, to: *mut E) {
    // SAFETY: passed on.
    unsafe {
        let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
        let high = _mm512_add_epi32(low, _mm512_set1_epi32(LANES as i32 / 2));
        let mut rows: [__m512i; LANES] =
            std::array::from_fn(|row| _mm512_loadu_si512(from.add(row * stride).cast()));
        for _ in 0..4 {
            rows = std::array::from_fn(|row| {
                let half = if row % 2 == 0 { low } else { high };
                _mm512_permutex2var_epi32(rows[row / 2], half, rows[row / 2 + LANES / 2])
            });
        }
        for (row, values) in rows.into_iter().enumerate() {
            _mm512_storeu_si512(to.add(row * PANEL * E::GROUP).cast(), values);
        }
    }
}
