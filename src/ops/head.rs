//! Head: the vocabulary product fused with what scoring needs of it. Logits live only as long as one tile.
//!
//! For each row r with target x: `l_v = h_r · W_v`, kept as [`Statistics`] `{l_x, m = max_{v≠x} l_v,
//! S_rest = Σ_{v≠x} e^{l_v − m}}`. The vocabulary is cut into tiles of [`TILE`] columns, part of the numerical definition:
//! each tile gives its maximum and its sum, and tiles are merged in ascending order. So neither the batch nor the split
//! over threads changes a bit.

#[cfg(kernels)]
mod device;
mod largest;
#[cfg(kernels)]
mod whole;

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use rayon::prelude::*;

#[cfg(kernels)]
pub use self::device::{Chosen, Scores, logits_on};
#[cfg(kernels)]
pub use self::whole::WholeRows;
use super::math;
use super::matmul::{Panels, Rows, matmul};
use super::simd::vectorize;
use crate::score::Statistics;
use crate::tensor::{Element, Matrix, PANEL};

/// Columns of a vocabulary tile.
pub const TILE: usize = 256;
/// Rows whose logits of one tile are held at a time; 96 KB, within the second-level cache.
const ROWS: usize = 96;
/// Bytes of whole rows of logits that [`logits`] callers hold at a time.
const CHUNK_BYTES: usize = 16 << 20;

/// One tile's share of a row's softmax, the target left out.
#[derive(Clone, Copy, Default)]
struct Part {
    max: f32,
    /// Σ e^{l − max}
    sum: f32,
    /// Σ e^{l − max} · (l − max), for the entropy.
    moment: f32,
}

/// What the head gives of one row.
#[derive(Clone, Copy, Debug)]
pub struct Scored {
    /// The target's logit and the rest.
    pub statistics: Statistics,
    /// `−Σ p ln p` in nats over the whole vocabulary; of no meaning unless asked for.
    pub entropy: f32,
}

/// Work memory, grown once to the largest batch.
#[derive(Default)]
pub struct Scratch {
    parts: Vec<Part>,
    targets: Vec<AtomicU32>,
    tiles: Vec<Vec<f32>>,
}

/// Scoring a batch of rows.
#[derive(Clone, Copy)]
pub struct Head<'a, E> {
    /// Rows of C values, the model's last norm applied.
    pub hidden: Rows<'a, E>,
    /// `[V, C]`
    pub weight: &'a Matrix<E>,
    /// The token that each row predicts.
    pub targets: &'a [u32],
    /// Whether to compute the entropy.
    pub entropy: bool,
}

impl<E: Element> Head<'_, E> {
    /// Scores every row.
    ///
    /// # Panics
    /// If there is not one target for each row, or one lies outside the vocabulary: callers check ids first.
    pub fn score(&self, scratch: &mut Scratch) -> Vec<Scored> {
        let rows = self.hidden.rows;
        let inside = |target: &u32| (*target as usize) < self.weight.n();
        assert!(self.targets.len() == rows && self.targets.iter().all(inside));
        let tiles = self.weight.n().div_ceil(TILE);
        scratch.parts.resize(tiles * rows, Part::default());
        scratch.targets.resize_with(rows, AtomicU32::default);
        let targets = &scratch.targets[..rows];
        scratch.parts.par_chunks_exact_mut(rows.max(1)).enumerate().for_each_init(
            || vec![0.0; ROWS * TILE],
            |logits, (tile, parts)| self.score_tile(tile, logits, parts, targets),
        );
        let parts = &scratch.parts;
        let row = |row: usize| {
            let target = f32::from_bits(targets[row].load(Relaxed));
            merge(target, (0..tiles).map(|tile| parts[tile * rows + row]))
        };
        (0..rows).into_par_iter().map(row).collect()
    }

    /// One tile of all rows: their parts, and the logits of the targets that lie in it.
    fn score_tile(&self, tile: usize, logits: &mut [f32], parts: &mut [Part], targets: &[AtomicU32]) {
        let Self { hidden, weight, .. } = *self;
        let first = tile * TILE;
        let columns = TILE.min(weight.n() - first);
        let panels = Panels::of(weight, first / PANEL, columns.div_ceil(PANEL));
        for start in (0..hidden.rows).step_by(ROWS) {
            let rows = ROWS.min(hidden.rows - start);
            let block = Rows { data: &hidden.data[start * hidden.stride..], rows, ..hidden };
            matmul(block, panels, logits, TILE);
            for (row, logits) in (start..start + rows).zip(logits.chunks_exact_mut(TILE)) {
                let target = (self.targets[row] as usize).wrapping_sub(first);
                if target < columns {
                    targets[row].store(logits[target].to_bits(), Relaxed);
                    logits[target] = f32::NEG_INFINITY;
                }
            }
            vectorize(
                #[inline(always)]
                || {
                    for (part, logits) in parts[start..start + rows].iter_mut().zip(logits.chunks_exact(TILE))
                    {
                        *part = reduce(&logits[..columns], self.entropy);
                    }
                },
            );
        }
    }
}

#[inline(always)]
fn reduce(logits: &[f32], entropy: bool) -> Part {
    let max = math::max(logits);
    if max == f32::NEG_INFINITY {
        // Nothing but the target, or nothing finite: the sum tells which.
        let sum = math::sum(logits, |l| if l == f32::NEG_INFINITY { 0.0 } else { l });
        return Part { max, sum, moment: 0.0 };
    }
    let sum = math::sum(logits, |l| math::exp(l - max));
    // Far below the maximum −∞ · 0 must be 0.
    let weighted = |x: f32| if x < -88.0 { 0.0 } else { math::exp(x) * x };
    let moment = if entropy { math::sum(logits, |l| weighted(l - max)) } else { 0.0 };
    Part { max, sum, moment }
}

/// Merges a row's tiles in ascending order.
fn merge(target: f32, parts: impl Iterator<Item = Part> + Clone) -> Scored {
    let max = parts.clone().map(|part| part.max).fold(f32::NEG_INFINITY, f32::max);
    let (mut rest, mut moment) = (0.0f64, 0.0f64);
    for part in parts {
        let shift = if part.max == max { 0.0 } else { f64::from(part.max) - f64::from(max) };
        let scale = shift.exp();
        rest += scale * f64::from(part.sum);
        if scale > 0.0 {
            moment += scale * (f64::from(part.moment) + shift * f64::from(part.sum));
        }
    }
    let statistics = Statistics { target, max, rest: rest as f32 };
    Scored { statistics, entropy: entropy(&statistics, rest, moment) }
}

/// H = ln Z − Σ p·(l − m), with Z over the rest and the target.
fn entropy(statistics: &Statistics, rest: f64, moment: f64) -> f32 {
    if rest == 0.0 {
        return 0.0;
    }
    // Shift everything to the larger of target and max, so that no exponential overflows.
    let lead = f64::from(statistics.target) - f64::from(statistics.max);
    let (rest, moment, target) = if lead > 0.0 {
        let scale = (-lead).exp();
        (rest * scale, (moment - lead * rest) * scale, (1.0, 0.0))
    } else {
        (rest, moment, (lead.exp(), lead.exp() * lead))
    };
    let z = rest + target.0;
    ((z.ln() - (moment + target.1) / z) as f32).max(0.0)
}

/// The statistics of a whole row of logits with a target, the bits of [`Head::score`]. The row is as before afterwards.
///
/// # Panics
/// If the row does not have the target.
pub fn statistics(logits: &mut [f32], target: u32) -> Statistics {
    let logit = std::mem::replace(&mut logits[target as usize], f32::NEG_INFINITY);
    let mut parts = Vec::with_capacity(logits.len().div_ceil(TILE));
    vectorize(
        #[inline(always)]
        || {
            for tile in logits.chunks(TILE) {
                parts.push(reduce(tile, false));
            }
        },
    );
    logits[target as usize] = logit;
    merge(logit, parts.iter().copied()).statistics
}

/// Rows of logits that fit the bounded chunk in which whole rows are drawn from.
pub fn chunk_rows(vocabulary: usize) -> usize {
    (CHUNK_BYTES / size_of::<f32>() / vocabulary.next_multiple_of(TILE)).max(1)
}

/// Whole rows of logits, `V` padded to whole tiles apart, the same bits as [`Head::score`] saw.
/// Returns the distance between rows of `out`.
pub fn logits<E: Element>(
    hidden: Rows<E>,
    weight: &Matrix<E>,
    scratch: &mut Scratch,
    out: &mut Vec<f32>,
) -> usize {
    let tiles = weight.n().div_ceil(TILE);
    let stride = tiles * TILE;
    let len = hidden.rows * TILE;
    scratch.tiles.resize_with(tiles, Vec::new);
    scratch.tiles.par_iter_mut().enumerate().for_each(|(tile, logits)| {
        logits.resize(len, 0.0);
        let columns = TILE.min(weight.n() - tile * TILE);
        let panels = Panels::of(weight, tile * TILE / PANEL, columns.div_ceil(PANEL));
        matmul(hidden, panels, logits, TILE);
    });
    out.resize(hidden.rows * stride, 0.0);
    out.par_chunks_exact_mut(stride).enumerate().for_each(|(row, out)| {
        for (out, tile) in out.chunks_exact_mut(TILE).zip(&scratch.tiles) {
            out.copy_from_slice(&tile[row * TILE..][..TILE]);
        }
    });
    stride
}
