//! Training on any device: from scratch, continual, by adapters, or on responses alone.
//!
//! [`Trainer`] takes steps; [`Run`] adds evaluations, checkpoints and metrics. Below them, [`Learner`] is one optimizer step,
//! [`Transformer`] the loss of a batch and its gradients, for those with a loop of their own.

mod batch;
mod block;
pub mod checkpoint;
mod config;
pub mod data;
mod learner;
mod lora;
pub mod metrics;
mod origin;
mod output;
mod parameters;
#[cfg(feature = "cli")]
pub mod plot;
mod run;
pub mod schedule;
pub mod tensorboard;
mod trainer;
mod transformer;

pub use batch::Batch;
pub use config::TrainConfig;
pub use learner::{Learn, Learner, LearnerConfig, Step, StepConfig};
pub use lora::LoraConfig;
pub use origin::Origin;
pub use output::{Begin, Output};
pub use run::{Event, Run, RunConfig};
pub use trainer::Trainer;
pub use transformer::{Extent, Transformer};
