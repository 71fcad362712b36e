//! Decisions on the CPU: what the rules make of a token, and what is drawn in its place.

use super::editor::{Change, EditInput, Edited, Outcome};
use super::{Action, Constraint, EditConfig};
use crate::Result;
use crate::ops::draw::{Candidate, Draw, Row, draw, draw_among};
use crate::random::{Purpose, Stream, Uniform};
use crate::score::Statistics;

/// Settings and the generation that is at work.
#[derive(Clone, Copy)]
pub(super) struct Decider<'a> {
    pub config: &'a EditConfig,
    pub generation: u32,
}

impl<'a> Decider<'a> {
    /// What the rules make of a token; `None` where another is to be drawn.
    pub fn decide(&self, document: &EditInput, position: usize, statistics: &Statistics) -> Option<Outcome> {
        let constraint = document.constraint;
        match self.config.decide(statistics) {
            Action::Keep => Some(Outcome::Kept),
            _ if !constraint.editable(position) => Some(Outcome::NotEditable),
            Action::Resample => None,
            Action::Drop if constraint.droppable(position) => Some(Outcome::Dropped),
            Action::Drop => Some(Outcome::NoAlternative),
        }
    }

    /// A token that is to be drawn anew.
    pub fn place(&self, document: &EditInput<'a>, position: usize) -> Result<Place<'a>> {
        let Self { config, generation } = *self;
        let stream = Stream::new(config.seed(), document.stream, Purpose::Edit, generation)?;
        let (original, constraint) = (document.sequence.ids[position], document.constraint);
        Ok(Place { config, constraint, stream, original, position })
    }
}

/// A place for which a token is drawn.
pub(super) struct Place<'a> {
    config: &'a EditConfig,
    constraint: &'a dyn Constraint,
    stream: Stream,
    original: u32,
    position: usize,
}

impl Place<'_> {
    /// From a whole row of logits.
    pub fn draw(&self, logits: &[f32], statistics: &Statistics) -> Outcome {
        let row = Row { logits, original: self.original, statistics };
        let (config, random) = (self.config, |draw| self.random(draw));
        draw(config.sampler(), config.temperature(), row, |id| self.allowed(id), random).into()
    }

    /// From the candidates that the sampler leaves, best first.
    pub fn draw_among(&self, candidates: &[Candidate]) -> Outcome {
        draw_among(candidates, self.config.temperature(), |id| self.allowed(id), self.random(0)).into()
    }

    fn allowed(&self, id: u32) -> bool {
        if id == self.original {
            !self.config.exclude_original()
        } else {
            self.constraint.allowed(self.position, id)
        }
    }

    fn random(&self, draw: u8) -> Uniform {
        self.stream.draw(self.position as u32, draw)
    }
}

impl From<Draw> for Outcome {
    fn from(draw: Draw) -> Self {
        match draw {
            Draw::NoAlternative => Self::NoAlternative,
            Draw::Token { id, logit } => Self::Drawn { id, logit },
        }
    }
}

impl Edited {
    /// Counts what became of a token, and keeps it where it changed.
    pub(super) fn record(
        &mut self,
        document: &EditInput,
        position: usize,
        statistics: &Statistics,
        outcome: Outcome,
    ) {
        let Self { counts, changes } = self;
        let old_id = document.sequence.ids[position];
        counts.scored += 1;
        counts.eligible += u64::from(outcome != Outcome::Kept);
        let new = match outcome {
            Outcome::Kept => return,
            Outcome::NotEditable => return counts.not_editable += 1,
            Outcome::NoAlternative => return counts.no_alternative += 1,
            Outcome::Drawn { id, .. } if id == old_id => return,
            Outcome::Drawn { id, logit } => {
                counts.changed += 1;
                Some((id, statistics.probability_of(logit) as f32))
            }
            Outcome::Dropped => {
                counts.dropped += 1;
                None
            }
        };
        changes.push(Change {
            position,
            old_id,
            new_id: new.map(|(id, _)| id),
            p_old: statistics.probability() as f32,
            p_new: new.map(|(_, p)| p),
        });
    }
}
