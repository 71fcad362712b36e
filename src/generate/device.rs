//! Sequences that go on, on a device: tokens go up, draws come down.

use super::backend::{Backend, Draw, DrawConfig, Drawn};
use crate::device::Rows;
use crate::device::kernels::Kernels;
use crate::model::Pack;
use crate::model::device::{Cache, Transformer, Workspace};
use crate::ops::head::{Scored, Scores, WholeRows, chunk_rows};
use crate::ops::sample::{Sampler, Seen};
use crate::score::Statistics;
use crate::{Error, Result};

/// On a device, with all memory planned.
pub(super) struct OnDevice<'m, T: Kernels> {
    transformer: &'m Transformer<T>,
    cache: Cache<T>,
    workspace: Workspace<T>,
    room: usize,
    rows: usize,
    scores: Scores,
    logits: WholeRows,
    /// For as many rows as there are logits of.
    sampler: Sampler,
}

impl<'m, T: Kernels> OnDevice<'m, T> {
    /// For `slots` sequences of up to `capacity` tokens, and packs of up to `room`.
    ///
    /// # Errors
    /// [`Error::Device`] where it has no room for as many.
    pub fn new(transformer: &'m Transformer<T>, slots: usize, capacity: usize, room: usize) -> Result<Self> {
        Self::plan(transformer, slots, capacity, room).map_err(|error| match error {
            Error::OutOfMemory { .. } => transformer.queue().device().error(format!(
                "no room for {slots} sequences of {capacity} tokens: lower --batch-size or --max-length, or use --dtype bf16"
            )),
            other => other,
        })
    }

    fn plan(transformer: &'m Transformer<T>, slots: usize, capacity: usize, room: usize) -> Result<Self> {
        let (queue, config) = (transformer.queue(), transformer.config());
        let vocabulary = config.vocab_size;
        Ok(Self {
            transformer,
            cache: Cache::new(queue, config, slots, capacity, room)?,
            workspace: transformer.workspace(room, capacity)?,
            room,
            rows: 0,
            scores: Scores::new(queue, room, vocabulary, false, None)?,
            logits: WholeRows::new(queue, vocabulary)?,
            sampler: Sampler::new(queue, chunk_rows(vocabulary), vocabulary)?,
        })
    }

    /// Calls `f` with the logits of a bounded number of rows at a time, and the first one's number.
    fn chunks(&self, mut f: impl FnMut(usize, Rows<'_, f32>) -> Result<()>) -> Result<()> {
        let (queue, hidden) = (self.transformer.queue(), self.workspace.hidden(self.rows));
        let chunk = chunk_rows(self.transformer.config().vocab_size);
        for first in (0..self.rows).step_by(chunk) {
            let rows: Vec<_> = (first as u32..self.rows.min(first + chunk) as u32).collect();
            f(first, self.logits.compute(queue, hidden, self.transformer.head(), &rows)?)?;
        }
        Ok(())
    }

    /// Draws from some rows' logits.
    fn draw_rows(
        &self,
        config: DrawConfig,
        logits: Rows<'_, f32>,
        draws: &[Draw],
    ) -> Result<Vec<Option<u32>>> {
        let (queue, sampling) = (self.transformer.queue(), config.sampling);
        let logits = logits.columns(0..config.vocabulary);
        let seen: Vec<&Seen> = draws.iter().filter_map(|draw| draw.seen).collect();
        if !seen.is_empty() {
            self.sampler.penalise(queue, logits, &seen, sampling.repetition_penalty)?;
        }
        let random: Vec<_> = draws.iter().map(|draw| draw.random).collect();
        self.sampler.draw(queue, &sampling, logits, &random)?;
        self.sampler.read(queue, draws.len())
    }
}

impl<T: Kernels> Backend for OnDevice<'_, T> {
    fn room(&self) -> usize {
        self.room
    }

    fn length(&self, slot: usize) -> usize {
        self.cache.length(slot)
    }

    fn truncate(&mut self, slot: usize, length: usize) -> Result<()> {
        self.cache.truncate(slot, length);
        Ok(())
    }

    fn fork(&mut self, from: usize, to: usize, length: usize) -> Result<()> {
        self.cache.fork(from, to, length)
    }

    fn extend(&mut self, pack: &Pack, slots: &[usize]) -> Result<()> {
        self.rows = pack.rows.len();
        self.transformer.extend(pack, slots, &mut self.cache, &mut self.workspace)
    }

    fn score(&mut self) -> Result<Vec<Statistics>> {
        let (queue, rows) = (self.transformer.queue(), self.rows);
        let (hidden, targets) = (self.workspace.hidden(rows), self.workspace.targets(rows));
        self.scores.score(queue, hidden, self.transformer.head(), targets)?;
        let scored = self.scores.read(queue, &queue.mark()?, rows)?;
        Ok(scored.into_iter().map(|Scored { statistics, .. }| statistics).collect())
    }

    fn logits(&mut self, f: &mut dyn FnMut(usize, &[f32])) -> Result<()> {
        self.chunks(|first, logits| {
            let host = self.transformer.queue().download(logits.data)?;
            let rows = host.chunks_exact(logits.stride).zip(first..);
            rows.for_each(|(row, index)| f(index, &row[..logits.width]));
            Ok(())
        })
    }

    fn draw(&mut self, config: DrawConfig, draws: &[Draw]) -> Result<Vec<Option<Drawn>>> {
        let mut ids = Vec::with_capacity(draws.len());
        self.chunks(|first, logits| {
            ids.extend(self.draw_rows(config, logits, &draws[first..first + logits.rows])?);
            Ok(())
        })?;
        let statistics = if config.statistics && !ids.is_empty() {
            let targets: Vec<_> = ids.iter().map(|id| id.unwrap_or(0)).collect();
            self.workspace.set_targets(self.transformer.queue(), &targets)?;
            self.score()?.into_iter().map(Some).collect()
        } else {
            vec![None; ids.len()]
        };
        let drawn = ids.into_iter().zip(statistics);
        Ok(drawn.map(|(id, statistics)| Some(Drawn { id: id?, statistics })).collect())
    }
}
