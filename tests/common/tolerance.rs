//! How far a result may lie from its oracle: the one place where limits are set, all of them from the types.

use super::oracle::Expected;
use toedit::tensor::Element;

/// 2⁻²⁴, half a unit in the last place of an f32 near 1.
const F32: f64 = 1.0 / 16_777_216.0;
/// 2⁻⁸, one rounding to bf16.
const BF16: f64 = 1.0 / 256.0;

/// The relative limit of an f32 sum of `terms` terms.
pub fn sum(terms: usize) -> f64 {
    8.0 * F32 * (terms.max(1) as f64).sqrt()
}

/// The same where values are stored as `E` `roundings` times on the way; in f32 that is in the sum's limit already.
pub fn stored<E: Element>(terms: usize, roundings: u32) -> f64 {
    let rounding = if E::NAME == "bf16" { BF16 } else { 0.0 };
    sum(terms) + f64::from(roundings) * rounding
}

/// Fails unless `|ours − value| <= limit · scale` for each output, so NaN fails too.
pub fn assert_within(what: &str, ours: impl IntoIterator<Item = f32>, expected: &[Expected], limit: f64) {
    let ours: Vec<f32> = ours.into_iter().collect();
    assert_eq!(ours.len(), expected.len(), "{what}: lengths");
    for (index, (ours, expected)) in ours.iter().zip(expected).enumerate() {
        let error = (f64::from(*ours) - expected.value).abs();
        let close = error <= limit * expected.scale;
        assert!(close, "{what}[{index}]: {ours} against {expected:?}, off by {error:e}, limit {limit:e}");
    }
}

/// Fails where one bit differs.
pub fn assert_same_bits(what: &str, ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len(), "{what}: lengths");
    for (index, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!(a.to_bits() == b.to_bits(), "{what}[{index}]: {a} against {b}");
    }
}
