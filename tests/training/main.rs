//! Training: rows, steps, runs.

mod data;
mod tokenize;
