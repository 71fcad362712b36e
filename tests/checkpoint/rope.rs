//! Rotary frequencies against values worked out by hand.

use toedit::model::config::{Rope, RopeScaling};

#[track_caller]
fn assert_frequencies(rotary_dim: usize, theta: f64, scaling: RopeScaling, expected: &[f32]) {
    let found = Rope { rotary_dim, theta, scaling }.inverse_frequencies();
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= 1e-6 * expected, "{found} is not {expected}");
    }
}

#[test]
fn plain_frequencies_are_powers_of_theta() {
    assert_frequencies(2, 10_000.0, RopeScaling::None, &[1.0]);
    assert_frequencies(4, 10_000.0, RopeScaling::None, &[1.0, 0.01]);
    assert_frequencies(8, 10_000.0, RopeScaling::None, &[1.0, 0.1, 0.01, 0.001]);
    assert_frequencies(4, 500_000.0, RopeScaling::None, &[1.0, 0.001_414_213_6]);
}

#[test]
fn linear_scaling_divides_all_frequencies() {
    assert_frequencies(8, 10_000.0, RopeScaling::Linear { factor: 4.0 }, &[0.25, 0.025, 0.0025, 0.00025]);
}

/// Wavelengths 2π, 4π, 16π at an original length of 32: the first is below 32/4 and kept, the last above 32/1 and
/// divided by 8, the middle one lies (32/4π − 1)/3 = 0.515493 of the way between.
#[test]
fn llama3_scaling_keeps_blends_and_divides() {
    let scaling = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 32,
    };
    assert_frequencies(4, 4.0, scaling, &[1.0, 0.288_028_4]);
    assert_frequencies(4, 64.0, scaling, &[1.0, 0.015_625]);
}

/// The published setting of Llama 3.2: head size 64, θ = 500,000, factor 32. Frequencies of the ends and of both sides of
/// each limit (wavelengths 2,048 and 8,192), computed apart in double precision.
#[test]
fn llama3_scaling_at_its_published_setting() {
    let scaling = RopeScaling::Llama3 {
        factor: 32.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192,
    };
    let found = Rope { rotary_dim: 64, theta: 500_000.0, scaling }.inverse_frequencies();
    for (i, found) in found.iter().enumerate() {
        let plain = 500_000_f64.powf(-(i as f64) / 32.0);
        let turns = 8192.0 * plain / std::f64::consts::TAU;
        let kept = ((turns - 1.0) / 3.0).clamp(0.0, 1.0);
        let expected = plain * (kept + (1.0 - kept) / 32.0);
        assert!((f64::from(*found) - expected).abs() <= 1e-5 * expected, "{i}: {found} is not {expected}");
    }
    assert_eq!(found[0], 1.0);
}
