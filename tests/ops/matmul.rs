//! Products by every micro-kernel: against the oracle, against each other, and row by row.

use half::bf16;
use proptest::prelude::*;
use toedit::ops::matmul::{Kernel, Multiply, Panels, Rows, matmul, multiply};
use toedit::tensor::{Element, PANEL, panel_len};

use crate::common::{oracle, samples, tolerance};

/// One less and one more than the rows of a micro-kernel, a panel, a block of the forward pass.
const ROWS: [usize; 10] = [1, 2, 3, 4, 11, 12, 13, 25, 119, 121];
const OUTPUTS: [usize; 5] = [1, 31, 32, 33, 65];
const INPUTS: [usize; 7] = [1, 2, 15, 31, 32, 33, 129];

/// Row-major operands `[rows, k]` and `[n, k]`.
struct Operands<E> {
    a: Vec<f32>,
    w: Vec<f32>,
    k: usize,
    padded: Vec<E>,
    matrix: toedit::tensor::Matrix<E>,
}

impl<E: Element> Operands<E> {
    fn new(seed: u32, rows: usize, n: usize, k: usize) -> Self {
        let a = samples::values::<E>(seed, rows * k);
        let w = samples::values::<E>(seed ^ 1 << 31, n * k);
        Self { padded: samples::padded(&a, k), matrix: samples::matrix(&w, n, k), a, w, k }
    }

    fn rows(&self) -> Rows<'_, E> {
        let stride = self.k.next_multiple_of(E::GROUP);
        Rows { data: &self.padded, stride, rows: self.padded.len() / stride }
    }

    fn panels(&self) -> Panels<'_, E> {
        Panels::of(&self.matrix, 0, self.matrix.n().div_ceil(PANEL))
    }

    /// The product with rows padded to whole panels; NaN where nothing was written.
    fn product(&self, kernel: Kernel<E>, rows: Rows<E>) -> Vec<f32> {
        let width = self.panels().count * PANEL;
        let mut out = vec![f32::NAN; rows.rows * width];
        multiply(kernel, rows, self.panels(), &mut out, width);
        out
    }

    fn check(&self, kernel: Kernel<E>) {
        let (n, rows) = (self.matrix.n(), self.rows().rows);
        let out = self.product(kernel, self.rows());
        let width = out.len() / rows;
        let kept = out.chunks_exact(width).flat_map(|row| &row[..n]).copied();
        let what = format!("{} {rows} × {n} × {}", E::NAME, self.k);
        tolerance::assert_within(
            &what,
            kept,
            &oracle::matmul(&self.a, &self.w, self.k),
            tolerance::sum(self.k),
        );
        assert!(out.chunks_exact(width).flat_map(|row| &row[n..]).all(|x| *x == 0.0), "{what}: padding");
    }
}

fn all_shapes<E: Element>() {
    for rows in ROWS {
        for n in OUTPUTS {
            for k in INPUTS {
                let operands = Operands::<E>::new((rows * 1000 + n) as u32, rows, n, k);
                E::kernels().for_each(|kernel| operands.check(kernel));
            }
        }
    }
}

#[test]
fn every_shape_is_the_oracle() {
    all_shapes::<f32>();
    all_shapes::<bf16>();
}

#[test]
fn long_sums_stay_within_the_limit() {
    f32::kernels().for_each(|kernel| Operands::<f32>::new(1, 13, 33, 8191).check(kernel));
    bf16::kernels().for_each(|kernel| Operands::<bf16>::new(1, 13, 33, 8191).check(kernel));
}

/// A row gets the bits that it gets alone, in blocks of every size and at every place in them.
fn rows_alone<E: Element>() {
    let operands = Operands::<E>::new(2, 13, 33, 77);
    let rows = operands.rows();
    for kernel in E::kernels() {
        let alone: Vec<Vec<f32>> = (0..rows.rows)
            .map(|row| {
                let data = &rows.data[row * rows.stride..];
                operands.product(kernel, Rows { data, rows: 1, ..rows })
            })
            .collect();
        for first in 0..rows.rows {
            for count in 1..=rows.rows - first {
                let data = &rows.data[first * rows.stride..];
                let block = operands.product(kernel, Rows { data, rows: count, ..rows });
                let name = format!("{} rows {first}, {count} of them", E::NAME);
                tolerance::assert_same_bits(&name, &block, &alone[first..first + count].concat());
            }
        }
    }
}

#[test]
fn a_row_does_not_depend_on_its_place() {
    rows_alone::<f32>();
    rows_alone::<bf16>();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn micro_kernels_agree_bit_for_bit_in_f32(
        seed: u32, rows in 1..40usize, n in 1..100usize, k in 1..200usize,
    ) {
        let operands = Operands::<f32>::new(seed, rows, n, k);
        let products: Vec<_> =
            f32::kernels().map(|kernel| operands.product(kernel, operands.rows())).collect();
        for pair in products.windows(2) {
            tolerance::assert_same_bits("f32", &pair[0], &pair[1]);
        }
    }

    #[test]
    fn micro_kernels_agree_within_the_limit_in_bf16(
        seed: u32, rows in 1..40usize, n in 1..100usize, k in 1..200usize,
    ) {
        let operands = Operands::<bf16>::new(seed, rows, n, k);
        bf16::kernels().for_each(|kernel| operands.check(kernel));
    }
}

/// The panels of a matrix with their inputs in runs of `segment`, the runs of all panels interleaved, NaN between them.
fn scatter<E: Element>(data: &[E], panel_len: usize, segment: usize) -> (Vec<E>, usize) {
    let gap = 7;
    let run = segment * PANEL;
    let segment_stride = data.len() / panel_len * run + gap;
    let mut out = vec![E::from_f32(f32::NAN); panel_len / run * segment_stride];
    for (panel, data) in data.chunks_exact(panel_len).enumerate() {
        for (index, data) in data.chunks_exact(run).enumerate() {
            out[index * segment_stride + panel * run..][..run].copy_from_slice(data);
        }
    }
    (out, segment_stride)
}

fn segmented<E: Element>(rows: usize, n: usize, segments: usize, segment: usize) {
    let k = segments * segment;
    let operands = Operands::<E>::new(k as u32, rows, n, k);
    let whole = operands.panels();
    let (data, segment_stride) = scatter(whole.data, panel_len::<E>(k), segment);
    let panels = Panels { data: &data, stride: segment * PANEL, segments, segment, segment_stride, ..whole };
    for kernel in E::kernels() {
        let mut out = vec![f32::NAN; rows * whole.count * PANEL];
        multiply(kernel, operands.rows(), panels, &mut out, whole.count * PANEL);
        let name = format!("{} segments {segments} × {segment}", E::NAME);
        tolerance::assert_same_bits(&name, &out, &operands.product(kernel, operands.rows()));
    }
}

#[test]
fn inputs_in_segments_give_the_same_bits() {
    for (rows, n) in [(1, 1), (11, 33), (13, 96)] {
        for (segments, segment) in [(1, 2), (2, 2), (3, 32), (5, 30), (64, 32)] {
            segmented::<f32>(rows, n, segments, segment);
            segmented::<bf16>(rows, n, segments, segment);
        }
    }
}

#[test]
fn rows_of_the_output_may_lie_apart() {
    let operands = Operands::<f32>::new(3, 13, 40, 9);
    let stride = 2 * PANEL + 5;
    let mut out = vec![f32::NAN; 13 * stride];
    matmul(operands.rows(), operands.panels(), &mut out, stride);
    for (row, expected) in
        out.chunks_exact(stride).zip(operands.product(f32::kernel(), operands.rows()).chunks_exact(2 * PANEL))
    {
        tolerance::assert_same_bits("strided", &row[..2 * PANEL], expected);
        assert!(row[2 * PANEL..].iter().all(|x| x.is_nan()), "written between rows");
    }
}

#[test]
fn no_rows_and_no_panels_write_nothing() {
    let operands = Operands::<f32>::new(4, 1, 1, 1);
    let mut out = [f32::NAN; PANEL];
    matmul(Rows { rows: 0, ..operands.rows() }, operands.panels(), &mut out, PANEL);
    matmul(operands.rows(), Panels { count: 0, ..operands.panels() }, &mut out, PANEL);
    assert!(out.iter().all(|x| x.is_nan()));
}

#[test]
#[should_panic(expected = "left operand too short")]
fn a_short_left_operand_panics() {
    let operands = Operands::<f32>::new(4, 3, 5, 7);
    matmul(Rows { rows: 4, ..operands.rows() }, operands.panels(), &mut [0.0; 4 * PANEL], PANEL);
}

#[test]
#[should_panic(expected = "right operand too short")]
fn a_short_right_operand_panics() {
    let operands = Operands::<f32>::new(4, 3, 5, 7);
    matmul(operands.rows(), Panels { count: 2, ..operands.panels() }, &mut [0.0; 6 * PANEL], 2 * PANEL);
}

#[test]
#[should_panic(expected = "output too short")]
fn a_short_output_panics() {
    let operands = Operands::<f32>::new(4, 3, 5, 7);
    matmul(operands.rows(), operands.panels(), &mut [0.0; 3 * PANEL - 1], PANEL);
}

/// Distances whose product with the count wraps around to a small number must not pass the checks.
#[test]
#[should_panic(expected = "right operand too short")]
fn distances_that_overflow_panic() {
    let operands = Operands::<f32>::new(4, 3, 5, 8);
    let panels = Panels { segments: 3, segment: 2, segment_stride: usize::MAX / 2 + 1, ..operands.panels() };
    matmul(operands.rows(), panels, &mut [0.0; 3 * PANEL], PANEL);
}
