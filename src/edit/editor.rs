//! The editor: documents of ids in, changes out.

use rayon::prelude::*;

use super::{Action, Constraint, Counts, EditConfig};
use crate::Result;
use crate::model::Model;
use crate::ops::draw::{Draw, Row, draw};
use crate::ops::head::Scored;
use crate::random::{Purpose, Stream};
use crate::score::{Batch, Chunk, Engine, Origin, ScoreConfig, Sequence, WholeRow};

/// One document to edit.
#[derive(Clone, Copy)]
pub struct EditInput<'a> {
    /// Its tokens, and what stands before them.
    pub sequence: Sequence<'a>,
    /// The stream of its random numbers; see [`crate::data::stream_key`]. Equal documents with equal streams are edited
    /// equally.
    pub stream: u64,
    /// What may be edited.
    pub constraint: &'a dyn Constraint,
}

/// One token changed or dropped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// Among the document's own tokens, from 0.
    pub position: usize,
    /// The token's id.
    pub old_id: u32,
    /// Its replacement; none where it was dropped.
    pub new_id: Option<u32>,
    /// The token's probability given the original tokens before it.
    pub p_old: f32,
    /// The replacement's in the same place.
    pub p_new: Option<f32>,
}

/// What became of one document.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Edited {
    /// How many tokens met which fate.
    pub counts: Counts,
    /// The changes, by position.
    pub changes: Vec<Change>,
}

impl Edited {
    /// The document's ids after the changes.
    ///
    /// # Panics
    /// If `ids` is shorter than the document that was edited.
    pub fn apply(&self, ids: &[u32]) -> Vec<u32> {
        let mut out = Vec::with_capacity(ids.len());
        let mut next = 0;
        for change in &self.changes {
            out.extend_from_slice(&ids[next..change.position]);
            out.extend(change.new_id);
            next = change.position + 1;
        }
        out.extend_from_slice(&ids[next..]);
        out
    }
}

/// Edits documents with a model: one forward pass, every position conditioned on the original tokens before it. Shared
/// by threads.
///
/// ```
/// use toedit::edit::{EditConfig, EditInput, Editor, IdConstraint, Rule, Vocabulary};
/// use toedit::score::Sequence;
/// use toedit::{Dtype, Model, ScoreConfig};
///
/// let model = Model::load("assets/tiny", Dtype::F32)?;
/// let config = EditConfig::from_rules(vec!["p<=1:resample".parse::<Rule>()?]);
/// let editor = Editor::new(&model, ScoreConfig::new(&model)?, config)?;
///
/// let vocabulary = Vocabulary::new(model.config(), None);
/// let ids = [5, 6, 7, 8];
/// let constraint = IdConstraint::new(&vocabulary, None, &ids);
/// let sequence = Sequence { context: &[], ids: &ids };
/// let edited = editor.edit(&[EditInput { sequence, stream: 1, constraint: &constraint }])?;
/// assert_eq!(edited[0].counts.eligible, 3);
/// assert_eq!(edited[0].apply(&ids).len(), 4);
/// # Ok::<(), toedit::Error>(())
/// ```
pub struct Editor<'m> {
    engine: Engine<'m>,
    config: EditConfig,
}

impl<'m> Editor<'m> {
    /// Prepares to edit with `model`.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] for windows longer than the model's positions.
    pub fn new(model: &'m Model, score: ScoreConfig, config: EditConfig) -> Result<Self> {
        score.validate(model.config())?;
        Ok(Self { engine: Engine::new(model, score), config })
    }

    /// Edits each document. The results do not depend on which documents share a call.
    ///
    /// # Errors
    /// [`crate::Error::Document`] for an id outside the vocabulary or logits that are not finite.
    pub fn edit(&self, documents: &[EditInput]) -> Result<Vec<Edited>> {
        let sequences: Vec<_> = documents.iter().map(|document| document.sequence).collect();
        let mut results: Vec<_> = sequences.iter().map(|sequence| self.untouched(sequence)).collect();
        self.engine.run(&sequences, |batch| {
            let rows = self.decide(documents, batch, &mut results);
            batch.logits(&rows, |chunk| self.resample(documents, chunk, &mut results))
        })?;
        for result in &mut results {
            result.changes.sort_by_key(|change| change.position);
        }
        Ok(results)
    }

    fn untouched(&self, sequence: &Sequence) -> Edited {
        let tokens = sequence.ids.len() as u64;
        let windows = self.engine.windows(sequence) as u64;
        Edited { counts: Counts { tokens, windows, ..Counts::default() }, changes: Vec::new() }
    }

    /// Applies the rules: drops at once, and returns the rows to resample.
    fn decide(&self, documents: &[EditInput], batch: &Batch, results: &mut [Edited]) -> Vec<usize> {
        let mut rows = Vec::new();
        for (row, (origin, scored)) in batch.origins.iter().zip(batch.scored).enumerate() {
            let document = &documents[origin.document];
            let Edited { counts, changes } = &mut results[origin.document];
            counts.scored += 1;
            let action = self.config.decide(&scored.statistics);
            if action == Action::Keep {
                continue;
            }
            counts.eligible += 1;
            if !document.constraint.editable(origin.position) {
                counts.not_editable += 1;
            } else if action == Action::Resample {
                rows.push(row);
            } else if document.constraint.droppable(origin.position) {
                counts.dropped += 1;
                changes.push(change(document, *origin, scored, None));
            } else {
                counts.no_alternative += 1;
            }
        }
        rows
    }

    /// Draws for a chunk of rows.
    fn resample(&self, documents: &[EditInput], chunk: &Chunk, results: &mut [Edited]) -> Result<()> {
        let draw =
            |row: WholeRow| Ok((row.origin, *row.scored, self.draw(&documents[row.origin.document], row)?));
        for (origin, scored, draw) in chunk.rows().map(draw).collect::<Result<Vec<_>>>()? {
            let document = &documents[origin.document];
            let Edited { counts, changes } = &mut results[origin.document];
            match draw {
                Draw::NoAlternative => counts.no_alternative += 1,
                Draw::Token { id, .. } if id == document.sequence.ids[origin.position] => {}
                Draw::Token { id, logit } => {
                    counts.changed += 1;
                    let p_new = scored.statistics.probability_of(logit) as f32;
                    changes.push(change(document, origin, &scored, Some((id, p_new))));
                }
            }
        }
        Ok(())
    }

    fn draw(&self, document: &EditInput, row: WholeRow) -> Result<Draw> {
        let position = row.origin.position;
        let original = document.sequence.ids[position];
        let allowed = |id| {
            if id == original {
                !self.config.exclude_original()
            } else {
                document.constraint.allowed(position, id)
            }
        };
        let stream =
            Stream::new(self.config.seed(), document.stream, Purpose::Edit, self.config.generation())?;
        let random = |draw| stream.draw(position as u32, draw);
        let row = Row { logits: row.logits, original, statistics: &row.scored.statistics };
        Ok(draw(self.config.sampler(), self.config.temperature(), row, allowed, random))
    }
}

fn change(document: &EditInput, origin: Origin, scored: &Scored, new: Option<(u32, f32)>) -> Change {
    Change {
        position: origin.position,
        old_id: document.sequence.ids[origin.position],
        new_id: new.map(|(id, _)| id),
        p_old: scored.statistics.probability() as f32,
        p_new: new.map(|(_, p)| p),
    }
}
