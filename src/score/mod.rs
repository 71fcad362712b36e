//! Scoring: log-probabilities of every token of a document by teacher forcing.

pub mod cache;
mod engine;
mod lines;
mod sequence;
pub mod statistics;
pub mod windows;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

pub(crate) use engine::unknown_id;
pub(crate) use engine::{Batch, Chunk, Engine, Origin, Request, WholeRow};
pub use lines::ScoreLine;
pub use sequence::{Scope, Sequence};
pub use statistics::Statistics;
pub use windows::{Window, WindowConfig};

use crate::device::Device;
use crate::model::{Config, Model};
use crate::ops::draw::{Candidate, largest};
use crate::ops::head::Scored;
use crate::{Error, Result};
use cache::Entry;

/// Tokens of a pack by default: enough rows to read the weights rarely, few enough to stay small.
pub const DEFAULT_BATCH_TOKENS: usize = 4096;
/// The same on a GPU, which more rows keep busy.
pub const GPU_BATCH_TOKENS: usize = 16384;

/// How documents are laid out for the model.
#[derive(Clone, Debug)]
pub struct ScoreConfig {
    /// Windows of long documents.
    pub windows: WindowConfig,
    /// Tokens in a pack at most, but at least one window. Memory follows it; results do not.
    pub batch_tokens: usize,
    /// Whether to compute the entropy of each position's distribution.
    pub entropy: bool,
    /// Whether to compute the rank of each token.
    pub rank: bool,
    /// How many of the most likely tokens to give at each position; 0 for none.
    pub top_k: usize,
    /// Looked at before each pack: a signal's number other than 0 ends the call with [`Error::Stopped`].
    pub stop: Option<Arc<AtomicUsize>>,
}

impl ScoreConfig {
    /// The defaults for `model`: windows of up to 2048 tokens overlapping by half.
    ///
    /// # Errors
    /// [`Error::Usage`] for a model of fewer than two positions.
    pub fn new(model: &Model) -> Result<Self> {
        Ok(Self { batch_tokens: default_batch_tokens(model.device()), ..Self::of(model.config())? })
    }

    /// [`ScoreConfig::new`] before the model is loaded.
    ///
    /// # Errors
    /// As [`ScoreConfig::new`].
    pub fn of(config: &Config) -> Result<Self> {
        Ok(Self {
            windows: WindowConfig::for_positions(config.max_position_embeddings)?,
            batch_tokens: DEFAULT_BATCH_TOKENS,
            entropy: false,
            rank: false,
            top_k: 0,
            stop: None,
        })
    }

    /// Refuses windows that the model has no positions for.
    pub(crate) fn validate(&self, config: &Config) -> Result<()> {
        let (length, (name, bound)) = (self.windows.max_length(), config.context());
        if length > bound {
            return Err(Error::Usage(format!(
                "max length {length}: the model's {name} is {bound}; give --max-length {bound} or less"
            )));
        }
        Ok(())
    }

    fn check_stop(&self) -> Result<()> {
        check_stop(self.stop.as_deref())
    }
}

/// Ends a call where a signal's number stands in the flag.
pub(crate) fn check_stop(stop: Option<&AtomicUsize>) -> Result<()> {
    match stop.map_or(0, |stop| stop.load(Ordering::Relaxed)) {
        0 => Ok(()),
        signal => Err(Error::Stopped(signal as i32)),
    }
}

/// Tokens of a pack where nothing else is asked for.
pub fn default_batch_tokens(device: Device) -> usize {
    match device {
        Device::Cuda(_) => GPU_BATCH_TOKENS,
        _ => DEFAULT_BATCH_TOKENS,
    }
}

/// One document's scores: an entry in each array for each position of `runs`, in order. Where all tokens are scored,
/// position i is at index `i − first_scored`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    /// The document's own tokens.
    pub tokens: usize,
    /// First position that can have a probability: 1, or 0 with a context.
    pub first_scored: usize,
    /// The positions that are scored, as ascending runs.
    pub runs: Vec<Range<usize>>,
    /// Windows in which it was scored.
    pub windows: usize,
    /// `ln P(x_i | x_<i)` in nats, never positive. Shorter than the document where it was truncated.
    pub logprobs: Vec<f32>,
    /// Entropy of `P(· | x_<i)` in nats, where asked for.
    pub entropy: Vec<f32>,
    /// 1 for the most likely token, where asked for; ties count for the lower id.
    pub rank: Vec<u32>,
    /// The `top_k` most likely tokens with their log-probabilities, `top_k` entries a position, where asked for.
    pub top: Vec<(u32, f32)>,
}

impl Scores {
    /// Σ −log p in nats.
    pub fn nll(&self) -> f64 {
        -self.logprobs.iter().map(|logprob| f64::from(*logprob)).sum::<f64>()
    }

    /// e^(−mean log p) over the scored positions; none where there is none.
    pub fn perplexity(&self) -> Option<f64> {
        (!self.logprobs.is_empty()).then(|| (self.nll() / self.logprobs.len() as f64).exp())
    }
}

/// Scores documents with a model. Shared by threads.
///
/// ```
/// use toedit::{Dtype, Model, ScoreConfig, Scorer};
/// let model = Model::load("assets/tiny", Dtype::F32)?;
/// let scorer = Scorer::new(&model, ScoreConfig::new(&model)?)?;
/// let scores = scorer.score(&[&[5, 6, 7, 8]])?;
/// assert_eq!((scores[0].first_scored, scores[0].logprobs.len()), (1, 3));
/// assert!(scores[0].logprobs.iter().all(|logprob| *logprob <= 0.0));
/// # Ok::<(), toedit::Error>(())
/// ```
pub struct Scorer<'m> {
    engine: Engine<'m>,
}

impl<'m> Scorer<'m> {
    /// Prepares to score with `model`.
    ///
    /// # Errors
    /// [`Error::Usage`] for windows longer than the model's positions.
    pub fn new(model: &'m Model, config: ScoreConfig) -> Result<Self> {
        config.validate(model.config())?;
        Ok(Self { engine: Engine::new(model, config) })
    }

    /// Scores each document's ids, in order. The results do not depend on which documents share a call.
    ///
    /// # Errors
    /// [`Error::Document`] for an id outside the vocabulary or logits that are not finite.
    pub fn score(&self, documents: &[&[u32]]) -> Result<Vec<Scores>> {
        let sequences: Vec<_> = documents.iter().map(|ids| Sequence::new(&[], ids)).collect();
        self.score_sequences(&sequences)
    }

    /// [`Scorer::score`] with tokens before each document, or with some of its tokens scored alone.
    ///
    /// # Errors
    /// As [`Scorer::score`].
    pub fn score_sequences(&self, documents: &[Sequence]) -> Result<Vec<Scores>> {
        self.collect(documents, |_, _, _| {})
    }

    /// [`Scorer::score_sequences`] with what a [`cache`] keeps of each document: raw statistics and the `top_k` largest
    /// logits of the configuration.
    ///
    /// # Errors
    /// As [`Scorer::score`]; [`Error::Usage`] where `top_k` is 0.
    pub fn score_entries(&self, documents: &[Sequence]) -> Result<Vec<(Scores, Entry)>> {
        let config = self.engine.config();
        if config.top_k == 0 {
            return Err(Error::Usage("a score cache of the 0 largest logits: expected at least 1".into()));
        }
        let k = config.top_k.min(self.engine.vocabulary());
        let mut entries: Vec<_> = documents.iter().map(|_| Entry { k, ..Entry::default() }).collect();
        let scores = self.collect(documents, |document, scored, largest| {
            entries[document].statistics.push(scored.statistics);
            entries[document].largest.extend_from_slice(largest);
        })?;
        Ok(scores.into_iter().zip(entries).collect())
    }

    /// Scores documents; `keep` sees each row's largest logits, where some are asked for.
    fn collect(
        &self,
        documents: &[Sequence],
        mut keep: impl FnMut(usize, &Scored, &[Candidate]),
    ) -> Result<Vec<Scores>> {
        let config = self.engine.config();
        let mut results: Vec<_> = documents.iter().map(|sequence| self.empty(sequence)).collect();
        self.engine.run(documents, None, |batch| {
            for (origin, scored) in batch.origins.iter().zip(batch.scored) {
                let result = &mut results[origin.document];
                result.logprobs.push(scored.statistics.log_probability());
                if config.entropy {
                    result.entropy.push(scored.entropy);
                }
            }
            let mut push_top =
                |results: &mut [Scores], document: usize, scored: &Scored, largest: &[Candidate]| {
                    results[document].push_top(scored, largest);
                    keep(document, scored, largest);
                };
            let rows: Vec<usize> = (0..batch.scored.len()).collect();
            if config.rank {
                // Whole rows are there, for the largest logits too.
                batch.logits(&rows, |chunk| {
                    for (document, scored, rank, largest) in rank_rows(documents, chunk, config.top_k) {
                        results[document].rank.push(rank);
                        push_top(&mut results, document, &scored, &largest);
                    }
                    Ok(())
                })?;
            } else if config.top_k > 0 {
                batch.largest(&rows, config.top_k, |origin, scored, largest| {
                    push_top(&mut results, origin.document, scored, largest);
                    Ok(())
                })?;
            }
            Ok(())
        })?;
        Ok(results)
    }

    fn empty(&self, sequence: &Sequence) -> Scores {
        Scores {
            tokens: sequence.ids.len(),
            first_scored: usize::from(sequence.context.is_empty()),
            runs: sequence.scored(&self.engine.config().windows),
            windows: self.engine.windows(sequence),
            ..Scores::default()
        }
    }
}

/// Ranks and largest logits of a chunk of rows, with their documents.
fn rank_rows(
    documents: &[Sequence],
    chunk: &Chunk,
    top_k: usize,
) -> Vec<(usize, Scored, u32, Vec<Candidate>)> {
    let ranked = |row: WholeRow| {
        let target = documents[row.origin.document].ids[row.origin.position];
        (row.origin.document, *row.scored, rank(row.logits, target), largest(row.logits, top_k))
    };
    chunk.rows().map(ranked).collect()
}

impl Scores {
    /// Adds a row's most likely tokens.
    fn push_top(&mut self, scored: &Scored, largest: &[Candidate]) {
        let log_sum = scored.statistics.log_sum_exp();
        let log_p = |token: &Candidate| (f64::from(token.logit) - log_sum).min(0.0) as f32;
        self.top.extend(largest.iter().map(|token| (token.id, log_p(token))));
    }
}

/// 1 + the number of tokens ahead of `target`: larger logits, and equal ones of lower ids.
fn rank(logits: &[f32], target: u32) -> u32 {
    let own = logits[target as usize];
    let ahead = |(id, logit): (usize, &f32)| *logit > own || (*logit == own && id < target as usize);
    1 + logits.iter().enumerate().map(|token| u32::from(ahead(token))).sum::<u32>()
}
