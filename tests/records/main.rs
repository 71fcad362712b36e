//! What a training run leaves behind: its records, and the models that it saves.

#[path = "../common/mod.rs"]
mod common;
mod initial;
mod metrics;
mod saving;
mod schedule;
mod tensorboard;
mod transformers;
