//! The ops on every arm against naive f64 loops over the same rounded operands.

#[path = "../common/mod.rs"]
mod common;

mod activation;
mod attention;
#[cfg(kernels)]
mod edit;
#[cfg(kernels)]
mod elementwise;
mod embedding;
mod head;
mod head_extremes;
mod matmul;
mod norm;
mod packs;
mod rope;
mod storage;
