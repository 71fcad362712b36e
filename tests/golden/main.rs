//! Models against numbers that transformers computed in f32: ten families, and a real model on real text.

#[path = "../common/mod.rs"]
mod common;

mod edits;
mod generation;
#[cfg(kernels)]
mod generation_device;
mod redraw;
mod scores;
mod smollm2;
