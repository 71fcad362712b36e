//! The rows to resample, a token drawn for each.

use super::{Batch, Classes, Edit};
use crate::Result;
use crate::device::kernels::{
    Kernels, edit_compact, edit_full, edit_group, edit_prefix, edit_tiles, edit_top_k,
};
use crate::device::{Buffer, Grid, Queue, View};
use crate::edit::Sampler;
use crate::ops::elementwise::blocks;
use crate::ops::head::{self, Chosen, TILE};

/// The largest k for which the winners' tiles alone are computed again, a lane of a warp to each.
const FEW: usize = 32;
/// Threads of most blocks.
const THREADS: usize = 256;
/// Rows of a block whose warps take one each.
const WARPS: usize = 4;

/// The rows to resample, and the logits that they are drawn from.
pub(super) struct Draws {
    /// Rows of a chunk.
    capacity: usize,
    /// `[rows]`: those to resample, ascending.
    drawn: Buffer<u32>,
    /// How many of them each chunk has.
    counts: Buffer<u32>,
    method: Method,
}

enum Method {
    /// top-k of few: from the tiles with the largest maxima.
    Few {
        k: usize,
        tiles: Tiles,
        logits: Buffer<f32>,
    },
    /// top-k of many (k > 0) or top-p (k = 0): from whole rows.
    Prefix {
        k: usize,
        mass: f64,
        logits: Buffer<f32>,
    },
    /// From whole rows.
    Full {
        logits: Buffer<f32>,
    },
    Rejection,
}

/// Which row needs which tiles.
struct Tiles {
    /// Tiles of a row.
    slots: usize,
    /// `[capacity, slots]`
    chosen: Buffer<u32>,
    /// `[tiles, capacity]`
    pairs: Buffer<u32>,
    /// `[tiles]`
    pair_counts: Buffer<u32>,
}

impl Draws {
    /// For batches of up to `rows` rows, holding about `room` bytes of logits at a time.
    pub fn new(
        queue: &Queue,
        sampler: &Sampler,
        vocabulary: usize,
        rows: usize,
        room: usize,
    ) -> Result<Self> {
        let tiles = vocabulary.div_ceil(TILE);
        let slots = match *sampler {
            Sampler::TopK(k) if k <= FEW => k.min(tiles),
            Sampler::Rejection => 0,
            _ => tiles,
        };
        let capacity =
            room.checked_div(slots * TILE * size_of::<f32>()).unwrap_or(rows).clamp(1, rows.max(1));
        let logits = queue.alloc(capacity * slots * TILE)?;
        let method = match *sampler {
            Sampler::TopK(k) if k <= FEW => {
                let (chosen, pairs) = (queue.alloc(capacity * slots)?, queue.alloc(tiles * capacity)?);
                let tiles = Tiles { slots, chosen, pairs, pair_counts: queue.alloc(tiles)? };
                Method::Few { k, tiles, logits }
            }
            Sampler::TopK(k) => Method::Prefix { k: k.min(vocabulary), mass: 0.0, logits },
            Sampler::TopP(mass) if mass < 1.0 => Method::Prefix { k: 0, mass, logits },
            Sampler::TopP(_) | Sampler::Full => Method::Full { logits },
            Sampler::Rejection => Method::Rejection,
        };
        let counts = queue.alloc(rows.div_ceil(capacity))?;
        Ok(Self { capacity, drawn: queue.alloc(rows)?, counts, method })
    }

    /// Draws for every row of a batch that was decided to be resampled.
    pub fn launch<E: Kernels>(
        &self,
        edit: &Edit,
        queue: &Queue,
        batch: &Batch<'_, E>,
        classes: &Classes,
    ) -> Result<()> {
        let rows = batch.hidden.rows;
        self.compact(queue, edit.outcomes.view().slice(0..rows))?;
        for (index, first) in (0..rows).step_by(self.capacity).enumerate() {
            let drawn = self.drawn.view().slice(first..rows.min(first + self.capacity));
            let count = self.counts.view().slice(index..index + 1);
            Chunk { edit, queue, batch, classes, drawn, count }.draw(&self.method)?;
        }
        Ok(())
    }

    /// Finds the rows to resample.
    fn compact(&self, queue: &Queue, outcomes: View<'_, u8>) -> Result<()> {
        const THREADS: usize = 1024;
        let (rows, capacity) = (outcomes.len(), self.capacity);
        let (drawn, counts) = (self.drawn.view(), self.counts.view());
        let shared = THREADS / 32 * size_of::<i32>();
        edit_compact(
            queue,
            grid(1, THREADS, shared),
            outcomes,
            rows,
            capacity,
            rows.div_ceil(capacity),
            drawn,
            counts,
        )
    }
}

/// Some of the rows to resample: up to as many as there is room for; only the device knows how many.
struct Chunk<'a, E> {
    edit: &'a Edit,
    queue: &'a Queue,
    batch: &'a Batch<'a, E>,
    classes: &'a Classes,
    drawn: View<'a, u32>,
    count: View<'a, u32>,
}

impl<E: Kernels> Chunk<'_, E> {
    fn draw(&self, method: &Method) -> Result<()> {
        match method {
            Method::Few { k, tiles, logits } => {
                self.choose(tiles)?;
                let (pairs, counts) = (tiles.pairs.view(), tiles.pair_counts.view());
                self.logits(Chosen { rows: self.drawn, pairs, counts, slots: tiles.slots }, logits)?;
                self.draw_few(*k, tiles, logits)
            }
            Method::Prefix { k, mass, logits } => {
                self.whole_rows(logits)?;
                self.draw_prefix(*k, *mass, logits)
            }
            Method::Full { logits } => {
                self.whole_rows(logits)?;
                self.draw_full(logits)
            }
            Method::Rejection => self.reject(),
        }
    }

    /// The tiles that each row needs, and the rows that need each tile.
    fn choose(&self, tiles: &Tiles) -> Result<()> {
        let (rows, slots, chosen) = (self.drawn.len(), tiles.slots, tiles.chosen.view());
        let maxima = self.batch.scores.maxima(self.batch.hidden.rows);
        let count = self.tiles();
        edit_tiles(self.queue, warps(rows), maxima, count, self.drawn, self.count, slots, chosen)?;
        let grid = grid(count, THREADS, THREADS / 32 * size_of::<i32>());
        let (pairs, pair_counts) = (tiles.pairs.view(), tiles.pair_counts.view());
        edit_group(self.queue, grid, chosen, self.count, slots, rows, pairs, pair_counts)
    }

    fn tiles(&self) -> usize {
        self.edit.vocabulary.div_ceil(TILE)
    }

    fn logits(&self, chosen: Chosen<'_>, out: &Buffer<f32>) -> Result<()> {
        head::logits_on(self.queue, self.batch.hidden, self.batch.weight, chosen, out.view())
    }

    fn whole_rows(&self, out: &Buffer<f32>) -> Result<()> {
        let chosen =
            Chosen { rows: self.drawn, pairs: View::none(), counts: self.count, slots: self.tiles() };
        self.logits(chosen, out)
    }

    fn statistics(&self) -> View<'_, f32> {
        self.batch.scores.statistics(self.batch.hidden.rows)
    }

    fn draw_few(&self, k: usize, tiles: &Tiles, logits: &Buffer<f32>) -> Result<()> {
        let edit = self.edit;
        edit_top_k(
            self.queue,
            warps(self.drawn.len()),
            logits.view(),
            tiles.chosen.view(),
            tiles.slots,
            k,
            edit.inverse_temperature,
            self.drawn,
            self.count,
            self.statistics(),
            self.batch.targets,
            edit.origins.view(),
            self.classes.device.view(),
            edit.vocabulary,
            edit.seed,
            edit.tag,
            edit.outcomes.view(),
            edit.new_ids.view(),
            edit.new_logits.view(),
        )
    }

    fn draw_prefix(&self, k: usize, mass: f64, logits: &Buffer<f32>) -> Result<()> {
        let edit = self.edit;
        let threads = (32 * edit.vocabulary.div_ceil(TILE)).min(1024);
        edit_prefix(
            self.queue,
            grid(self.drawn.len(), threads, threads / 32 * 2 * size_of::<f64>()),
            logits.view(),
            self.tiles() * TILE,
            k,
            mass,
            edit.inverse_temperature,
            self.drawn,
            self.count,
            self.statistics(),
            self.batch.targets,
            edit.origins.view(),
            self.classes.device.view(),
            edit.vocabulary,
            edit.seed,
            edit.tag,
            edit.outcomes.view(),
            edit.new_ids.view(),
            edit.new_logits.view(),
        )
    }

    fn draw_full(&self, logits: &Buffer<f32>) -> Result<()> {
        let edit = self.edit;
        let (bins, threads) = (1 + self.tiles(), (32 * self.tiles()).min(512));
        let shared = bins * (size_of::<f64>() + size_of::<f32>()) + threads / 32 * size_of::<f32>();
        edit_full(
            self.queue,
            grid(self.drawn.len(), threads, shared),
            logits.view(),
            self.tiles() * TILE,
            edit.inverse_temperature,
            self.drawn,
            self.count,
            self.statistics(),
            self.batch.targets,
            edit.origins.view(),
            self.classes.device.view(),
            edit.vocabulary,
            edit.seed,
            edit.tag,
            edit.outcomes.view(),
            edit.new_ids.view(),
            edit.new_logits.view(),
        )
    }

    fn reject(&self) -> Result<()> {
        let (edit, Batch { hidden, weight, targets, scores }) = (self.edit, *self.batch);
        let shared = (1 + self.tiles()) * size_of::<f64>() + TILE * size_of::<f32>();
        E::edit_reject(
            self.queue,
            grid(self.drawn.len(), THREADS, shared),
            hidden.data,
            hidden.stride,
            weight.data,
            weight.stride,
            weight.width,
            edit.vocabulary,
            scores.maxima(hidden.rows),
            scores.masses(hidden.rows),
            edit.inverse_temperature,
            self.drawn,
            self.count,
            self.statistics(),
            targets,
            edit.origins.view(),
            self.classes.device.view(),
            edit.seed,
            edit.tag,
            edit.outcomes.view(),
            edit.new_ids.view(),
            edit.new_logits.view(),
        )
    }
}

pub(super) fn grid(count: usize, threads: usize, shared: usize) -> Grid {
    Grid { blocks: [blocks(count), 1, 1], threads: threads as u32, shared: shared as u32 }
}

/// A warp to each row.
fn warps(rows: usize) -> Grid {
    grid(rows.div_ceil(WARPS), 32 * WARPS, 0)
}
