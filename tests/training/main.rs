//! Training: rows, steps, runs.

mod data;
