//! The editor: documents of ids in, changes out.

use rayon::prelude::*;

use super::decision::Decider;
use super::{Constraint, Counts, EditConfig, Sampler};
use crate::Result;
use crate::model::Model;
use crate::random::{Purpose, Stream};
use crate::score::{Batch, Engine, Origin, Request, ScoreConfig, Sequence, Statistics, WholeRow};

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

/// What becomes of a token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// No rule applies, or one that keeps it.
    Kept,
    /// A rule applies, but the token may not be edited.
    NotEditable,
    /// A rule drops it.
    Dropped,
    /// A rule applies, but the token may not be dropped, or nothing may stand in its place.
    NoAlternative,
    /// A rule resamples it.
    Drawn {
        /// The token drawn, which may be the original.
        id: u32,
        /// Its raw logit.
        logit: f32,
    },
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
/// let sequence = Sequence::new(&[], &ids);
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
        Ok(Self { engine: Engine::new(model, score).editing(config.clone()), config })
    }

    /// Edits each document. The results do not depend on which documents share a call.
    ///
    /// # Errors
    /// [`crate::Error::Document`] for an id outside the vocabulary or logits that are not finite.
    pub fn edit(&self, documents: &[EditInput]) -> Result<Vec<Edited>> {
        self.edit_generation(documents, self.config.generation())
    }

    /// [`Editor::edit`] with the random numbers of another generation than the configuration's.
    ///
    /// # Errors
    /// As [`Editor::edit`]; [`crate::Error::Usage`] if `generation` exceeds [`Stream::MAX_GENERATION`].
    pub fn edit_generation(&self, documents: &[EditInput], generation: u32) -> Result<Vec<Edited>> {
        let decider = Decider { config: &self.config, generation };
        // Whether there is such a generation.
        Stream::new(0, 0, Purpose::Edit, generation)?;
        let sequences: Vec<_> = documents.iter().map(|document| document.sequence).collect();
        let mut results: Vec<_> = sequences.iter().map(|sequence| self.untouched(sequence)).collect();
        let request = |origin: &Origin| {
            let EditInput { stream, constraint, .. } = documents[origin.document];
            Request { stream, generation, position: origin.position, constraint }
        };
        self.engine.run(&sequences, Some(&request), |batch| {
            let mut record = |origin: Origin, statistics: &Statistics, outcome| {
                let Origin { document, position } = origin;
                results[document].record(&documents[document], position, statistics, outcome);
            };
            match batch.outcomes {
                Some(outcomes) => {
                    let rows = batch.origins.iter().zip(batch.scored).zip(outcomes);
                    rows.for_each(|((origin, scored), outcome)| {
                        record(*origin, &scored.statistics, *outcome)
                    });
                    Ok(())
                }
                None => decide_and_draw(decider, documents, batch, record),
            }
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
}

/// Takes a batch's decisions on the CPU.
fn decide_and_draw(
    decider: Decider,
    documents: &[EditInput],
    batch: &mut Batch,
    mut record: impl FnMut(Origin, &Statistics, Outcome),
) -> Result<()> {
    let mut rows = Vec::new();
    for (row, (origin, scored)) in batch.origins.iter().zip(batch.scored).enumerate() {
        match decider.decide(&documents[origin.document], origin.position, &scored.statistics) {
            Some(outcome) => record(*origin, &scored.statistics, outcome),
            None => rows.push(row),
        }
    }
    if let Sampler::TopK(k) = *decider.config.sampler() {
        return batch.largest(&rows, k, |origin, scored, candidates| {
            let place = decider.place(&documents[origin.document], origin.position)?;
            record(origin, &scored.statistics, place.draw_among(candidates));
            Ok(())
        });
    }
    batch.logits(&rows, |chunk| {
        let draw = |row: WholeRow| {
            let WholeRow { origin, scored, logits } = row;
            let place = decider.place(&documents[origin.document], origin.position)?;
            Ok((origin, scored.statistics, place.draw(logits, &scored.statistics)))
        };
        for (origin, statistics, outcome) in chunk.rows().map(draw).collect::<Result<Vec<_>>>()? {
            record(origin, &statistics, outcome);
        }
        Ok(())
    })
}
