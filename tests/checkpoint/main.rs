//! How a model's folder becomes data: configuration, checkpoint, weights, and everything that can be wrong with them.

mod common;
mod configs;
mod folders;
mod golden;
mod headers;
mod indexes;
mod rejected_configs;
mod rope;
mod tensors;
mod weights;
