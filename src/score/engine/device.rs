//! Packs on a device: a pass and its head queue up behind each other, and the host waits for a few numbers a row.

use super::Runner;
use crate::device::kernels::Kernels;
use crate::device::{Buffer, Mark, Queue};
use crate::model::Pack;
use crate::model::device::{Transformer, Workspace};
use crate::ops::head::{self, Chosen, Scored, Scores, TILE, logits_on};
use crate::{Error, Result};

/// A transformer on a device with its work memory.
pub(super) struct OnDevice<'m, T: Kernels> {
    transformer: &'m Transformer<T>,
    tokens: usize,
    workspace: Workspace<T>,
    scores: Scores,
    /// Rows of the last pack, and the point behind its work.
    last: Option<(usize, Mark)>,
    rows: usize,
    whole: Option<WholeRows>,
}

impl<'m, T: Kernels> OnDevice<'m, T> {
    /// For packs of up to `tokens` tokens in windows of up to `max_length`. Where the device has no room for as many, for
    /// half of them, and so on, as long as a window fits.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]
    pub fn new(
        transformer: &'m Transformer<T>,
        mut tokens: usize,
        max_length: usize,
        entropy: bool,
    ) -> Result<Self> {
        loop {
            match Self::plan(transformer, tokens, max_length, entropy) {
                Err(Error::OutOfMemory { .. }) if tokens > max_length => {
                    tokens = (tokens / 2).max(max_length);
                    tracing::warn!("device memory is short: packs of {tokens} tokens");
                }
                result => return result,
            }
        }
    }

    fn plan(
        transformer: &'m Transformer<T>,
        tokens: usize,
        max_length: usize,
        entropy: bool,
    ) -> Result<Self> {
        let vocabulary = transformer.config().vocab_size;
        Ok(Self {
            transformer,
            tokens,
            workspace: transformer.workspace(tokens, max_length)?,
            scores: Scores::new(transformer.queue(), tokens, vocabulary, entropy, None)?,
            last: None,
            rows: 0,
            whole: None,
        })
    }
}

impl<T: Kernels> Runner for OnDevice<'_, T> {
    fn tokens(&self) -> usize {
        self.tokens
    }

    fn depth(&self) -> usize {
        1
    }

    fn submit(&mut self, pack: &Pack) -> Result<()> {
        let Self { transformer, workspace, scores, .. } = self;
        let (queue, rows) = (transformer.queue(), pack.rows.len());
        transformer.forward(pack, workspace)?;
        scores.score(queue, workspace.hidden(rows), transformer.head(), workspace.targets(rows))?;
        self.last = Some((rows, queue.mark()?));
        Ok(())
    }

    fn collect(&mut self) -> Result<Vec<Scored>> {
        let Some((rows, mark)) = self.last.take() else { return Ok(Vec::new()) };
        self.rows = rows;
        self.scores.read(self.transformer.queue(), &mark, rows)
    }

    fn chunk_rows(&self) -> usize {
        head::chunk_rows(self.transformer.config().vocab_size)
    }

    fn logits(&mut self, rows: &[usize]) -> Result<(&[f32], usize)> {
        let chunk = self.chunk_rows();
        let Self { transformer, workspace, scores, whole, .. } = self;
        let whole = match whole {
            Some(whole) => whole,
            None => whole.insert(WholeRows::new(transformer.queue(), chunk, scores.tiles())?),
        };
        whole.compute(transformer, workspace, self.rows, rows)?;
        Ok((&whole.host, whole.tiles * TILE))
    }
}

/// Whole rows of logits, a bounded chunk of them.
struct WholeRows {
    tiles: usize,
    rows: Buffer<u32>,
    count: Buffer<u32>,
    logits: Buffer<f32>,
    host: Vec<f32>,
}

impl WholeRows {
    fn new(queue: &Queue, rows: usize, tiles: usize) -> Result<Self> {
        Ok(Self {
            tiles,
            rows: queue.alloc(rows)?,
            count: queue.alloc(1)?,
            logits: queue.alloc(rows * tiles * TILE)?,
            host: Vec::new(),
        })
    }

    fn compute<T: Kernels>(
        &mut self,
        transformer: &Transformer<T>,
        workspace: &Workspace<T>,
        batch: usize,
        rows: &[usize],
    ) -> Result<()> {
        let queue = transformer.queue();
        let indices: Vec<u32> = rows.iter().map(|row| *row as u32).collect();
        queue.write(self.rows.view(), &indices)?;
        queue.write(self.count.view(), &[rows.len() as u32])?;
        let chosen = Chosen {
            rows: self.rows.view().slice(0..rows.len()),
            pairs: crate::device::View::none(),
            counts: self.count.view(),
            slots: self.tiles,
        };
        logits_on(queue, workspace.hidden(batch), transformer.head(), chosen, self.logits.view())?;
        self.host = queue.download(self.logits.view().slice(0..rows.len() * self.tiles * TILE))?;
        Ok(())
    }
}
