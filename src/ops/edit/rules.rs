//! Rules as the kernel reads them.

use crate::edit::{Action, Condition, Rule};

/// A rule's tests and action, and the factors of the tests: it holds where its first test passes and its second does not.
pub(super) fn encode(rule: &Rule) -> (u32, [f64; 2]) {
    let (never, always) = ((0, 0.0), (1, 0.0));
    let [(first, factor), (second, factor_not)] = match rule.condition() {
        Condition::AtLeast(t) => [at_least(t), never],
        Condition::Above(t) => [above(t), never],
        Condition::AtMost(t) => [always, above(t)],
        Condition::Below(t) => [always, at_least(t)],
        Condition::Band { low, high } => [at_least(low), at_least(high)],
    };
    let action = match rule.action() {
        Action::Keep => 0,
        Action::Drop => 1,
        Action::Resample => 2,
    };
    (first | second << 8 | action << 16, [factor, factor_not])
}

/// The test p >= t and its factor, as [`crate::score::Statistics::at_least`] decides it.
fn at_least(t: f64) -> (u32, f64) {
    match t {
        _ if t <= 0.0 => (1, 0.0),
        1.0 => (2, 0.0),
        _ if t < 1.0 => (3, (1.0 - t) / t),
        _ => (0, 0.0),
    }
}

/// The test p > t and its factor, as [`crate::score::Statistics::above`] decides it.
fn above(t: f64) -> (u32, f64) {
    match t {
        _ if t <= 0.0 => (1, 0.0),
        _ if t < 1.0 => (4, (1.0 - t) / t),
        _ => (0, 0.0),
    }
}
