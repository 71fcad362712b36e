//! What is done to each value alone, and sums of columns, on devices.

use half::bf16;
use proptest::prelude::*;
use toedit::device::{Queue, Rows};
use toedit::ops::elementwise::{
    clamp_backward_on, clamp_on, column_sums_on, column_sums_scratch, convert_on,
};

use crate::common::arms::{self, Scalar};
use crate::common::{oracle_rows, samples, tolerance};

/// Around the widths of vectors and of blocks of threads.
const WIDTHS: [usize; 10] = [1, 3, 4, 7, 8, 9, 66, 1023, 1025, 2049];

/// Random values among which there are those that rounding and clamping could lose.
fn values(seed: u32, len: usize) -> Vec<f32> {
    let special = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 1.0 + 1.0 / 256.0, f32::MAX];
    let mut values: Vec<f32> = samples::values::<f32>(seed, len).iter().map(|x| 4.0 * x).collect();
    values.iter_mut().step_by(5).zip(special).for_each(|(x, special)| *x = special);
    values
}

fn assert_same(what: &str, ours: &[f32], expected: &[f32]) {
    let nan = |values: &[f32]| -> Vec<bool> { values.iter().map(|x| x.is_nan()).collect() };
    let rest = |values: &[f32]| -> Vec<f32> { values.iter().copied().filter(|x| !x.is_nan()).collect() };
    assert_eq!(nan(ours), nan(expected), "{what}");
    tolerance::assert_same_bits(what, &rest(ours), &rest(expected));
}

fn check_conversion<E: Scalar>(width: usize) {
    let x = values(width as u32, 3 * width);
    let expected: Vec<f32> = x.iter().map(|x| E::from_f32(*x).to_f32()).collect();
    for queue in arms::queues() {
        let (input, out) = (arms::upload(&queue, width, &x), arms::output::<E>(&queue, 3, width));
        convert_on(&queue, input.view(), out.view()).unwrap();
        assert_same(&format!("{queue:?} {} {width}", E::NAME), &arms::read(&queue, &out), &expected);
    }
}

/// Clamps the columns from `first` on.
fn check_clamp<E: Scalar>(width: usize, first: usize) {
    let limit = 1.5f32;
    let x: Vec<f32> = values(!(width as u32), 3 * width).iter().map(|x| E::from_f32(*x).to_f32()).collect();
    let clamped = |(index, x): (usize, &f32)| {
        if index % width < first { *x } else { x.clamp(-limit, limit) }
    };
    let expected: Vec<f32> = x.iter().enumerate().map(clamped).collect();
    for queue in arms::queues() {
        let matrix = arms::upload::<E>(&queue, width, &x);
        clamp_on(&queue, matrix.view().columns(first..width), limit).unwrap();
        let what = format!("{queue:?} {} {first}..{width}", E::NAME);
        assert_same(&what, &arms::read(&queue, &matrix), &expected);
    }
}

/// Takes the columns from `first` on back; what was not clamped keeps its gradient, and so do the other columns.
fn check_clamp_backward<E: Scalar>(width: usize, first: usize) {
    let limit = 1.5f32;
    let x: Vec<f32> = values(width as u32, 3 * width).iter().map(|x| E::from_f32(*x).to_f32()).collect();
    let dy = samples::values::<E>(7, 3 * width);
    let kept = |(index, dy): (usize, &f32)| {
        if index % width >= first && x[index].abs() > limit { 0.0 } else { *dy }
    };
    let expected: Vec<f32> = dy.iter().enumerate().map(kept).collect();
    for queue in arms::queues() {
        let (x, dx) = (arms::upload::<E>(&queue, width, &x), arms::upload::<E>(&queue, width, &dy));
        let [from, to] = [&x, &dx].map(|matrix| matrix.view().columns(first..width));
        clamp_backward_on(&queue, from, to, limit).unwrap();
        let what = format!("{queue:?} {} {first}..{width} backward", E::NAME);
        tolerance::assert_same_bits(&what, &arms::read(&queue, &dx), &expected);
    }
}

/// Sums the columns from `first` on, on top of what is there.
fn check_sums<E: Scalar>(queue: &Queue, rows: usize, width: usize, first: usize) -> Vec<f32> {
    let (dy, start) = (samples::values::<E>(1, rows * width), samples::values::<f32>(2, width));
    let (matrix, dbias) = (arms::upload::<E>(queue, width, &dy), queue.upload(&start).unwrap());
    let scratch = queue.alloc(column_sums_scratch(rows, width)).unwrap();
    queue.fill(scratch.view(), 0xFF).unwrap();
    let out = dbias.view().slice(first..width);
    column_sums_on(queue, matrix.view().columns(first..width), scratch.view(), out).unwrap();
    let found = queue.download(dbias.view()).unwrap();
    let expected = oracle_rows::sum_rows(&start, &dy, 0..rows);
    let what = format!("{queue:?} {} {rows} × {first}..{width}", E::NAME);
    tolerance::assert_same_bits(&what, &found[..first], &start[..first]);
    tolerance::assert_within(&what, found[first..].to_vec(), &expected[first..], tolerance::sum(rows));
    found
}

/// Around a batch of rows, a chunk, and as many rows as there are chunks of the fewest.
#[test]
fn sums_of_columns_are_the_oracle() {
    for queue in arms::queues() {
        for (rows, width) in
            [(0, 9), (1, 1), (31, 127), (32, 128), (33, 129), (100, 257), (70, 1030), (4200, 5)]
        {
            for first in [0, 1, 8] {
                check_sums::<f32>(&queue, rows, width.max(first + 1), first);
                check_sums::<bf16>(&queue, rows, width.max(first + 1), first);
            }
        }
    }
}

#[test]
fn threads_do_not_change_a_bit_of_sums() {
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| check_sums::<bf16>(&Queue::open(toedit::Device::Cpu).unwrap(), 5000, 33, 0))
    };
    tolerance::assert_same_bits("threads", &run(1), &run(5));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn sums_of_random_shapes_are_the_oracle(rows in 0..150usize, width in 1..300usize) {
        for queue in arms::queues() {
            check_sums::<f32>(&queue, rows, width, 0);
            check_sums::<bf16>(&queue, rows, width, 0);
        }
    }
}

#[test]
fn conversions_round_to_nearest() {
    for width in WIDTHS {
        check_conversion::<f32>(width);
        check_conversion::<bf16>(width);
    }
}

#[test]
fn clamped_values_keep_what_is_not_a_number() {
    for width in WIDTHS {
        for first in [0, 1, 8] {
            check_clamp::<f32>(width.max(first), first);
            check_clamp::<bf16>(width.max(first), first);
            check_clamp_backward::<f32>(width.max(first), first);
            check_clamp_backward::<bf16>(width.max(first), first);
        }
    }
}

/// Work of one queue must not reach another's memory: nothing would keep it alive, or in order.
#[test]
#[should_panic(expected = "memory of another queue")]
fn memory_of_another_queue_is_refused() {
    let [ours, theirs] = [(); 2].map(|()| arms::queues().remove(0));
    let (x, out) = (arms::output::<f32>(&ours, 2, 9), arms::output::<bf16>(&theirs, 2, 9));
    let _ = convert_on(&ours, x.view(), out.view());
}

#[test]
#[should_panic(expected = "memory of another queue")]
fn copies_from_another_queue_are_refused() {
    let [ours, theirs] = [(); 2].map(|()| arms::queues().remove(0));
    let buffer = theirs.upload(&[1.0f32]).unwrap();
    let _ = ours.download(buffer.view());
}

#[test]
#[should_panic(expected = "3 rows in 32 values")]
fn rows_that_are_not_there_are_refused() {
    let queue = arms::queues().remove(0);
    let matrix = arms::output::<f32>(&queue, 2, 9);
    let _ = clamp_on(&queue, Rows { rows: 3, ..matrix.view() }, 1.0);
}
