//! Scoring: the probability of each token given those before it.

pub mod statistics;
pub mod windows;

pub use statistics::Statistics;
pub use windows::{Window, WindowConfig};
