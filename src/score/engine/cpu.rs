//! Packs on the CPU, in the calling thread's pool.

use super::{Request, Results, Runner};
use crate::Result;
use crate::model::forward::Workspace;
use crate::model::{Pack, Transformer};
use crate::ops::draw::Candidate;
use crate::ops::head::{self, Head, Scored};
use crate::ops::matmul::Rows;
use crate::tensor::Element;

/// A transformer with its work memory. A pack is done by the time that it is taken on.
pub(super) struct Cpu<'m, E: Element> {
    transformer: &'m Transformer<E>,
    tokens: usize,
    workspace: Workspace<E>,
    entropy: bool,
    head: head::Scratch,
    /// Targets, one for each row, and results of the last pack.
    targets: Vec<u32>,
    scored: Vec<Scored>,
    gathered: Vec<E>,
    logits: Vec<f32>,
}

impl<'m, E: Element> Cpu<'m, E> {
    /// For packs of up to `tokens` tokens in windows of up to `max_length`.
    pub fn new(transformer: &'m Transformer<E>, tokens: usize, max_length: usize, entropy: bool) -> Self {
        Self {
            transformer,
            tokens,
            workspace: transformer.workspace(tokens, max_length),
            entropy,
            head: head::Scratch::default(),
            targets: Vec::new(),
            scored: Vec::new(),
            gathered: Vec::new(),
            logits: Vec::new(),
        }
    }

    /// The head of the last pack.
    fn last(&self) -> Head<'_, E> {
        let Self { transformer, workspace, targets, entropy, .. } = self;
        let hidden = workspace.hidden(transformer.config(), targets.len());
        Head { hidden, weight: transformer.head(), targets, entropy: *entropy }
    }
}

impl<E: Element> Runner for Cpu<'_, E> {
    fn room(&self) -> (usize, usize) {
        (self.tokens, Transformer::<E>::key_block_budget(self.tokens))
    }

    fn depth(&self) -> usize {
        1
    }

    fn edits(&self) -> bool {
        false
    }

    fn submit(&mut self, pack: &Pack, _: &[Request]) -> Result<()> {
        self.transformer.forward(pack, &mut self.workspace);
        self.targets.clone_from(&pack.targets);
        let mut scratch = std::mem::take(&mut self.head);
        self.scored = self.last().score(&mut scratch);
        self.head = scratch;
        Ok(())
    }

    fn collect(&mut self) -> Result<Results> {
        Ok(Results { scored: std::mem::take(&mut self.scored), outcomes: None })
    }

    fn chunk_rows(&self) -> usize {
        head::chunk_rows(self.transformer.config().vocab_size)
    }

    fn largest(&mut self, rows: &[usize], k: usize) -> Option<Vec<Vec<Candidate>>> {
        self.last().largest(rows, k, &self.head)
    }

    fn logits(&mut self, rows: &[usize]) -> Result<(&[f32], usize)> {
        let hidden = self.workspace.hidden(self.transformer.config(), self.targets.len());
        self.gathered.clear();
        for row in rows {
            self.gathered.extend_from_slice(&hidden.data[row * hidden.stride..][..hidden.stride]);
        }
        let gathered = Rows { data: &self.gathered, rows: rows.len(), ..hidden };
        let stride = head::logits(gathered, self.transformer.head(), &mut self.head, &mut self.logits);
        Ok((&self.logits, stride))
    }
}
