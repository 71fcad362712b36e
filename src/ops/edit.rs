//! Edit on a device: what becomes of each row that the head scored, decided where the head left its parts.
//!
//! The decisions are those that [`crate::edit::rules`] and [`super::draw`] take on the CPU, but where roundings fall on
//! different sides. The host sends 16 bytes for each row, launches for the worst case that every row is resampled, and
//! reads 9 bytes for each row; in between it waits for nothing. Work memory is planned once, for the largest batch.
//! Tests compare it with the CPU on the same logits.

mod draws;
mod rules;

use bytemuck::cast_slice;

use self::draws::{Draws, grid};
use super::head::{Scores, TILE};
use crate::Result;
use crate::device::kernels::{Kernels, edit_decide};
use crate::device::{Buffer, Mark, Queue, Rows, View};
use crate::edit::{Action, EditConfig, Outcome};
use crate::random::{Purpose, Stream};

/// Bytes of logits that drawing holds at a time, unless there is a reason for another number.
pub const ROOM: usize = 64 << 20;

/// What must be known of a row's token.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// The document's stream of random numbers.
    pub stream: u64,
    /// The token's position in the document.
    pub position: u32,
    /// The class of tokens that may replace it, as [`Classes::add`] gave it.
    pub class: u32,
    /// Whether it may be edited at all.
    pub editable: bool,
    /// Whether the document may lose it.
    pub droppable: bool,
}

impl Origin {
    /// As the kernels read it.
    fn words(&self, original_allowed: bool) -> [u32; 4] {
        let flags = [self.editable, self.droppable, original_allowed];
        let bits = flags.iter().zip([31, 30, 29]).map(|(&flag, bit)| u32::from(flag) << bit);
        let stream = self.stream;
        [stream as u32, (stream >> 32) as u32, self.position, bits.sum::<u32>() | self.class]
    }
}

/// As the kernels tell it. A row whose logits are not finite is kept: its statistics tell.
fn outcome(code: u8, id: u32, logit: f32) -> Outcome {
    match code {
        1 => Outcome::NotEditable,
        2 => Outcome::Dropped,
        3 => Outcome::NoAlternative,
        4 => Outcome::Drawn { id, logit },
        _ => Outcome::Kept,
    }
}

/// The classes of tokens that may stand in one place, a bit for each id of the vocabulary.
pub struct Classes {
    vocabulary: usize,
    /// `[max, ⌈V / 32⌉]`
    device: Buffer<u32>,
    count: u32,
}

impl Classes {
    /// Room for `max` classes, none of them yet.
    ///
    /// # Errors
    /// As [`Queue::alloc`].
    pub fn new(queue: &Queue, vocabulary: usize, max: usize) -> Result<Self> {
        let words = max.saturating_mul(vocabulary.div_ceil(32));
        Ok(Self { vocabulary, device: queue.alloc(words)?, count: 0 })
    }

    /// Adds the class of ids that are `allowed`, and returns its number.
    ///
    /// # Errors
    /// What went wrong on the device before.
    ///
    /// # Panics
    /// If there is no room.
    pub fn add(&mut self, queue: &Queue, allowed: impl Fn(u32) -> bool) -> Result<u32> {
        let bit = |id: usize| u32::from(id < self.vocabulary && allowed(id as u32)) << (id % 32);
        let word = |first: usize| (first..first + 32).map(bit).sum::<u32>();
        let words: Vec<_> = (0..self.vocabulary).step_by(32).map(word).collect();
        let start = self.count as usize * words.len();
        queue.write(self.device.view().slice(start..start + words.len()), &words)?;
        self.count += 1;
        Ok(self.count - 1)
    }
}

/// A batch as the head read it, and what it left.
#[derive(Clone, Copy)]
pub struct Batch<'a, E> {
    /// `[rows, C]`
    pub hidden: Rows<'a, E>,
    /// `[V, C]`
    pub weight: Rows<'a, E>,
    /// `[rows]`: the tokens that the text has.
    pub targets: View<'a, u32>,
    /// Of these rows and targets; for rejection, at the temperature of the draw.
    pub scores: &'a Scores,
}

/// Edits batches of rows on one device, one batch at a time.
pub struct Edit {
    vocabulary: usize,
    /// Rows of the largest batch.
    rows: usize,
    seed: u64,
    tag: u32,
    inverse_temperature: f64,
    original_allowed: bool,
    rules: Buffer<u32>,
    factors: Buffer<f64>,
    origins: Buffer<u32>,
    outcomes: Buffer<u8>,
    new_ids: Buffer<u32>,
    new_logits: Buffer<f32>,
    /// None where no rule resamples.
    draws: Option<Draws>,
}

impl Edit {
    /// Prepares for batches of up to `rows` rows of a model of `vocabulary` ids, holding about `room` bytes of logits at a
    /// time: those of the tiles that top-k of at most 32 needs, or whole rows. The head's weight is read once for each
    /// `room`-full; [`ROOM`] is plenty.
    ///
    /// # Errors
    /// As [`Queue::alloc`].
    pub fn new(
        queue: &Queue,
        config: &EditConfig,
        vocabulary: usize,
        rows: usize,
        room: usize,
    ) -> Result<Self> {
        let (codes, factors): (Vec<_>, Vec<_>) = config.rules().iter().map(rules::encode).unzip();
        let resamples = config.rules().iter().any(|rule| rule.action() == Action::Resample);
        let draws = resamples.then(|| Draws::new(queue, config.sampler(), vocabulary, rows, room));
        let draws = draws.transpose()?;
        Ok(Self {
            vocabulary,
            rows,
            seed: config.seed(),
            tag: Stream::new(config.seed(), 0, Purpose::Edit, config.generation())?.tag(),
            // A reciprocal that overflowed would turn a difference of 0 into NaN.
            inverse_temperature: config.temperature().recip().min(f64::MAX),
            original_allowed: !config.exclude_original(),
            rules: queue.upload(&codes)?,
            factors: queue.upload(&factors.concat())?,
            origins: queue.alloc(4 * rows)?,
            outcomes: queue.alloc(rows)?,
            new_ids: queue.alloc(rows)?,
            new_logits: queue.alloc(rows)?,
            draws,
        })
    }

    /// Draws as in this generation from the next launch on, instead of that of the configuration.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] if it exceeds [`Stream::MAX_GENERATION`].
    pub fn set_generation(&mut self, generation: u32) -> Result<()> {
        self.tag = Stream::new(self.seed, 0, Purpose::Edit, generation)?.tag();
        Ok(())
    }

    /// Decides on a batch: `origins` has an entry for each of its rows. What the batch holds on the device is trusted:
    /// targets of the vocabulary, and the scores of these rows.
    ///
    /// # Errors
    /// What went wrong on the device before.
    ///
    /// # Panics
    /// If there are more rows than planned, shapes differ, or a class is unknown.
    pub fn launch<E: Kernels>(
        &self,
        queue: &Queue,
        batch: &Batch<'_, E>,
        origins: &[Origin],
        classes: &Classes,
    ) -> Result<()> {
        let rows = origins.len();
        assert!(rows <= self.rows, "{rows} rows: planned for {}", self.rows);
        assert_eq!((batch.hidden.rows, batch.targets.len()), (rows, rows), "rows of a batch");
        assert_eq!(
            (batch.weight.rows, batch.weight.width),
            (self.vocabulary, batch.hidden.width),
            "shape of a weight"
        );
        batch.hidden.check_aligned();
        batch.weight.check_aligned();
        assert_eq!(batch.scores.tiles(), self.vocabulary.div_ceil(TILE), "tiles of a vocabulary");
        assert_eq!(classes.vocabulary, self.vocabulary, "ids of a class");
        assert!(origins.iter().all(|origin| origin.class < classes.count), "unknown class");
        let words: Vec<_> = origins.iter().map(|origin| origin.words(self.original_allowed)).collect();
        queue.write(self.origins.view(), cast_slice(&words))?;
        edit_decide(
            queue,
            grid(rows.div_ceil(256), 256, 0),
            batch.scores.statistics(rows),
            self.origins.view(),
            rows,
            self.rules.view(),
            self.factors.view(),
            self.rules.len(),
            self.outcomes.view(),
        )?;
        match &self.draws {
            Some(draws) if rows > 0 => draws.launch(self, queue, batch, classes),
            _ => Ok(()),
        }
    }

    /// Waits for `after`, which lies behind the launch, and reads what became of the first `rows` rows.
    ///
    /// # Errors
    /// What went wrong on the device before.
    ///
    /// # Panics
    /// If there are more rows than planned.
    pub fn read(&self, queue: &Queue, after: &Mark, rows: usize) -> Result<Vec<Outcome>> {
        let (mut codes, mut ids, mut logits) = (vec![0; rows], vec![0; rows], vec![0.0; rows]);
        queue.read(after, self.outcomes.view(), &mut codes)?;
        if self.draws.is_some() {
            queue.read(after, self.new_ids.view(), &mut ids)?;
            queue.read(after, self.new_logits.view(), &mut logits)?;
        }
        let drawn = ids.into_iter().zip(logits);
        Ok(codes.into_iter().zip(drawn).map(|(code, (id, logit))| outcome(code, id, logit)).collect())
    }
}
