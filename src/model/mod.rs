//! Models: configuration, checkpoint and weights.

pub mod config;
pub mod folder;

pub use config::Config;
