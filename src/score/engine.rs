//! Documents into packs, packs through the model, rows back to their documents.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use half::bf16;
use rayon::prelude::*;

use super::{ScoreConfig, Statistics};
use crate::model::forward::Workspace;
use crate::model::{AnyTransformer, Model, Pack, Transformer};
use crate::ops::head::{self, Scored};
use crate::ops::matmul::Rows;
use crate::tensor::{Element, PANEL};
use crate::{Error, Result};

/// Work memory for one pass, kept between calls.
enum State {
    F32(Memory<f32>),
    Bf16(Memory<bf16>),
}

struct Memory<E> {
    workspace: Workspace<E>,
    head: head::Scratch,
    gathered: Vec<E>,
    logits: Vec<f32>,
}

/// A model with everything that scoring packs needs; shared by threads, each taking its own work memory.
pub(crate) struct Engine<'m> {
    model: &'m Model,
    config: ScoreConfig,
    idle: Mutex<Vec<State>>,
}

/// A document for the model: tokens before it that are context only, such as a BOS, and its own.
#[derive(Clone, Copy, Debug)]
pub struct Sequence<'a> {
    /// Never scored.
    pub context: &'a [u32],
    /// Position 0 is the first of these.
    pub ids: &'a [u32],
}

impl Sequence<'_> {
    /// Tokens, the context included.
    pub(crate) fn len(&self) -> usize {
        self.context.len() + self.ids.len()
    }

    fn id(&self, position: usize) -> u32 {
        let context = self.context.len();
        if position < context { self.context[position] } else { self.ids[position - context] }
    }
}

/// Where a scored row belongs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub document: usize,
    /// Among the document's own tokens, from 0.
    pub position: usize,
}

/// One pack's results: a row for each token scored.
pub(crate) struct Batch<'a> {
    pub origins: &'a [Origin],
    pub scored: &'a [Scored],
    vocabulary: usize,
    head: &'a mut dyn WholeRows,
}

impl Batch<'_> {
    /// Hands whole rows of logits to `f`, a bounded chunk at a time; `rows` are indices in the batch.
    pub fn logits(&mut self, rows: &[usize], mut f: impl FnMut(&Chunk) -> Result<()>) -> Result<()> {
        let Self { origins, scored, .. } = *self;
        for rows in rows.chunks(self.head.chunk_rows()) {
            let (logits, stride) = self.head.logits(rows);
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

/// Rows of logits of the pack at hand, whatever its type.
trait WholeRows {
    fn chunk_rows(&self) -> usize;
    /// The rows one after the other, and the distance between them.
    fn logits(&mut self, rows: &[usize]) -> (&[f32], usize);
}

struct PackHead<'a, E: Element> {
    transformer: &'a Transformer<E>,
    hidden: Rows<'a, E>,
    head: &'a mut head::Scratch,
    gathered: &'a mut Vec<E>,
    logits: &'a mut Vec<f32>,
}

impl<E: Element> WholeRows for PackHead<'_, E> {
    fn chunk_rows(&self) -> usize {
        head::chunk_rows(self.transformer.config().vocab_size)
    }

    fn logits(&mut self, rows: &[usize]) -> (&[f32], usize) {
        let stride = self.hidden.stride;
        self.gathered.clear();
        for row in rows {
            self.gathered.extend_from_slice(&self.hidden.data[row * stride..][..stride]);
        }
        let gathered = Rows { data: self.gathered, stride, rows: rows.len() };
        let stride = head::logits(gathered, self.transformer.head(), self.head, self.logits);
        (self.logits, stride)
    }
}

impl<'m> Engine<'m> {
    pub fn new(model: &'m Model, config: ScoreConfig) -> Self {
        Self { model, config, idle: Mutex::default() }
    }

    /// The windows of a sequence.
    pub fn windows(&self, sequence: &Sequence) -> usize {
        self.config.windows.windows(sequence.len()).count()
    }

    pub fn config(&self) -> &ScoreConfig {
        &self.config
    }

    /// Scores the documents pack by pack; `visit` sees each pack's rows in order.
    pub fn run(&self, documents: &[Sequence], mut visit: impl FnMut(&mut Batch) -> Result<()>) -> Result<()> {
        self.check_ids(documents)?;
        let mut state = self.take_state();
        let result = match (&self.model.transformer, &mut state) {
            (AnyTransformer::F32(transformer), State::F32(memory)) => {
                self.run_packs(transformer, memory, documents, &mut visit)
            }
            (AnyTransformer::Bf16(transformer), State::Bf16(memory)) => {
                self.run_packs(transformer, memory, documents, &mut visit)
            }
            _ => unreachable!("memory is made for the model"),
        };
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(state);
        result
    }

    /// An id that the model has no embedding for is the document's fault.
    fn check_ids(&self, documents: &[Sequence]) -> Result<()> {
        let vocabulary = self.model.config().vocab_size;
        for (index, Sequence { context, ids }) in documents.iter().enumerate() {
            if let Some(id) = context.iter().find(|id| **id as usize >= vocabulary) {
                let reason = format!("context token id {id}: the model's vocabulary has {vocabulary} ids");
                return Err(Error::Usage(reason));
            }
            if let Some(position) = ids.iter().position(|id| *id as usize >= vocabulary) {
                let reason = format!(
                    "token id {} at position {position}: the model's vocabulary has {vocabulary} ids",
                    ids[position]
                );
                return Err(Error::Document { index, reason });
            }
        }
        Ok(())
    }

    fn take_state(&self) -> State {
        if let Some(state) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return state;
        }
        match &self.model.transformer {
            AnyTransformer::F32(transformer) => State::F32(self.memory(transformer)),
            AnyTransformer::Bf16(transformer) => State::Bf16(self.memory(transformer)),
        }
    }

    fn memory<E: Element>(&self, transformer: &Transformer<E>) -> Memory<E> {
        let max_length = self.config.windows.max_length();
        Memory {
            workspace: transformer.workspace(self.budget(), max_length),
            head: head::Scratch::default(),
            gathered: Vec::new(),
            logits: Vec::new(),
        }
    }

    /// Tokens of a pack: a whole window fits.
    fn budget(&self) -> usize {
        self.config.batch_tokens.max(self.config.windows.max_length())
    }

    fn run_packs<E: Element>(
        &self,
        transformer: &Transformer<E>,
        memory: &mut Memory<E>,
        documents: &[Sequence],
        visit: &mut impl FnMut(&mut Batch) -> Result<()>,
    ) -> Result<()> {
        let mut packer = Packer::new(self.budget());
        for (document, sequence) in documents.iter().enumerate() {
            for window in self.config.windows.windows(sequence.len()) {
                let scored = window.first_scored.max(sequence.context.len())..window.end;
                if scored.is_empty() {
                    continue;
                }
                if !packer.fits(window.end - window.start) {
                    self.run_pack(transformer, memory, &packer, visit)?;
                    packer.clear();
                }
                packer.push(document, sequence, window.start..window.end, scored);
            }
        }
        if !packer.origins.is_empty() {
            self.run_pack(transformer, memory, &packer, visit)?;
        }
        Ok(())
    }

    fn run_pack<E: Element>(
        &self,
        transformer: &Transformer<E>,
        memory: &mut Memory<E>,
        packer: &Packer,
        visit: &mut impl FnMut(&mut Batch) -> Result<()>,
    ) -> Result<()> {
        self.config.check_stop()?;
        transformer.forward(&packer.pack, &mut memory.workspace);
        let hidden = memory.workspace.hidden(transformer.config(), packer.pack.rows.len());
        let (weight, targets, entropy) = (transformer.head(), &packer.pack.targets[..], self.config.entropy);
        let scored = head::Head { hidden, weight, targets, entropy }.score(&mut memory.head);
        check_finite(&scored, &packer.origins)?;
        let Memory { head, gathered, logits, .. } = memory;
        let mut head = PackHead { transformer, hidden, head, gathered, logits };
        let vocabulary = transformer.config().vocab_size;
        visit(&mut Batch { origins: &packer.origins, scored: &scored, vocabulary, head: &mut head })
    }
}

fn check_finite(scored: &[Scored], origins: &[Origin]) -> Result<()> {
    let finite = |scored: &Scored| Statistics::is_finite(&scored.statistics);
    match scored.iter().position(|scored| !finite(scored)) {
        None => Ok(()),
        Some(row) => Err(Error::Document {
            index: origins[row].document,
            reason: format!(
                "the model's logits at position {} are not finite: a weight or an activation overflows; try --dtype f32",
                origins[row].position
            ),
        }),
    }
}

/// Collects windows until the budget is full.
struct Packer {
    budget: usize,
    pack: Pack,
    key_blocks: usize,
    origins: Vec<Origin>,
}

impl Packer {
    fn new(budget: usize) -> Self {
        let pack = Pack { cu_seqlens: vec![0], ..Pack::default() };
        Self { budget, pack, key_blocks: 0, origins: Vec::new() }
    }

    fn fits(&self, tokens: usize) -> bool {
        self.pack.ids.len() + tokens <= self.budget
            && self.key_blocks + tokens.div_ceil(PANEL) <= Transformer::<f32>::key_block_budget(self.budget)
    }

    fn clear(&mut self) {
        self.pack.ids.clear();
        self.pack.cu_seqlens.truncate(1);
        self.pack.rows.clear();
        self.pack.targets.clear();
        self.origins.clear();
        self.key_blocks = 0;
    }

    /// Adds the positions `window` of a sequence, of which `scored` are to be scored.
    fn push(&mut self, document: usize, sequence: &Sequence, window: Range<usize>, scored: Range<usize>) {
        let base = self.pack.ids.len();
        for position in scored {
            self.pack.rows.push(base + position - 1 - window.start);
            self.pack.targets.push(sequence.id(position));
            self.origins.push(Origin { document, position: position - sequence.context.len() });
        }
        self.key_blocks += window.len().div_ceil(PANEL);
        self.pack.ids.extend(window.map(|position| sequence.id(position)));
        self.pack.cu_seqlens.push(self.pack.ids.len());
    }
}
