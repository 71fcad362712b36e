//! Head: the vocabulary product fused with what scoring needs of it. Logits live only as long as one tile.
//!
//! For each row r with target x: `l_v = h_r · W_v`, kept as [`Statistics`] `{l_x, m = max_{v≠x} l_v,
//! S_rest = Σ_{v≠x} e^{l_v − m}}`. The vocabulary is cut into tiles of [`TILE`] columns, part of the numerical definition:
//! each tile gives its maximum and its sum, and tiles are merged in ascending order. So neither the batch nor the split
//! over threads changes a bit.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use rayon::prelude::*;

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
const CHUNK_BYTES: usize = 8 << 20;

/// One tile's share of a row's softmax, the target left out.
#[derive(Clone, Copy, Default)]
struct Part {
    max: f32,
    /// Σ e^{l − max}
    sum: f32,
    /// Σ e^{l − max} · (l − max), for the entropy.
    moment: f32,
}

/// What the head gives of one row: the statistics, and the entropy of the whole distribution in nats.
#[derive(Clone, Copy, Debug)]
pub struct Scored {
    /// The target's logit and the rest.
    pub statistics: Statistics,
    /// `−Σ p ln p` in nats, the target included.
    pub entropy: f32,
}

/// Work memory, grown once to the largest batch.
#[derive(Default)]
pub struct Scratch {
    parts: Vec<Part>,
    targets: Vec<AtomicU32>,
    tiles: Vec<Vec<f32>>,
}

/// Statistics and entropy of every row of `hidden` (`k` values, the model's last norm applied) for its target.
///
/// # Panics
/// If there is not one target for each row, or one lies outside the vocabulary: callers check ids first.
pub fn score<E: Element>(
    hidden: Rows<E>,
    weight: &Matrix<E>,
    targets: &[u32],
    scratch: &mut Scratch,
) -> Vec<Scored> {
    let rows = hidden.rows;
    assert!(targets.len() == rows && targets.iter().all(|target| (*target as usize) < weight.n()));
    let tiles = weight.n().div_ceil(TILE);
    scratch.parts.resize(tiles * rows, Part::default());
    scratch.targets.resize_with(rows, AtomicU32::default);
    let target_logits = &scratch.targets[..rows];
    scratch.parts.par_chunks_exact_mut(rows.max(1)).enumerate().for_each_init(
        || vec![0.0; ROWS * TILE],
        |logits, (tile, parts)| score_tile(hidden, weight, tile, targets, (logits, parts, target_logits)),
    );
    let parts = &scratch.parts;
    (0..rows)
        .into_par_iter()
        .map(|row| {
            let target = f32::from_bits(target_logits[row].load(Relaxed));
            merge(target, (0..tiles).map(|tile| parts[tile * rows + row]))
        })
        .collect()
}

fn score_tile<E: Element>(
    hidden: Rows<E>,
    weight: &Matrix<E>,
    tile: usize,
    targets: &[u32],
    (logits, parts, target_logits): (&mut [f32], &mut [Part], &[AtomicU32]),
) {
    let first = tile * TILE;
    let columns = TILE.min(weight.n() - first);
    let panels = Panels::of(weight, first / PANEL, columns.div_ceil(PANEL));
    for start in (0..hidden.rows).step_by(ROWS) {
        let rows = ROWS.min(hidden.rows - start);
        let block = Rows { data: &hidden.data[start * hidden.stride..], rows, ..hidden };
        matmul(block, panels, logits, TILE);
        for (row, logits) in (start..start + rows).zip(logits.chunks_exact_mut(TILE)) {
            let target = (targets[row] as usize).wrapping_sub(first);
            if target < columns {
                target_logits[row].store(logits[target].to_bits(), Relaxed);
                logits[target] = f32::NEG_INFINITY;
            }
            parts[row] = vectorize(
                #[inline(always)]
                || reduce(&logits[..columns]),
            );
        }
    }
}

#[inline(always)]
fn reduce(logits: &[f32]) -> Part {
    let max = math::max(logits);
    if max == f32::NEG_INFINITY {
        // Nothing but the target, or nothing finite: the sum tells which.
        let sum = math::sum(
            logits,
            #[inline(always)]
            |l| if l == f32::NEG_INFINITY { 0.0 } else { l },
        );
        return Part { max, sum, moment: 0.0 };
    }
    let sum = math::sum(
        logits,
        #[inline(always)]
        |l| math::exp(l - max),
    );
    let moment = math::sum(
        logits,
        #[inline(always)]
        |l| {
            // −∞ · 0 must be 0.
            let x = if l - max < -88.0 { -88.0 } else { l - max };
            math::exp(x) * x
        },
    );
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

/// Rows of logits that fit the bounded chunk in which whole rows are drawn from.
pub fn chunk_rows(vocabulary: usize) -> usize {
    (CHUNK_BYTES / size_of::<f32>() / vocabulary.next_multiple_of(TILE)).max(1)
}

/// Whole rows of logits, `V` padded to whole tiles apart, the same bits as [`score`] saw.
pub fn logits<E: Element>(hidden: Rows<E>, weight: &Matrix<E>, scratch: &mut Scratch, out: &mut Vec<f32>) {
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
}
