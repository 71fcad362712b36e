//! Draws on a device, where the logits lie: the decisions of [`sample`](super::sample), but where roundings fall on different
//! sides.

use bytemuck::cast_slice;

use super::{Sampling, Seen};
use crate::Result;
use crate::device::kernels::{sample_full, sample_penalise, sample_prefix};
use crate::device::{Buffer, Grid, Queue, Rows, View};
use crate::ops::elementwise::blocks;
use crate::ops::head::TILE;
use crate::random::Uniform;

/// What the kernels write where a logit is not finite.
const NONE: u32 = u32::MAX;
/// Threads of a block that penalises.
const PENALISING: usize = 256;
/// Threads of a block that draws, at most.
const THREADS: usize = 1024;
/// The same where a warp has a tile.
const TILED: usize = 512;
/// Ids of a thread, where there are many.
const SHARE: usize = 8;
/// Bytes of shared memory for reductions over a block.
const SCRATCH: usize = 512;

/// Draws tokens from rows of logits on one device, planned once for the largest batch.
pub struct Sampler {
    /// `[rows, 2]`
    uniforms: Buffer<f64>,
    /// `[rows, ⌈V / 64⌉ · 2]`; empty without a repetition penalty.
    seen: Buffer<u32>,
    /// `[rows]`
    ids: Buffer<u32>,
}

impl Sampler {
    /// For up to `rows` rows, whose texts' tokens have ids below `vocabulary`; 0 where no repetition penalty is asked for.
    ///
    /// # Errors
    /// As [`Queue::alloc`].
    pub fn new(queue: &Queue, rows: usize, vocabulary: usize) -> Result<Self> {
        Ok(Self {
            uniforms: queue.alloc(rows.saturating_mul(2))?,
            seen: queue.alloc(rows.saturating_mul(2 * vocabulary.div_ceil(64)))?,
            ids: queue.alloc(rows)?,
        })
    }

    /// Applies the repetition penalty to logits of tokens that were seen, a set for each row.
    ///
    /// # Errors
    /// What went wrong on the device before.
    ///
    /// # Panics
    /// If there is not a set for each row, of as many ids, or more than planned.
    pub fn penalise(&self, queue: &Queue, logits: Rows<'_, f32>, seen: &[&Seen], penalty: f64) -> Result<()> {
        assert_eq!(logits.rows, seen.len(), "sets of tokens");
        logits.check();
        let Some(words) = seen.first().map(|seen| 2 * seen.words.len()) else { return Ok(()) };
        let all: Vec<u64> = seen.iter().flat_map(|seen| seen.words.iter().copied()).collect();
        let all: &[u32] = cast_slice(&all);
        assert_eq!(all.len(), seen.len() * words, "sets of as many ids");
        queue.write(self.seen.view(), all)?;
        let grid = Grid {
            blocks: [blocks(words.div_ceil(PENALISING)), blocks(logits.rows), 1],
            threads: PENALISING as u32,
            shared: 0,
        };
        let seen = self.seen.view().slice(0..all.len());
        sample_penalise(queue, grid, logits.data, logits.stride, seen, words, logits.width, penalty as f32)
    }

    /// Draws a token from each row, whose repetition penalty is applied before: `Sampler::ids` has them then. A row ends at
    /// a multiple of [`TILE`] logits, those past its width −∞.
    ///
    /// # Errors
    /// What went wrong on the device before.
    ///
    /// # Panics
    /// If there is not a random number for each row, there are more rows than planned, or there are no logits.
    pub fn draw(
        &self,
        queue: &Queue,
        sampling: &Sampling,
        logits: Rows<'_, f32>,
        random: &[Uniform],
    ) -> Result<()> {
        let Sampling { temperature, top_k, top_p, min_p, .. } = *sampling;
        let (rows, v, stride) = (logits.rows, logits.width, logits.stride);
        assert_eq!(rows, random.len(), "random numbers");
        assert!(v > 0 && rows <= self.ids.len(), "{rows} rows of {v} logits");
        Rows { width: v.next_multiple_of(TILE), ..logits }.check();
        let uniforms: Vec<_> = random.iter().flat_map(|random| [random.first, random.second]).collect();
        queue.write(self.uniforms.view(), &uniforms)?;
        let (uniforms, ids) = (self.uniforms.view().slice(0..2 * rows), self.ids(rows));
        // One that overflowed would turn a difference of 0 into NaN. The most likely token has any temperature.
        let greedy = sampling.is_greedy();
        let inverse = if greedy { 1.0 } else { temperature.recip().min(f64::MAX) };
        let k = if greedy { 1 } else { top_k.min(v) };
        let grid = |threads: usize, shared: usize| Grid {
            blocks: [blocks(rows), 1, 1],
            threads: threads as u32,
            shared: shared as u32,
        };
        if k == 0 && top_p == 1.0 && min_p == 0.0 {
            let tiles = v.div_ceil(TILE);
            let grid = grid((32 * tiles).min(TILED), tiles * size_of::<f64>() + SCRATCH);
            sample_full(queue, grid, logits.data, stride, v, inverse, uniforms, ids)
        } else {
            let grid = grid(v.div_ceil(SHARE).next_multiple_of(32).min(THREADS), SCRATCH);
            sample_prefix(queue, grid, logits.data, stride, v, k, top_p, min_p, inverse, uniforms, ids)
        }
    }

    /// The tokens of the last rows drawn from, [`u32::MAX`] for one with a logit that is not finite.
    ///
    /// # Panics
    /// If there are more than planned.
    pub fn ids(&self, rows: usize) -> View<'_, u32> {
        self.ids.view().slice(0..rows)
    }

    /// Waits for all work and reads the tokens; none for a row with a logit that is not finite.
    ///
    /// # Errors
    /// What went wrong on the device.
    ///
    /// # Panics
    /// As [`Sampler::ids`].
    pub fn read(&self, queue: &Queue, rows: usize) -> Result<Vec<Option<u32>>> {
        let ids = queue.download(self.ids(rows))?;
        Ok(ids.into_iter().map(|id| (id != NONE).then_some(id)).collect())
    }
}
