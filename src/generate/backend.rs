//! A model's device at work on sequences that go on, with their cache.

use rayon::prelude::*;

use super::Sampling;
use crate::Result;
use crate::model::forward::Workspace;
use crate::model::{Cache, Pack, Transformer};
use crate::ops::head::{self, Head, Scored};
use crate::ops::matmul::Rows;
use crate::ops::sample::{Seen, penalise, sample};
use crate::random::Uniform;
use crate::score::Statistics;
use crate::tensor::Element;

/// What to draw from a row.
#[derive(Clone, Copy)]
pub(super) struct Draw<'a> {
    pub random: Uniform,
    /// For a repetition penalty.
    pub seen: Option<&'a Seen>,
}

/// How rows are drawn from, the same for all of a call.
#[derive(Clone, Copy)]
pub(super) struct DrawConfig {
    pub sampling: Sampling,
    /// Ids below it may be drawn.
    pub vocabulary: usize,
    /// Whether statistics are asked for.
    pub statistics: bool,
}

/// A token drawn.
#[derive(Clone, Copy)]
pub(super) struct Drawn {
    pub id: u32,
    /// Of the model's own distribution, where asked for.
    pub statistics: Option<Statistics>,
}

/// A device with a transformer, a cache and the last pack.
pub(super) trait Backend: Send {
    /// Tokens of a pack at most.
    fn room(&self) -> usize;
    /// Tokens in a slot.
    fn length(&self, slot: usize) -> usize;
    /// Forgets all but the first tokens of a slot.
    fn truncate(&mut self, slot: usize, length: usize) -> Result<()>;
    /// Replaces the sequence in a slot by the first tokens of another.
    fn fork(&mut self, from: usize, to: usize, length: usize) -> Result<()>;
    /// Adds the tokens of a pack to the sequences in `slots`, which ascend.
    fn extend(&mut self, pack: &Pack, slots: &[usize]) -> Result<()>;
    /// What the last pack's rows give their targets.
    fn score(&mut self) -> Result<Vec<Statistics>>;
    /// Hands the logits of each of the last pack's rows to `f`.
    fn logits(&mut self, f: &mut dyn FnMut(usize, &[f32])) -> Result<()>;
    /// Draws a token from each of the last pack's rows; none where logits are not finite.
    fn draw(&mut self, config: DrawConfig, draws: &[Draw]) -> Result<Vec<Option<Drawn>>>;
}

/// On the CPU, in the calling thread's pool.
pub(super) struct Cpu<'m, E: Element> {
    transformer: &'m Transformer<E>,
    cache: Cache<E>,
    workspace: Workspace<E>,
    room: usize,
    targets: Vec<u32>,
    rows: usize,
    head: head::Scratch,
    logits: Vec<f32>,
}

impl<'m, E: Element> Cpu<'m, E> {
    /// For `slots` sequences of up to `capacity` tokens, and packs of up to `room`.
    pub fn new(transformer: &'m Transformer<E>, slots: usize, capacity: usize, room: usize) -> Self {
        Self {
            transformer,
            cache: Cache::new(transformer.config(), slots, capacity),
            workspace: transformer.workspace(room, capacity),
            room,
            targets: Vec::new(),
            rows: 0,
            head: head::Scratch::default(),
            logits: Vec::new(),
        }
    }

    fn hidden(&self) -> Rows<'_, E> {
        self.workspace.hidden(self.transformer.config(), self.rows)
    }

    /// Hands the logits of a bounded number of rows at a time to `f`, with the first one's number and their distance.
    fn chunks(&mut self, mut f: impl FnMut(usize, &mut [f32], usize)) {
        let weight = self.transformer.head();
        let chunk = head::chunk_rows(weight.n());
        let (mut scratch, mut logits) = (std::mem::take(&mut self.head), std::mem::take(&mut self.logits));
        for first in (0..self.rows).step_by(chunk) {
            let hidden = self.hidden();
            let rows = chunk.min(self.rows - first);
            let hidden = Rows { data: &hidden.data[first * hidden.stride..], rows, ..hidden };
            let stride = head::logits(hidden, weight, &mut scratch, &mut logits);
            f(first, &mut logits[..rows * stride], stride);
        }
        (self.head, self.logits) = (scratch, logits);
    }
}

impl<E: Element> Backend for Cpu<'_, E> {
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
        self.cache.fork(from, to, length);
        Ok(())
    }

    fn extend(&mut self, pack: &Pack, slots: &[usize]) -> Result<()> {
        self.transformer.extend(pack, slots, &mut self.cache, &mut self.workspace);
        self.targets.clone_from(&pack.targets);
        self.rows = pack.rows.len();
        Ok(())
    }

    fn score(&mut self) -> Result<Vec<Statistics>> {
        let mut scratch = std::mem::take(&mut self.head);
        let weight = self.transformer.head();
        let head = Head { hidden: self.hidden(), weight, targets: &self.targets, entropy: false };
        let scored = head.score(&mut scratch);
        self.head = scratch;
        Ok(scored.into_iter().map(|Scored { statistics, .. }| statistics).collect())
    }

    fn logits(&mut self, f: &mut dyn FnMut(usize, &[f32])) -> Result<()> {
        let vocabulary = self.transformer.head().n();
        self.chunks(|first, logits, stride| {
            let rows = logits.chunks_exact(stride).zip(first..);
            rows.for_each(|(logits, row)| f(row, &logits[..vocabulary]));
        });
        Ok(())
    }

    fn draw(&mut self, config: DrawConfig, draws: &[Draw]) -> Result<Vec<Option<Drawn>>> {
        let (mut drawn, vocabulary) = (Vec::with_capacity(draws.len()), self.transformer.head().n());
        self.chunks(|first, logits, stride| {
            let rows = logits.par_chunks_exact_mut(stride).zip(&draws[first..]);
            let of_row =
                |(logits, draw): (&mut [f32], &Draw)| draw_row(config, &mut logits[..vocabulary], draw);
            drawn.par_extend(rows.map(of_row));
        });
        Ok(drawn)
    }
}

fn draw_row(config: DrawConfig, logits: &mut [f32], draw: &Draw) -> Option<Drawn> {
    let DrawConfig { sampling, vocabulary, statistics } = config;
    let penalised = draw.seen.map(|seen| {
        let mut penalised = logits.to_vec();
        penalise(&mut penalised, seen, sampling.repetition_penalty);
        penalised
    });
    let allowed = &penalised.as_deref().unwrap_or(logits)[..vocabulary];
    let id = sample(&sampling, allowed, draw.random)?;
    let statistics = statistics.then(|| head::statistics(logits, id));
    Some(Drawn { id, statistics })
}
