//! Training: schedules, records of a run.

pub mod metrics;
#[cfg(feature = "cli")]
pub mod plot;
pub mod schedule;
pub mod tensorboard;
