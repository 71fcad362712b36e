//! Rotations of heads.

use proptest::prelude::*;
use toedit::model::config::{Rope, RopeScaling};
use toedit::ops::rope::Rotary;

use crate::common::{oracle, samples, tolerance};

fn rope(rotary_dim: usize) -> Rope {
    Rope { rotary_dim, theta: 10_000.0, scaling: RopeScaling::None }
}

/// Rotates `heads` heads at one position and compares them with the oracle.
fn check(rope: &Rope, head_dim: usize, heads: usize, positions: usize, position: usize) {
    let mut x = samples::values::<f32>((head_dim * 31 + position) as u32, heads * head_dim);
    let frequencies = rope.inverse_frequencies();
    let expected: Vec<_> =
        x.chunks_exact(head_dim).flat_map(|head| oracle::rotate(head, &frequencies, position)).collect();
    Rotary::new(rope, positions).apply(&mut x, head_dim, position);
    let what = format!("{} of {head_dim} at {position}", rope.rotary_dim);
    tolerance::assert_within(&what, x, &expected, tolerance::sum(2));
}

#[test]
fn every_head_size_is_the_oracle() {
    for head_dim in [2, 12, 24, 64, 80, 256] {
        for rotary_dim in [2, head_dim / 4 * 2, head_dim].into_iter().filter(|dim| *dim > 0) {
            for position in [0, 1, 2, 31, 2047] {
                check(&rope(rotary_dim), head_dim, 3, 2048, position);
            }
        }
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
        check(&Rope { scaling, ..rope(64) }, 64, 2, 512, 511);
    }
}

#[test]
fn position_zero_changes_nothing() {
    let x = samples::values::<f32>(1, 128);
    let mut rotated = x.clone();
    Rotary::new(&rope(64), 1).apply(&mut rotated, 64, 0);
    assert_eq!(rotated, x);
}

#[test]
#[should_panic]
fn a_position_past_the_table_panics() {
    Rotary::new(&rope(4), 8).apply(&mut [0.0; 4], 4, 8);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn random_heads_are_the_oracle(
        half in 1..60usize, rest in 0..40usize, heads in 1..5usize, position in 0..100usize,
    ) {
        check(&rope(2 * half), 2 * half + rest, heads, 100, position);
    }
}
