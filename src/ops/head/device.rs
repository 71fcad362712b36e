//! The head by kernels: the CPU's formulas and tiles.

use super::{Scored, TILE};
use crate::Result;
use crate::device::kernels::Kernels;
use crate::device::{Buffer, Grid, Mark, Queue, Rows, View};
use crate::ops::elementwise::blocks;
use crate::score::Statistics;

/// Rows of a block that computes a tile.
const ROWS: usize = 128;
/// Its shared memory: four stages of 64 bytes of k for each of its rows and columns.
const SHARED: u32 = 4 * (ROWS + TILE) as u32 * 64;
/// Threads of every block.
const THREADS: u32 = 256;
/// Rows of a block that merges tiles, a warp each.
const MERGED: usize = THREADS as usize / 32;

/// What the head keeps of a batch on a device, planned once for the largest one: 8 bytes for each row and tile of the
/// vocabulary, 4 more for the entropy and for a temperature.
pub struct Scores {
    rows: usize,
    vocabulary: usize,
    temperature: Option<f32>,
    /// `[rows, tiles]`, each.
    max: Buffer<f32>,
    sum: Buffer<f32>,
    moment: Option<Buffer<f32>>,
    tempered: Option<Buffer<f32>>,
    /// `[rows]`
    target: Buffer<f32>,
    /// `[rows, 3]`, as [`Statistics`].
    statistics: Buffer<f32>,
    /// `[rows]`
    entropy: Option<Buffer<f32>>,
}

impl Scores {
    /// Memory for up to `rows` rows. A `temperature` is for samplers that draw a tile by its mass.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    pub fn new(
        queue: &Queue,
        rows: usize,
        vocabulary: usize,
        entropy: bool,
        temperature: Option<f32>,
    ) -> Result<Self> {
        let parts = rows.saturating_mul(vocabulary.div_ceil(TILE));
        let alloc = |wanted: bool, len: usize| wanted.then(|| queue.alloc(len)).transpose();
        Ok(Self {
            rows,
            vocabulary,
            temperature,
            max: queue.alloc(parts)?,
            sum: queue.alloc(parts)?,
            moment: alloc(entropy, parts)?,
            tempered: alloc(temperature.is_some(), parts)?,
            target: queue.alloc(rows)?,
            statistics: queue.alloc(rows.saturating_mul(3))?,
            entropy: alloc(entropy, rows)?,
        })
    }

    /// Scores rows of hidden states, the last norm applied, each with the token that it predicts. The targets are trusted:
    /// one outside the vocabulary leaves its row's statistics undefined.
    ///
    /// # Errors
    /// What went wrong on the device before.
    ///
    /// # Panics
    /// If the shapes do not fit the plan.
    pub fn score<T: Kernels>(
        &self,
        queue: &Queue,
        hidden: Rows<'_, T>,
        weight: Rows<'_, T>,
        targets: View<'_, u32>,
    ) -> Result<()> {
        let (rows, v, c) = (hidden.rows, weight.rows, weight.width);
        assert!(rows <= self.rows && v == self.vocabulary, "{rows} rows, {v} ids: more than planned");
        assert_eq!((hidden.width, targets.len()), (c, rows), "shapes of a head");
        hidden.check_aligned();
        weight.check_aligned();
        T::head_forward(
            queue,
            tile_grid(blocks(rows.div_ceil(ROWS).saturating_mul(self.tiles())), 1),
            self.max.view(),
            self.sum.view(),
            self.moment.as_ref().into(),
            self.tempered.as_ref().into(),
            self.target.view(),
            hidden.data,
            weight.data,
            targets,
            rows,
            v,
            c,
            hidden.stride,
            weight.stride,
            // A reciprocal that overflowed would turn a difference of 0 into NaN.
            self.temperature.unwrap_or(1.0).recip().min(f32::MAX),
        )?;
        self.merge(queue, rows)
    }

    fn merge(&self, queue: &Queue, rows: usize) -> Result<()> {
        crate::device::kernels::head_merge(
            queue,
            Grid { blocks: [blocks(rows.div_ceil(MERGED)), 1, 1], threads: THREADS, shared: 0 },
            self.statistics.view(),
            self.entropy.as_ref().into(),
            self.max.view(),
            self.sum.view(),
            self.moment.as_ref().into(),
            self.target.view(),
            rows,
            self.tiles(),
        )
    }

    /// Tiles of the vocabulary.
    pub fn tiles(&self) -> usize {
        self.vocabulary.div_ceil(TILE)
    }

    /// The statistics of the first rows of the last batch, `[rows, 3]`.
    ///
    /// # Panics
    /// If there are fewer rows, as all of these.
    pub fn statistics(&self, rows: usize) -> View<'_, f32> {
        self.statistics.view().slice(0..3 * rows)
    }

    /// The largest logit of each row in each tile, the target left out: `[rows, tiles]`.
    pub fn maxima(&self, rows: usize) -> View<'_, f32> {
        self.max.view().slice(0..rows * self.tiles())
    }

    /// `Σ e^{(l − max)/T}` over each tile, the target left out: `[rows, tiles]`. T is 1 unless planned otherwise.
    pub fn masses(&self, rows: usize) -> View<'_, f32> {
        self.tempered.as_ref().unwrap_or(&self.sum).view().slice(0..rows * self.tiles())
    }

    /// Waits for `after` and reads what the first rows of the last batch got.
    ///
    /// # Errors
    /// What went wrong on the device.
    pub fn read(&self, queue: &Queue, after: &Mark, rows: usize) -> Result<Vec<Scored>> {
        let mut statistics = vec![Statistics { target: 0.0, max: 0.0, rest: 0.0 }; rows];
        queue.read(after, self.statistics(rows), bytemuck::cast_slice_mut(&mut statistics))?;
        let mut entropy = vec![0.0; rows];
        if let Some(buffer) = &self.entropy {
            queue.read(after, buffer.view(), &mut entropy)?;
        }
        let scored = statistics.into_iter().zip(entropy);
        Ok(scored.map(|(statistics, entropy)| Scored { statistics, entropy }).collect())
    }
}

/// Which logits to compute again. A row has `slots` places for tiles, and a pair is a row's index times `slots` plus a
/// place.
#[derive(Clone, Copy)]
pub struct Chosen<'a> {
    /// Rows of the hidden states; as many as there may be.
    pub rows: View<'a, u32>,
    /// The pairs of each tile, `[tiles, rows]`. None: the first `counts[0]` rows want every tile, each in its own place.
    pub pairs: View<'a, u32>,
    /// How many pairs each tile has.
    pub counts: View<'a, u32>,
    /// Places of a row.
    pub slots: usize,
}

/// Logits of chosen rows in chosen tiles, the bits that [`Scores::score`] saw: those of a pair go to `out[TILE · pair ..]`,
/// −∞ past the vocabulary. A tile's weights are read once for up to 128 rows. What `chosen` holds on the device is trusted:
/// with a row, a pair or a count out of range, the kernel reaches past its buffers.
///
/// # Errors
/// What went wrong on the device before.
///
/// # Panics
/// If the shapes do not fit.
pub fn logits_on<T: Kernels>(
    queue: &Queue,
    hidden: Rows<'_, T>,
    weight: Rows<'_, T>,
    chosen: Chosen<'_>,
    out: View<'_, f32>,
) -> Result<()> {
    let Chosen { rows, pairs, counts, slots } = chosen;
    let (capacity, v, c) = (rows.len(), weight.rows, weight.width);
    let tiles = v.div_ceil(TILE);
    let (lists, places) = if pairs.is_empty() { (1, tiles) } else { (tiles, slots) };
    assert_eq!((hidden.width, slots), (c, places), "shapes of a head");
    assert!(pairs.is_empty() || pairs.len() >= tiles.saturating_mul(capacity), "{} pairs", pairs.len());
    assert!(counts.len() >= lists, "{} counts of {lists}", counts.len());
    assert!(out.len() >= capacity.saturating_mul(slots).saturating_mul(TILE), "{} logits", out.len());
    hidden.check_aligned();
    weight.check_aligned();
    let grid = tile_grid(blocks(tiles), blocks(capacity.div_ceil(ROWS)));
    T::head_tiles(
        queue,
        grid,
        out,
        hidden.data,
        weight.data,
        rows,
        pairs,
        counts,
        capacity,
        slots,
        v,
        c,
        hidden.stride,
        weight.stride,
    )
}

fn tile_grid(x: u32, y: u32) -> Grid {
    Grid { blocks: [x, y, 1], threads: THREADS, shared: SHARED }
}
