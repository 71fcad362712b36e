//! The operations of a transformer, each under one name: its formula, its shape checks, its loops.
//!
//! An op's CPU arm works on a block of rows in the calling thread; [`crate::model`] spreads blocks over threads. Rows
//! never depend on their neighbours in the batch except through attention within one document, so neither batch size nor
//! packing nor thread count changes a bit of a result.

pub mod activation;
pub mod attention;
pub mod cross_entropy;
#[cfg(kernels)]
pub mod decode;
pub mod draw;
#[cfg(kernels)]
pub mod edit;
pub mod elementwise;
pub mod embedding;
pub mod head;
mod math;
pub mod matmul;
pub mod norm;
pub mod optimizer;
pub mod rope;
pub mod sample;
pub(crate) mod simd;
