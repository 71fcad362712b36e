//! What the benches of a GPU share: the devices, their clock, and the shapes, which `benches/peers/gpu_compare.py` reads
//! from the same file to find our times by their names.

use std::fs;
use std::sync::LazyLock;
use std::time::Instant;

use criterion::Bencher;
use serde::Deserialize;
use toedit::Result;
use toedit::device::{Device, Queue};

use crate::common::{arms, root};

/// What is measured: the sizes of GPT-2, Qwen2.5-0.5B, Llama-3.2-1B and Llama-3-8B.
#[derive(Deserialize)]
pub struct Shapes {
    pub head: Products,
    pub attention: Attention,
    pub bandwidth: Bandwidth,
    pub matmul: Products,
}

/// Rows of a batch by weights `[outputs, inputs]`.
#[derive(Deserialize)]
pub struct Products {
    pub rows: usize,
    pub weights: Vec<[usize; 2]>,
}

/// A pack's `tokens` in documents of equal length; all heads of queries together have `width` values.
#[derive(Deserialize)]
pub struct Attention {
    pub tokens: usize,
    pub width: usize,
    pub kv_heads: usize,
    pub head_dims: Vec<usize>,
    pub lengths: Vec<usize>,
}

/// More values than a GPU's cache holds.
#[derive(Deserialize)]
pub struct Bandwidth {
    pub rows: usize,
    pub widths: Vec<usize>,
}

pub static SHAPES: LazyLock<Shapes> = LazyLock::new(|| {
    let text = fs::read_to_string(root().join("benches/peers/shapes.json")).expect("the list of shapes");
    serde_json::from_str(&text).expect("a list of shapes")
});

/// The machine's GPUs.
pub fn devices() -> Vec<Queue> {
    let mut queues = arms::devices();
    queues.retain(|queue| matches!(queue.device(), Device::Cuda(_)));
    queues
}

/// Times launches one behind the other, without the host's waiting for each.
pub fn time(bencher: &mut Bencher<'_>, queue: &Queue, launch: impl Fn() -> Result<()>) {
    bencher.iter_custom(|launches| {
        queue.synchronize().unwrap();
        let start = Instant::now();
        (0..launches).for_each(|_| launch().unwrap());
        queue.synchronize().unwrap();
        start.elapsed()
    });
}
