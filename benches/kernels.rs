//! The CPU ops at the sizes of a small language model (135 million parameters), and those of a GPU, on random data. Every
//! result is compared with the oracle of the tests before it is timed.
//!
//! `cargo bench --bench kernels`, or `cargo bench --bench kernels -- matmul`. A single op runs in one thread; the head
//! takes all of them.

#[path = "../tests/common/mod.rs"]
mod common;

#[path = "kernels/attention.rs"]
mod attention;
#[cfg(feature = "cuda")]
#[path = "kernels/backward.rs"]
mod backward;
#[cfg(feature = "cuda")]
#[path = "kernels/bandwidth.rs"]
mod bandwidth;
#[path = "kernels/cross_entropy.rs"]
mod cross_entropy;
#[cfg(feature = "cuda")]
#[path = "kernels/decode.rs"]
mod decode;
#[path = "kernels/edit.rs"]
mod edit;
#[cfg(feature = "cuda")]
#[path = "kernels/gpu.rs"]
mod gpu;
#[path = "kernels/head.rs"]
mod head;
#[path = "kernels/matmul.rs"]
mod matmul;
#[path = "kernels/norm.rs"]
mod norm;
#[path = "kernels/sample.rs"]
mod sample;

use criterion::{criterion_group, criterion_main};

#[cfg(not(feature = "cuda"))]
mod bandwidth {
    /// There is no GPU.
    pub fn bench(_: &mut criterion::Criterion) {}
}
#[cfg(not(feature = "cuda"))]
use {bandwidth as backward, bandwidth as decode};

criterion_group!(
    kernels,
    matmul::bench,
    attention::bench,
    head::bench,
    cross_entropy::bench,
    decode::bench,
    sample::bench,
    edit::bench,
    norm::bench,
    bandwidth::bench,
    backward::bench
);
criterion_main!(kernels);
