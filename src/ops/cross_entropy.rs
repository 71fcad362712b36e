//! Cross entropy of logits `l` with targets `x`, and its gradient:
//!
//! - `loss = −log p_x` with `p_v = e^{l_v} / Σ_u e^{l_u}`, exact near p = 1 as [`Statistics`] has it;
//! - `dlogits_v = scale · (p_v − [v = x])`, the target's as `−scale · (1 − p_x)` from the sum over the others.
//!
//! Fused with the head it goes over rows in chunks: neither logits nor their gradient are ever stored whole.

use rayon::prelude::*;

#[cfg(kernels)]
use super::elementwise::block_per_row;
use super::math;
use super::matmul::{Layout, product, product_add, product_exact};
use super::simd::vectorize;
use crate::Result;
#[cfg(kernels)]
use crate::device::Grid;
use crate::device::kernels::Kernels;
use crate::device::{Access, Arm, Matrix, Queue, Rows, View};
use crate::score::Statistics;
use crate::tensor::Element;

/// The target of a row that has no loss: padding, or a prompt.
pub const IGNORE: u32 = u32::MAX;

/// Shared memory of a block: a value of each of its warps.
#[cfg(kernels)]
const SHARED: u32 = 32 * size_of::<f32>() as u32;

/// The loss, its scale and its exceptions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CrossEntropy {
    /// Of each row's gradient: 1 / rows for the mean.
    pub scale: f32,
    /// γ of truncated cross entropy (ForTIFAI, arXiv 2509.08972): neither loss nor gradient where p > γ.
    pub truncate_above: Option<f32>,
}

/// One chunk of rows: logits and their gradient.
pub struct ChunkWork<E> {
    logits: Matrix<f32>,
    dlogits: Matrix<E>,
    rows: usize,
}

impl<E: Element> ChunkWork<E> {
    /// Memory for `rows` rows at a time. The gradient of the weights is read and written once a chunk, so that chunks
    /// should have hundreds of rows.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    ///
    /// # Panics
    /// If there is no row.
    pub fn new(queue: &Queue, rows: usize, vocabulary: usize) -> Result<Self> {
        assert!(rows > 0, "a chunk without rows");
        let (logits, dlogits) =
            (Matrix::new(queue, rows, vocabulary)?, Matrix::new(queue, rows, vocabulary)?);
        Ok(Self { logits, dlogits, rows })
    }
}

/// What the head's backward pass writes.
#[derive(Clone, Copy)]
pub struct HeadGradient<'a, E> {
    /// `[rows, d]`, overwritten.
    pub dhidden: Rows<'a, E>,
    /// `[V, d]`, added to; none where the weights are frozen.
    pub dweight: Option<Rows<'a, f32>>,
}

impl CrossEntropy {
    /// The loss of each row of `logits`, unscaled, 0 where the target is [`IGNORE`] or the row truncated; and its scaled
    /// gradient. NaN in a row, or a target past its end, gives NaN.
    ///
    /// # Errors
    /// What went wrong on the device before.
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub fn loss_on<E: Kernels>(
        &self,
        queue: &Queue,
        logits: Rows<'_, f32>,
        targets: View<'_, u32>,
        losses: View<'_, f32>,
        dlogits: Option<Rows<'_, E>>,
    ) -> Result<()> {
        assert_eq!((targets.len(), losses.len()), (logits.rows, logits.rows), "targets and losses");
        logits.check();
        if let Some(dlogits) = dlogits {
            assert_eq!((dlogits.rows, dlogits.width), (logits.rows, logits.width), "shape of a gradient");
            dlogits.check();
        }
        match queue.arm() {
            Arm::Host(host) => {
                self.loss_on_host(&host, logits, targets, losses, dlogits);
                Ok(())
            }
            #[cfg(kernels)]
            Arm::Kernels => {
                let grid = Grid { shared: SHARED, ..block_per_row(logits.rows, logits.width.div_ceil(4)) };
                let (to, stride) = dlogits.map_or((View::none(), 0), |rows| (rows.data, rows.stride));
                let (data, width, odds) = (logits.data, logits.width, self.odds());
                E::cross_entropy_forward(
                    queue,
                    grid,
                    losses,
                    to,
                    data,
                    targets,
                    width,
                    logits.stride,
                    stride,
                    self.scale,
                    odds,
                )
            }
        }
    }

    fn loss_on_host<E: Element>(
        &self,
        host: &Access<'_>,
        logits: Rows<'_, f32>,
        targets: View<'_, u32>,
        losses: View<'_, f32>,
        dlogits: Option<Rows<'_, E>>,
    ) {
        let rows = host.read(logits).par_chunks(logits.stride).map(|row| &row[..logits.width]);
        let rows = rows.zip(host.slice(targets)).zip(host.slice_mut(losses));
        match dlogits {
            None => rows.for_each(|((row, target), loss)| *loss = self.row(row, *target).loss()),
            Some(to) => rows.zip(host.write(to).par_chunks_mut(to.stride)).for_each(|(row, to)| {
                let ((row, target), loss) = row;
                let entropy = self.row(row, *target);
                *loss = entropy.loss();
                entropy.gradient(row, *target, self.scale, &mut to[..row.len()]);
            }),
        }
    }

    /// The losses of `hidden · weightᵀ`, and their gradients, chunk by chunk; the rest as [`CrossEntropy::loss_on`].
    ///
    /// # Errors
    /// What went wrong on the device before.
    ///
    /// # Panics
    /// If the shapes do not fit.
    #[expect(clippy::too_many_arguments, reason = "a head's inputs and outputs")]
    pub fn head_on<E: Kernels>(
        &self,
        queue: &Queue,
        work: &ChunkWork<E>,
        hidden: Rows<'_, E>,
        weight: Rows<'_, E>,
        targets: View<'_, u32>,
        losses: View<'_, f32>,
        gradient: Option<HeadGradient<'_, E>>,
    ) -> Result<()> {
        for first in (0..hidden.rows).step_by(work.rows) {
            let chunk = first..hidden.rows.min(first + work.rows);
            let hidden = hidden.rows(chunk.clone());
            let (logits, dlogits) = (work.logits.first(hidden.rows), work.dlogits.first(hidden.rows));
            product_exact(queue, hidden, weight, logits)?;
            let (targets, losses) = (targets.slice(chunk.clone()), losses.slice(chunk.clone()));
            self.loss_on(queue, logits, targets, losses, gradient.map(|_| dlogits))?;
            let Some(HeadGradient { dhidden, dweight }) = gradient else { continue };
            product(queue, Layout::Nn, dlogits, weight, None, dhidden.rows(chunk))?;
            if let Some(dweight) = dweight {
                product_add(queue, Layout::Tn, dlogits, hidden, None, dweight)?;
            }
        }
        Ok(())
    }

    /// What a row's loss and gradient follow from.
    fn row(&self, logits: &[f32], target: u32) -> Row {
        let (own, [before, behind]) = match logits.split_at_checked(target as usize) {
            Some((before, [own, behind @ ..])) => (*own, [before, behind]),
            _ => (f32::NAN, [logits, &[]]),
        };
        let (max, rest) = vectorize(
            #[inline(always)]
            || {
                let max = math::max(before).max(math::max(behind));
                // A rest of −∞ alone weighs nothing.
                let base = if max == f32::NEG_INFINITY { 0.0 } else { max };
                let weigh = |logits| {
                    math::sum(
                        logits,
                        #[inline(always)]
                        |l| math::exp(l - base),
                    )
                };
                (max, weigh(before) + weigh(behind))
            },
        );
        let statistics = Statistics { target: own, max, rest };
        let truncated = self.truncate_above.is_some_and(|limit| statistics.above(limit.into()));
        Row { statistics, skipped: target == IGNORE || truncated }
    }

    /// (1 − γ) / γ, which p > γ is decided by; 0 where that never holds.
    #[cfg(kernels)]
    fn odds(&self) -> f64 {
        self.truncate_above.map_or(0.0, |limit| (1.0 - f64::from(limit)) / f64::from(limit))
    }
}

/// A row of logits once it has been summed.
struct Row {
    statistics: Statistics,
    /// Neither loss nor gradient.
    skipped: bool,
}

impl Row {
    fn loss(&self) -> f32 {
        // From 0, so that it is never −0.
        if self.skipped { 0.0 } else { 0.0 - self.statistics.log_probability() }
    }

    fn gradient<E: Element>(&self, logits: &[f32], target: u32, scale: f32, out: &mut [E]) {
        if self.skipped {
            return out.fill(E::from_f32(0.0));
        }
        let Statistics { target: own, max, rest } = self.statistics;
        let (base, others) = if own >= max { (own, rest * (max - own).exp()) } else { (max, rest) };
        let share = scale / (others + (own - base).exp());
        vectorize(
            #[inline(always)]
            || {
                for (out, l) in out.iter_mut().zip(logits) {
                    *out = E::from_f32(math::exp(l - base) * share);
                }
            },
        );
        if let Some(out) = out.get_mut(target as usize) {
            *out = E::from_f32(-others * share);
        }
    }
}
