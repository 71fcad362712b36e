//! Packs on a device: a pass, its head and its edits queue up behind each other, and the host waits for a few bytes a row
//! while the device already works on the next pack.

use std::collections::{HashMap, VecDeque};

use super::{Engine, Request, Results, Runner};
use crate::device::kernels::Kernels;
use crate::device::{Mark, Queue};
use crate::edit::{Constraint, EditConfig, Sampler};
use crate::model::Pack;
use crate::model::device::{Transformer, Workspace};
use crate::ops::draw::Candidate;
use crate::ops::edit::{Batch, Classes, Edit, Origin, ROOM};
use crate::ops::head::{self, Scores, WholeRows};
use crate::{Error, Result};

/// Packs that may be under way: one runs while the host takes the other's results.
const DEPTH: usize = 2;
/// Classes of replacements that are kept; more than text has between any two states of the UTF-8 automaton.
const MAX_CLASSES: usize = 256;

/// A transformer on a device with its work memory.
pub(super) struct OnDevice<'m, T: Kernels> {
    transformer: &'m Transformer<T>,
    tokens: usize,
    workspace: Workspace<T>,
    /// None where nothing is edited.
    replacements: Option<Replacements>,
    /// Each takes a pack's results; in turn.
    lanes: Vec<Lane>,
    next: usize,
    /// Lane and rows of each pack under way, oldest first, and the point behind its work.
    under_way: VecDeque<(usize, usize, Mark)>,
    /// Rows of the pack last collected.
    rows: usize,
    /// None where statistics suffice.
    whole: Option<WholeRows>,
    /// The logits last asked for.
    logits: Vec<f32>,
}

/// Where a pack's results lie until the host reads them.
struct Lane {
    scores: Scores,
    edit: Option<Edit>,
}

impl<'m, T: Kernels> OnDevice<'m, T> {
    /// For the packs of `engine`. Where the device has no room for as many tokens, for half of them, and so on, as long
    /// as a window fits.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]
    pub fn new(transformer: &'m Transformer<T>, engine: &Engine) -> Result<Self> {
        let max_length = engine.config.windows.max_length();
        let mut tokens = engine.budget();
        loop {
            match Self::plan(transformer, engine, tokens) {
                Err(Error::OutOfMemory { .. }) if tokens > max_length => {
                    tokens = (tokens / 2).max(max_length);
                    tracing::warn!("device memory is short: packs of {tokens} tokens");
                }
                result => return result,
            }
        }
    }

    fn plan(transformer: &'m Transformer<T>, engine: &Engine, tokens: usize) -> Result<Self> {
        let (queue, vocabulary) = (transformer.queue(), transformer.config().vocab_size);
        let whole_rows = engine.config.rank || engine.config.top_k > 0;
        let lane = || Lane::new(queue, engine, vocabulary, tokens);
        Ok(Self {
            transformer,
            tokens,
            workspace: transformer.workspace(tokens, engine.config.windows.max_length())?,
            replacements: engine.edit.is_some().then(|| Replacements::new(queue, vocabulary)).transpose()?,
            lanes: (0..if whole_rows { 1 } else { DEPTH }).map(|_| lane()).collect::<Result<_>>()?,
            next: 0,
            under_way: VecDeque::new(),
            rows: 0,
            whole: whole_rows.then(|| WholeRows::new(queue, vocabulary)).transpose()?,
            logits: Vec::new(),
        })
    }
}

impl Lane {
    fn new(queue: &Queue, engine: &Engine, vocabulary: usize, tokens: usize) -> Result<Self> {
        let temperature = engine.edit.as_ref().and_then(mass_temperature);
        let edit = |config| Edit::new(queue, config, vocabulary, tokens, ROOM);
        Ok(Self {
            scores: Scores::new(queue, tokens, vocabulary, engine.config.entropy, temperature)?,
            edit: engine.edit.as_ref().map(edit).transpose()?,
        })
    }
}

/// The temperature of the masses that the head keeps for draws by rejection.
fn mass_temperature(config: &EditConfig) -> Option<f32> {
    let tempered = *config.sampler() == Sampler::Rejection && config.temperature() != 1.0;
    tempered.then_some(config.temperature() as f32)
}

impl<T: Kernels> Runner for OnDevice<'_, T> {
    fn room(&self) -> (usize, usize) {
        (self.tokens, usize::MAX)
    }

    fn depth(&self) -> usize {
        self.lanes.len()
    }

    fn edits(&self) -> bool {
        self.lanes[0].edit.is_some()
    }

    fn submit(&mut self, pack: &Pack, requests: &[Request]) -> Result<()> {
        let Self { transformer, workspace, replacements, lanes, .. } = self;
        let (queue, rows) = (transformer.queue(), pack.rows.len());
        let Lane { scores, edit } = &mut lanes[self.next];
        transformer.forward(pack, workspace)?;
        let (hidden, weight, targets) = (workspace.hidden(rows), transformer.head(), workspace.targets(rows));
        scores.score(queue, hidden, weight, targets)?;
        if let (Some(edit), Some(replacements)) = (edit, replacements) {
            let origins = replacements.origins(queue, requests)?;
            let batch = Batch { hidden, weight, targets, scores };
            if let Some(request) = requests.first() {
                edit.set_generation(request.generation)?;
            }
            edit.launch(queue, &batch, &origins, &replacements.classes)?;
        }
        self.under_way.push_back((self.next, rows, queue.mark()?));
        self.next = (self.next + 1) % self.lanes.len();
        Ok(())
    }

    fn collect(&mut self) -> Result<Results> {
        let Some((lane, rows, mark)) = self.under_way.pop_front() else { return Ok(Results::default()) };
        self.rows = rows;
        let (queue, Lane { scores, edit }) = (self.transformer.queue(), &self.lanes[lane]);
        Ok(Results {
            scored: scores.read(queue, &mark, rows)?,
            outcomes: edit.as_ref().map(|edit| edit.read(queue, &mark, rows)).transpose()?,
        })
    }

    fn largest(&mut self, _: &[usize], _: usize) -> Option<Vec<Vec<Candidate>>> {
        None
    }

    fn chunk_rows(&self) -> usize {
        head::chunk_rows(self.transformer.config().vocab_size)
    }

    fn logits(&mut self, rows: &[usize]) -> Result<(&[f32], usize)> {
        let Self { transformer, workspace, whole, .. } = self;
        let whole = whole.as_ref().expect("planned where rows are asked for");
        let rows: Vec<u32> = rows.iter().map(|row| *row as u32).collect();
        let (queue, hidden) = (transformer.queue(), workspace.hidden(self.rows));
        let computed = whole.compute(queue, hidden, transformer.head(), &rows)?;
        self.logits = queue.download(computed.data)?;
        Ok((&self.logits, computed.stride))
    }
}

/// The tokens that may stand in a place, a set on the device for each class of places.
struct Replacements {
    classes: Classes,
    /// The set of each class that has been met.
    known: HashMap<u32, u32>,
}

/// The empty set, which is always there.
const NOTHING: u32 = 0;

impl Replacements {
    fn new(queue: &Queue, vocabulary: usize) -> Result<Self> {
        let mut classes = Classes::new(queue, vocabulary, 1 + MAX_CLASSES)?;
        classes.add(queue, |_| false)?;
        Ok(Self { classes, known: HashMap::new() })
    }

    /// What the device must know of each row, new classes of places added.
    fn origins(&mut self, queue: &Queue, requests: &[Request]) -> Result<Vec<Origin>> {
        requests.iter().map(|request| self.origin(queue, request)).collect()
    }

    fn origin(&mut self, queue: &Queue, request: &Request) -> Result<Origin> {
        let Request { stream, position, constraint, .. } = *request;
        let editable = constraint.editable(position);
        let class = if editable { self.set(queue, constraint, position)? } else { NOTHING };
        let droppable = constraint.droppable(position);
        Ok(Origin { stream, position: position as u32, class, editable, droppable })
    }

    fn set(&mut self, queue: &Queue, constraint: &dyn Constraint, position: usize) -> Result<u32> {
        let class = constraint.class(position);
        if let Some(set) = self.known.get(&class) {
            return Ok(*set);
        }
        if self.known.len() == MAX_CLASSES {
            return Err(Error::Usage(format!(
                "constraints with more than {MAX_CLASSES} classes of positions"
            )));
        }
        let set = self.classes.add(queue, |id| constraint.allowed(position, id))?;
        self.known.insert(class, set);
        Ok(set)
    }
}
