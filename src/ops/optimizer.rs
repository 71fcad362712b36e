//! AdamW (Loshchilov & Hutter, arXiv 1711.05101) over flat buffers, as PyTorch computes it, with g = scale · gradient:
//!
//! - `weight −= lr · weight_decay · weight`
//! - `m = β₁·m + (1 − β₁)·g`, `v = β₂·v + (1 − β₂)·g²`
//! - `weight −= lr / (1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + eps)`

use rayon::prelude::*;

use super::simd::vectorize;
use crate::Result;
#[cfg(kernels)]
use crate::device::Grid;
use crate::device::kernels::Kernels;
#[cfg(kernels)]
use crate::device::kernels::sum_of_squares;
use crate::device::{Access, Arm, Queue, View};
#[cfg(kernels)]
use crate::ops::elementwise::blocks;
use crate::tensor::{Element, round};

/// Elements that a thread of the host takes at a time.
const BLOCK: usize = 1 << 14;
/// Sums of squares that [`sum_of_squares_on`] needs scratch for.
pub const SUMS: usize = 1024;
/// Threads of a kernel's block.
#[cfg(kernels)]
const THREADS: usize = 256;

/// One step of the optimizer.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    /// lr
    pub learning_rate: f32,
    /// β₁, of the mean of the gradients.
    pub beta1: f32,
    /// β₂, of the mean of their squares.
    pub beta2: f32,
    /// Added to the root of the latter.
    pub eps: f32,
    /// Times the learning rate: the share by which weights shrink.
    pub weight_decay: f32,
    /// t, from 1.
    pub step: u32,
}

/// What is multiplied with in one step.
#[derive(Clone, Copy)]
struct Factors {
    /// 1 − lr · weight_decay
    keep: f32,
    beta1: f32,
    beta2: f32,
    /// lr / (1 − β₁ᵗ)
    rate: f32,
    /// √(1 − β₂ᵗ)
    root: f32,
    eps: f32,
}

/// Flat buffers of equal length that a step reads and writes element by element.
#[derive(Clone, Copy)]
pub struct Parameters<'a, E> {
    /// The weights.
    pub weight: View<'a, f32>,
    /// Their gradient, which stays.
    pub gradient: View<'a, f32>,
    /// m
    pub exp_avg: View<'a, f32>,
    /// v
    pub exp_avg_sq: View<'a, f32>,
    /// The new weights as products read them.
    pub rounded: Option<View<'a, E>>,
    /// Elements, from the first on, that decay.
    pub decayed: usize,
}

impl AdamW {
    /// One step, the gradient multiplied by `scale`.
    ///
    /// # Errors
    /// What went wrong on the device before.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn step_on<E: Kernels>(
        &self,
        queue: &Queue,
        scale: f32,
        parameters: &Parameters<'_, E>,
    ) -> Result<()> {
        let Parameters { weight, gradient, exp_avg, exp_avg_sq, rounded, .. } = *parameters;
        let n = weight.len();
        let lens =
            [gradient.len(), exp_avg.len(), exp_avg_sq.len(), rounded.map_or(n, |rounded| rounded.len())];
        assert_eq!(lens, [n; 4], "lengths of an optimizer's buffers");
        let factors = self.factors();
        match queue.arm() {
            Arm::Host(host) => {
                factors.step_on_host(&host, scale, parameters);
                Ok(())
            }
            #[cfg(kernels)]
            Arm::Kernels => {
                let Factors { keep, beta1, beta2, rate, root, eps } = factors;
                let grid = grid(n.div_ceil(4 * THREADS), 0);
                let rounded = rounded.unwrap_or(View::none());
                let (n, decayed) = (n as u64, parameters.decayed as u64);
                E::adamw_step(
                    queue, grid, weight, gradient, exp_avg, exp_avg_sq, rounded, n, decayed, scale, keep,
                    beta1, beta2, rate, root, eps,
                )
            }
        }
    }

    fn factors(&self) -> Factors {
        let Self { learning_rate, beta1, beta2, eps, weight_decay, step } = *self;
        let correction = |beta: f32| 1.0 - f64::from(beta).powi(step as i32);
        let rate = f64::from(learning_rate);
        Factors {
            keep: (1.0 - rate * f64::from(weight_decay)) as f32,
            beta1,
            beta2,
            rate: (rate / correction(beta1)) as f32,
            root: correction(beta2).sqrt() as f32,
            eps,
        }
    }
}

/// Elements of all buffers, the number of their block first.
type Block<'a> = ((usize, &'a mut [f32]), ((&'a mut [f32], &'a mut [f32]), &'a [f32]));

impl Factors {
    fn step_on_host<E: Element>(&self, host: &Access<'_>, scale: f32, parameters: &Parameters<'_, E>) {
        let Parameters { weight, gradient, exp_avg, exp_avg_sq, rounded, decayed } = *parameters;
        let state = host.slice_mut(exp_avg).par_chunks_mut(BLOCK);
        let state = state.zip(host.slice_mut(exp_avg_sq).par_chunks_mut(BLOCK));
        let blocks = host.slice_mut(weight).par_chunks_mut(BLOCK).enumerate();
        let blocks = blocks.zip(state.zip(host.slice(gradient).par_chunks(BLOCK)));
        match rounded {
            Some(rounded) => {
                let rounded = host.slice_mut(rounded).par_chunks_mut(BLOCK);
                blocks.zip(rounded).for_each(|(block, rounded)| {
                    round(self.update(scale, decayed, block), rounded);
                });
            }
            None => blocks.for_each(|block| _ = self.update(scale, decayed, block)),
        }
    }

    /// Updates a block of elements; its weights.
    fn update<'a>(&self, scale: f32, decayed: usize, block: Block<'a>) -> &'a [f32] {
        let Self { keep, beta1, beta2, rate, root, eps } = *self;
        let ((index, weight), ((m, v), gradient)) = block;
        let decayed = decayed.saturating_sub(index * BLOCK).min(weight.len());
        vectorize(
            #[inline(always)]
            || {
                for weight in &mut weight[..decayed] {
                    *weight *= keep;
                }
                for (((weight, gradient), m), v) in weight.iter_mut().zip(gradient).zip(m).zip(v) {
                    let g = scale * gradient;
                    *m = (1.0 - beta1).mul_add(g - *m, *m);
                    *v = ((1.0 - beta2) * g).mul_add(g, beta2 * *v);
                    *weight -= rate * (*m / (v.sqrt() / root + eps));
                }
            },
        );
        weight
    }
}

/// Σ values², in f64: the same bits every time. What is not finite shows. Waits for all work.
///
/// # Errors
/// What went wrong on the device.
///
/// # Panics
/// If there are fewer than [`SUMS`] values of scratch.
pub fn sum_of_squares_on(queue: &Queue, values: View<'_, f32>, scratch: View<'_, f64>) -> Result<f64> {
    assert!(scratch.len() >= SUMS, "{} sums of squares", scratch.len());
    let n = values.len();
    let sums = match queue.arm() {
        Arm::Host(host) => {
            let block = n.div_ceil(SUMS).max(BLOCK);
            let sums = scratch.slice(0..n.div_ceil(block));
            let blocks = host.slice(values).par_chunks(block).zip(host.slice_mut(sums));
            blocks.for_each(|(values, sum)| *sum = squares(values));
            sums
        }
        #[cfg(kernels)]
        Arm::Kernels => {
            let sums = scratch.slice(0..n.div_ceil(4 * THREADS).min(SUMS));
            let grid = grid(sums.len(), THREADS / 32 * size_of::<f64>());
            sum_of_squares(queue, grid, sums, values, n as u64)?;
            sums
        }
    };
    Ok(queue.download(sums)?.iter().sum())
}

/// Σ values², in the order of several partial sums.
fn squares(values: &[f32]) -> f64 {
    vectorize(
        #[inline(always)]
        || {
            let mut lanes = [0.0f64; 16];
            for values in values.chunks(lanes.len()) {
                for (sum, value) in lanes.iter_mut().zip(values) {
                    *sum += f64::from(*value).powi(2);
                }
            }
            lanes.iter().sum()
        },
    )
}

#[cfg(kernels)]
fn grid(count: usize, shared: usize) -> Grid {
    Grid { blocks: [blocks(count), 1, 1], threads: THREADS as u32, shared: shared as u32 }
}
