//! Training: rows, steps, runs.

#[path = "../common/mod.rs"]
mod common;

mod config;
mod data;
mod golden;
mod runs;
mod steps;
mod tokenize;
