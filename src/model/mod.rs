//! Models: configuration, checkpoint and weights.

mod block;
pub mod checkpoint;
pub mod config;
pub mod folder;
pub mod forward;
mod map;
pub mod names;
pub mod weights;

pub use checkpoint::Checkpoint;
pub use config::Config;
pub use weights::Weights;
