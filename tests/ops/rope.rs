//! Rotations of heads.

use half::bf16;
use proptest::prelude::*;
use toedit::device::Queue;
use toedit::model::config::{Rope, RopeScaling};
use toedit::ops::rope::Rotary;

use crate::common::arms::{self, Arm, Scalar};
use crate::common::oracle_rows::{assert_differentiates, numeric};
use crate::common::{oracle, samples, tolerance};

/// Positions of the tables.
const LENGTH: usize = 2048;

fn rope(rotary_dim: usize) -> Rope {
    Rope { rotary_dim, theta: 10_000.0, scaling: RopeScaling::None }
}

/// Rotates the first `width` values of rows of whole heads, each row at its position.
fn rotate<E: Scalar>(
    arm: &Arm,
    tables: &Rotary,
    rows: &[f32],
    (width, columns): (usize, usize),
    head_dim: usize,
    positions: &[u32],
) -> Vec<f32> {
    match arm {
        Arm::Cpu => {
            let mut out = rows.to_vec();
            for (row, position) in out.chunks_exact_mut(columns).zip(positions) {
                tables.apply(&mut row[..width], head_dim, *position as usize);
            }
            out.into_iter().map(|x| E::from_f32(x).to_f32()).collect()
        }
        Arm::Device(queue) => {
            let (tables, positions) = (tables.upload(queue).unwrap(), queue.upload(positions).unwrap());
            let matrix = arms::upload::<E>(queue, columns, rows);
            let heads = matrix.view().columns(0..width);
            tables.apply_on(queue, heads, head_dim, positions.view()).unwrap();
            arms::read(queue, &matrix)
        }
    }
}

/// Rotates `heads` heads ahead of one that must stay, at some positions, and compares them with the oracle.
fn check<E: Scalar>(
    arm: &Arm,
    rope: &Rope,
    tables: &Rotary,
    (heads, head_dim): (usize, usize),
    positions: &[u32],
) {
    let (width, columns) = (heads * head_dim, (heads + 1) * head_dim);
    let x = samples::values::<E>((head_dim * 31 + heads) as u32, positions.len() * columns);
    let frequencies = rope.inverse_frequencies();
    let rotated = rotate::<E>(arm, tables, &x, (width, columns), head_dim, positions);
    let what = format!("{arm} {} {} of {head_dim}", E::NAME, rope.rotary_dim);
    for ((x, ours), position) in x.chunks_exact(columns).zip(rotated.chunks_exact(columns)).zip(positions) {
        let what = format!("{what} at {position}");
        let heads = x[..width].chunks_exact(head_dim);
        let expected: Vec<_> =
            heads.flat_map(|head| oracle::rotate(head, &frequencies, *position as usize)).collect();
        tolerance::assert_within(&what, ours[..width].to_vec(), &expected, tolerance::stored::<E>(2, 1));
        tolerance::assert_same_bits(&format!("{what}, values"), &ours[width..], &x[width..]);
    }
}

#[test]
fn every_head_size_is_the_oracle() {
    for head_dim in [2, 12, 16, 24, 64, 80, 256] {
        for rotary_dim in [2, head_dim / 4 * 2, head_dim].into_iter().filter(|dim| *dim > 0) {
            let tables = Rotary::new(&rope(rotary_dim), LENGTH);
            for arm in arms::with_host() {
                check::<f32>(&arm, &rope(rotary_dim), &tables, (3, head_dim), &[0, 1, 2, 31, 2047]);
                check::<bf16>(&arm, &rope(rotary_dim), &tables, (3, head_dim), &[2047, 0, 31, 31]);
            }
        }
    }
}

#[test]
fn a_token_may_have_more_heads_than_a_block_has_threads() {
    let tables = Rotary::new(&rope(64), LENGTH);
    for arm in arms::with_host() {
        check::<f32>(&arm, &rope(64), &tables, (40, 64), &[7, 2000]);
        check::<bf16>(&arm, &rope(64), &tables, (72, 64), &[7, 2000]);
    }
}

#[test]
fn scaled_frequencies_are_rotated_by_too() {
    let llama3 = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 64,
    };
    for scaling in [RopeScaling::Linear { factor: 4.0 }, llama3] {
        let rope = Rope { scaling, ..rope(64) };
        for arm in arms::with_host() {
            check::<f32>(&arm, &rope, &Rotary::new(&rope, 512), (2, 64), &[511]);
        }
    }
}

#[test]
fn position_zero_changes_nothing() {
    let x = samples::values::<bf16>(1, 128);
    for arm in arms::with_host() {
        let rotated = rotate::<bf16>(&arm, &Rotary::new(&rope(64), 1), &x, (128, 128), 64, &[0]);
        assert_eq!(rotated, x, "{arm}");
    }
}

#[test]
#[should_panic]
fn a_position_past_the_table_panics() {
    Rotary::new(&rope(4), 8).apply(&mut [0.0; 4], 4, 8);
}

/// A device cannot say so before it is too late; the pairs show it.
#[test]
fn a_position_past_the_table_is_not_a_number_on_a_device() {
    for queue in arms::queues() {
        let rotated =
            rotate::<f32>(&Arm::Device(queue), &Rotary::new(&rope(4), 8), &[0.5; 12], (6, 6), 6, &[8, 7]);
        let nan: Vec<bool> = rotated.iter().map(|x| x.is_nan()).collect();
        assert_eq!(nan, [true, true, true, true, false, false, false, false, false, false, false, false]);
    }
}

/// The rotation of `x` taken back is that by the opposite angles, which the gradient is.
fn check_backward<E: Scalar>(
    queue: &Queue,
    rope: &Rope,
    (heads, head_dim): (usize, usize),
    positions: &[u32],
) {
    let (width, columns) = (heads * head_dim, (heads + 1) * head_dim);
    let dy = samples::values::<E>(head_dim as u32, positions.len() * columns);
    let tables = Rotary::new(rope, LENGTH).upload(queue).unwrap();
    let matrix = arms::upload::<E>(queue, columns, &dy);
    let positions_on = queue.upload(positions).unwrap();
    let dheads = matrix.view().columns(0..width);
    tables.backward_on(queue, dheads, head_dim, positions_on.view()).unwrap();
    let back: Vec<_> = rope.inverse_frequencies().into_iter().map(|f| -f).collect();
    let ours = arms::read(queue, &matrix);
    for ((dy, ours), position) in dy.chunks_exact(columns).zip(ours.chunks_exact(columns)).zip(positions) {
        let rotate = |head| oracle::rotate(head, &back, *position as usize);
        let expected: Vec<_> = dy[..width].chunks_exact(head_dim).flat_map(rotate).collect();
        let what = format!("{queue:?} {} of {head_dim} at {position}", E::NAME);
        tolerance::assert_within(&what, ours[..width].to_vec(), &expected, tolerance::stored::<E>(2, 1));
        tolerance::assert_same_bits(&what, &ours[width..], &dy[width..]);
    }
}

#[test]
fn backward_rotates_back() {
    for queue in arms::queues() {
        for (rotary_dim, head_dim) in [(2, 2), (6, 12), (12, 12), (64, 64), (32, 80), (256, 256)] {
            check_backward::<f32>(&queue, &rope(rotary_dim), (3, head_dim), &[0, 1, 2047, 31]);
            check_backward::<bf16>(&queue, &rope(rotary_dim), (2, head_dim), &[2047, 0, 31]);
        }
    }
}

#[test]
fn the_opposite_angle_is_the_derivative() {
    let frequencies = rope(8).inverse_frequencies();
    let back: Vec<_> = frequencies.iter().map(|f| -f).collect();
    let (x, dy) = (samples::values::<bf16>(1, 12), samples::values::<bf16>(2, 12));
    let loss = |x: &[f32]| -> f64 {
        let rotated = oracle::rotate(x, &frequencies, 7);
        rotated.iter().zip(&dy).map(|(y, dy)| y.value * f64::from(*dy)).sum()
    };
    assert_differentiates("rotation", &oracle::rotate(&dy, &back, 7), &numeric(&x, loss));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn random_heads_are_the_oracle(
        half in 1..60usize, rest in 0..40usize, heads in 1..5usize, positions in prop::collection::vec(0..100u32, 1..4),
    ) {
        let rope = rope(2 * half);
        let tables = Rotary::new(&rope, 100);
        for arm in arms::with_host() {
            check::<f32>(&arm, &rope, &tables, (heads, 2 * half + rest), &positions);
            check::<bf16>(&arm, &rope, &tables, (heads, 2 * half + rest), &positions);
        }
    }
}
