//! One pack's results, as the scorer and the editor see them.

use rayon::prelude::*;

use super::{Origin, Runner};
use crate::Result;
use crate::edit::Outcome;
use crate::ops::draw::{Candidate, largest};
use crate::ops::head::Scored;

/// One pack's results: a row for each token scored.
pub(crate) struct Batch<'a> {
    pub origins: &'a [Origin],
    pub scored: &'a [Scored],
    /// What became of each row's token, where the model's device has decided.
    pub outcomes: Option<&'a [Outcome]>,
    pub(super) vocabulary: usize,
    pub(super) runner: &'a mut dyn Runner,
}

impl Batch<'_> {
    /// Hands the `k` largest logits of each of `rows`, indices in the batch, to `f`, as [`largest`] orders them.
    pub fn largest(
        &mut self,
        rows: &[usize],
        k: usize,
        mut f: impl FnMut(Origin, &Scored, &[Candidate]) -> Result<()>,
    ) -> Result<()> {
        let Self { origins, scored, .. } = *self;
        if let Some(found) = self.runner.largest(rows, k) {
            let mut found = rows.iter().zip(&found);
            return found.try_for_each(|(&row, found)| f(origins[row], &scored[row], found));
        }
        self.logits(rows, |chunk| {
            let of_row = |row: WholeRow| largest(row.logits, k);
            let found: Vec<_> = chunk.rows().map(of_row).collect();
            let mut found = chunk.rows.iter().zip(&found);
            found.try_for_each(|(&row, found)| f(origins[row], &scored[row], found))
        })
    }

    /// Hands whole rows of logits to `f`, a bounded chunk at a time; `rows` are indices in the batch.
    pub fn logits(&mut self, rows: &[usize], mut f: impl FnMut(&Chunk) -> Result<()>) -> Result<()> {
        let Self { origins, scored, .. } = *self;
        for rows in rows.chunks(self.runner.chunk_rows()) {
            let (logits, stride) = self.runner.logits(rows)?;
            f(&Chunk { rows, origins, scored, logits, stride, vocabulary: self.vocabulary })?;
        }
        Ok(())
    }
}

/// Some rows of a batch with all their logits.
pub(crate) struct Chunk<'a> {
    rows: &'a [usize],
    origins: &'a [Origin],
    scored: &'a [Scored],
    logits: &'a [f32],
    stride: usize,
    vocabulary: usize,
}

/// One row of a chunk.
#[derive(Clone, Copy)]
pub(crate) struct WholeRow<'a> {
    pub origin: Origin,
    pub scored: &'a Scored,
    /// `vocab_size` raw logits.
    pub logits: &'a [f32],
}

impl<'a> Chunk<'a> {
    /// The rows, in order.
    pub fn rows(&self) -> impl IndexedParallelIterator<Item = WholeRow<'a>> {
        let Self { origins, scored, vocabulary, .. } = *self;
        self.rows.par_iter().zip(self.logits.par_chunks_exact(self.stride)).map(move |(row, logits)| {
            WholeRow { origin: origins[*row], scored: &scored[*row], logits: &logits[..vocabulary] }
        })
    }
}
