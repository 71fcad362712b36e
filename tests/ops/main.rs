//! The ops on every arm against naive f64 loops over the same rounded operands.

#[path = "../common/mod.rs"]
mod common;

mod activation;
mod attention;
mod attention_backward;
mod cross_entropy;
mod decode;
#[cfg(kernels)]
mod edit;
mod elementwise;
mod embedding;
mod head;
#[cfg(kernels)]
mod head_device;
mod head_extremes;
mod head_largest;
mod matmul;
mod matmul_device;
mod norm;
mod norm_backward;
mod optimizer;
mod packs;
mod rope;
mod sample;
#[cfg(kernels)]
mod sample_device;
mod storage;
