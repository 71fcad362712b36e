//! Documents into packs, packs through the model, rows back to their documents.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

mod batch;
mod cpu;
#[cfg(kernels)]
mod device;
mod packer;

pub(crate) use batch::{Batch, Chunk, WholeRow};
use cpu::Cpu;
#[cfg(kernels)]
use device::OnDevice;
use packer::Packer;

use super::sequence::Stretch;
use super::{ScoreConfig, Sequence, Statistics};
use crate::edit::{Constraint, EditConfig, Outcome};
use crate::model::{AnyTransformer, Model, Pack};
use crate::ops::draw::Candidate;
use crate::ops::head::Scored;
use crate::{Error, Result};

/// A model with everything that scoring packs needs; shared by threads, each taking its own work memory.
pub(crate) struct Engine<'m> {
    model: &'m Model,
    config: ScoreConfig,
    #[cfg_attr(not(kernels), expect(dead_code, reason = "the CPU leaves editing to the editor"))]
    edit: Option<EditConfig>,
    idle: Mutex<Vec<Box<dyn Runner + 'm>>>,
}

/// Names the first id that a vocabulary of so many ids does not have.
pub(crate) fn unknown_id(ids: &[u32], vocabulary: usize) -> Option<String> {
    let position = ids.iter().position(|id| *id as usize >= vocabulary)?;
    let id = ids[position];
    Some(format!("token id {id} at position {position}: the model's vocabulary has {vocabulary} ids"))
}

/// Where a scored row belongs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub document: usize,
    /// Among the document's own tokens, from 0.
    pub position: usize,
}

/// What is asked for a row that may be edited.
#[derive(Clone, Copy)]
#[cfg_attr(not(kernels), expect(dead_code, reason = "the CPU asks the editor"))]
pub(crate) struct Request<'a> {
    /// The document's stream of random numbers.
    pub stream: u64,
    /// The same for all rows of a call.
    pub generation: u32,
    pub position: usize,
    pub constraint: &'a dyn Constraint,
}

/// A pack's rows, in order.
#[derive(Default)]
struct Results {
    scored: Vec<Scored>,
    /// What became of each row's token, where the runner edits.
    outcomes: Option<Vec<Outcome>>,
}

/// A model's device at work, with its work memory.
trait Runner: Send {
    /// Tokens of a pack at most, and blocks of keys, of which every document starts a new one.
    fn room(&self) -> (usize, usize);
    /// How many packs may be under way.
    fn depth(&self) -> usize;
    /// Whether it decides on edits.
    fn edits(&self) -> bool;
    /// Takes on a pack, with a request for each of its rows where they are to be edited.
    fn submit(&mut self, pack: &Pack, requests: &[Request]) -> Result<()>;
    /// Waits for the oldest pack under way and gives its rows' results.
    fn collect(&mut self) -> Result<Results>;
    /// The `k` largest logits of each of some rows of the pack last collected, best first, where there is a faster way to
    /// them than whole rows.
    fn largest(&mut self, rows: &[usize], k: usize) -> Option<Vec<Vec<Candidate>>>;
    /// Whole rows of logits that are held at a time.
    fn chunk_rows(&self) -> usize;
    /// Whole rows of logits of the pack last collected, one after the other, and the distance between them; only where
    /// no other is under way.
    fn logits(&mut self, rows: &[usize]) -> Result<(&[f32], usize)>;
}

/// A runner with the packs that it works on.
struct Line<'a, 'm, 'r> {
    engine: &'a Engine<'m>,
    request: Option<&'a dyn Fn(&Origin) -> Request<'r>>,
    runner: Box<dyn Runner + 'm>,
    packer: Packer,
    /// Where the rows of each pack under way belong, oldest first.
    under_way: VecDeque<Vec<Origin>>,
}

impl<'m> Engine<'m> {
    pub fn new(model: &'m Model, config: ScoreConfig) -> Self {
        Self { model, config, edit: None, idle: Mutex::default() }
    }

    /// Lets devices that can decide on edits do so.
    pub fn editing(self, edit: EditConfig) -> Self {
        Self { edit: Some(edit), ..self }
    }

    /// The windows of a sequence.
    pub fn windows(&self, sequence: &Sequence) -> usize {
        sequence.windows(&self.config.windows)
    }

    /// Ids of the model.
    pub fn vocabulary(&self) -> usize {
        self.model.config().vocab_size
    }

    pub fn config(&self) -> &ScoreConfig {
        &self.config
    }

    /// Scores the documents pack by pack; `visit` sees each pack's rows in order. An editor says what it asks for a row.
    pub fn run<'r>(
        &self,
        documents: &[Sequence],
        request: Option<&dyn Fn(&Origin) -> Request<'r>>,
        mut visit: impl FnMut(&mut Batch) -> Result<()>,
    ) -> Result<()> {
        self.check_ids(documents)?;
        let runner = self.runner()?;
        let (tokens, key_blocks) = runner.room();
        let packer = Packer::new(tokens, key_blocks);
        let mut line = Line { engine: self, request, runner, packer, under_way: VecDeque::new() };
        line.run(documents, &mut visit)?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(line.runner);
        Ok(())
    }

    /// An id that the model has no embedding for is the document's fault.
    fn check_ids(&self, documents: &[Sequence]) -> Result<()> {
        let vocabulary = self.model.config().vocab_size;
        for (index, Sequence { context, ids, .. }) in documents.iter().enumerate() {
            if let Some(id) = context.iter().find(|id| **id as usize >= vocabulary) {
                let reason = format!("context token id {id}: the model's vocabulary has {vocabulary} ids");
                return Err(Error::Usage(reason));
            }
            if let Some(reason) = unknown_id(ids, vocabulary) {
                return Err(Error::Document { index, reason });
            }
        }
        Ok(())
    }

    fn runner(&self) -> Result<Box<dyn Runner + 'm>> {
        if let Some(runner) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Ok(runner);
        }
        let (tokens, max_length) = (self.budget(), self.config.windows.max_length());
        Ok(match &self.model.transformer {
            AnyTransformer::F32(model) => Box::new(Cpu::new(model, tokens, max_length, self.config.entropy)),
            AnyTransformer::Bf16(model) => Box::new(Cpu::new(model, tokens, max_length, self.config.entropy)),
            #[cfg(kernels)]
            AnyTransformer::DeviceF32(model) => Box::new(OnDevice::new(model, self)?),
            #[cfg(kernels)]
            AnyTransformer::DeviceBf16(model) => Box::new(OnDevice::new(model, self)?),
        })
    }

    /// Tokens of a pack: a whole window fits.
    fn budget(&self) -> usize {
        self.config.batch_tokens.max(self.config.windows.max_length())
    }
}

impl Line<'_, '_, '_> {
    fn run(
        &mut self,
        documents: &[Sequence],
        visit: &mut impl FnMut(&mut Batch) -> Result<()>,
    ) -> Result<()> {
        for (document, sequence) in documents.iter().enumerate() {
            for stretch in sequence.stretches() {
                self.stretch(document, &stretch, visit)?;
            }
        }
        if !self.packer.origins.is_empty() {
            self.submit()?;
        }
        self.collect(0, visit)
    }

    /// Takes a document's stretch window by window.
    fn stretch(
        &mut self,
        document: usize,
        stretch: &Stretch,
        visit: &mut impl FnMut(&mut Batch) -> Result<()>,
    ) -> Result<()> {
        for window in self.engine.config.windows.windows(stretch.len()) {
            let scored = window.first_scored.max(stretch.context.len())..window.end;
            if stretch.scored(scored.clone()).next().is_none() {
                continue;
            }
            if !self.packer.fits(window.end - window.start) {
                self.submit()?;
                self.collect(self.runner.depth() - 1, visit)?;
            }
            self.packer.push(document, stretch, window.start..window.end, scored);
        }
        Ok(())
    }

    fn submit(&mut self) -> Result<()> {
        self.engine.config.check_stop()?;
        let requests: Vec<_> = match self.request {
            Some(request) if self.runner.edits() => self.packer.origins.iter().map(request).collect(),
            _ => Vec::new(),
        };
        self.runner.submit(&self.packer.pack, &requests)?;
        self.under_way.push_back(self.packer.take_origins());
        Ok(())
    }

    /// Visits packs until `left` are under way.
    fn collect(&mut self, left: usize, visit: &mut impl FnMut(&mut Batch) -> Result<()>) -> Result<()> {
        while self.under_way.len() > left {
            let Some(origins) = self.under_way.pop_front() else { break };
            let Results { scored, outcomes } = self.runner.collect()?;
            check_finite(&scored, &origins)?;
            visit(&mut Batch {
                origins: &origins,
                scored: &scored,
                outcomes: outcomes.as_deref(),
                vocabulary: self.engine.model.config().vocab_size,
                runner: &mut *self.runner,
            })?;
        }
        Ok(())
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
