//! The micro-kernel for AVX-512: twelve rows times one panel, 24 accumulators in the 32 registers.
//!
//! With two multiply-adds a cycle, 24 chains hide a latency of up to twelve cycles, and each step loads two vectors of
//! weights and broadcasts twelve inputs for 24 multiply-adds.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use half::bf16;

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
fn kernel<E: Lane>(run: fn(Left<E>, Panels<E>, Start, &mut [f32], usize)) -> Kernel<E> {
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
    unsafe { by_rows(a, b, start, out, out_stride) }
}

#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn bf16_rows(a: Left<bf16>, b: Panels<bf16>, start: Start, out: *mut f32, out_stride: usize) {
    // SAFETY: passed on.
    unsafe { by_rows(a, b, start, out, out_stride) }
}

/// The instructions in which the types differ. One group of inputs fills a 32-bit lane.
trait Lane: Element {
    type Vector: Copy;
    unsafe fn broadcast(group: *const Self) -> Self::Vector;
    unsafe fn load(weights: *const Self) -> Self::Vector;
    unsafe fn multiply_add(sum: __m512, a: Self::Vector, b: Self::Vector) -> __m512;
    /// Groups of sixteen columns from `count` inputs, which lie in rows; zero outside `mask`.
    unsafe fn gather(inputs: *const Self, stride: usize, count: usize, mask: u16) -> __m512i;
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

    #[inline(always)]
    unsafe fn gather(inputs: *const f32, _: usize, _: usize, mask: u16) -> __m512i {
        // SAFETY: as above.
        unsafe { _mm512_maskz_loadu_epi32(mask, inputs.cast()) }
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

#[inline(always)]
unsafe fn by_rows<E: Lane>(a: Left<E>, b: Panels<E>, start: Start, out: *mut f32, stride: usize) {
    // SAFETY: `check_tile` has seen `a.rows` rows, and the caller has the feature.
    unsafe {
        match a.rows {
            1 => tile::<E, 1>(a, b, start, out, stride),
            2 => tile::<E, 2>(a, b, start, out, stride),
            3 => tile::<E, 3>(a, b, start, out, stride),
            4 => tile::<E, 4>(a, b, start, out, stride),
            5 => tile::<E, 5>(a, b, start, out, stride),
            6 => tile::<E, 6>(a, b, start, out, stride),
            7 => tile::<E, 7>(a, b, start, out, stride),
            8 => tile::<E, 8>(a, b, start, out, stride),
            9 => tile::<E, 9>(a, b, start, out, stride),
            10 => tile::<E, 10>(a, b, start, out, stride),
            11 => tile::<E, 11>(a, b, start, out, stride),
            _ => tile::<E, ROWS>(a, b, start, out, stride),
        }
    }
}

#[inline(always)]
unsafe fn tile<E: Lane, const MR: usize>(
    a: Left<E>,
    b: Panels<E>,
    start: Start,
    out: *mut f32,
    out_stride: usize,
) {
    // SAFETY: `check_tile` has verified that MR rows of k inputs, the panel and MR output rows lie inside their slices.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); 2]; MR];
        if start == Start::Outputs {
            for (row, sums) in sums.iter_mut().enumerate() {
                let out = out.add(row * out_stride);
                *sums = [_mm512_loadu_ps(out), _mm512_loadu_ps(out.add(LANES))];
            }
        }
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
                inputs = inputs.add(a.step);
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            let out = out.add(row * out_stride);
            _mm512_storeu_ps(out, sums[0]);
            _mm512_storeu_ps(out.add(LANES), sums[1]);
        }
    }
}

/// [`pack::interleave`], sixteen lanes at a time.
fn interleave<E: Lane>(from: pack::Source<E>, lanes: usize, out: &mut [E]) {
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
unsafe fn interleave_panels<E: Lane>(from: pack::Source<E>, lanes: usize, out: *mut E) {
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
fn transpose<E: Lane>(from: pack::Source<E>, panel: &mut [E]) {
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
unsafe fn transpose_block<E: Lane>(from: *const E, stride: usize, to: *mut E) {
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
