//! What `toedit score` wrote, read back.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::Result;
use crate::data::{Document, Line};

/// A line about a document.
#[derive(Debug, Deserialize)]
pub struct ScoreLine {
    /// Tokens of the document.
    pub tokens: u64,
    /// Those of them that have a probability.
    pub scored: u64,
    /// Σ −log p over them, in nats.
    pub nll: f64,
    /// e^(nll ÷ scored); none where nothing is scored.
    pub perplexity: Option<f64>,
    /// log p of each token, where scores were written by token; none for a token without a probability.
    pub logprobs: Option<Vec<Option<f32>>>,
    /// The document's `id`.
    id: Option<Box<RawValue>>,
    /// Its line from 0, where it has no `id`.
    index: Option<u64>,
}

impl ScoreLine {
    /// Reads a line.
    ///
    /// # Errors
    /// [`crate::Error::Record`] where it is not one that `toedit score` would have written.
    pub fn parse(line: &Line) -> Result<Self> {
        let scores: Self = line.parse()?;
        let is_fine = |perplexity: f64| perplexity.is_finite() && perplexity >= 1.0;
        // Rounding may take a perplexity of 1 a little below it.
        if scores.perplexity.is_some_and(|perplexity| !is_fine(perplexity * (1.0 + 1e-9))) {
            return Err(line.error(format!("perplexity {:?}: expected a number from 1", scores.perplexity)));
        }
        let mut logprobs = scores.logprobs.iter().flatten().flatten();
        if let Some(logprob) = logprobs.find(|logprob| !(logprob.is_finite() && **logprob <= 0.0)) {
            return Err(
                line.error(format!("log-probability {logprob}: expected a finite number of at most 0"))
            );
        }
        Ok(scores)
    }

    /// Whether the line is about this document: by its `id`, or by its line where it has none.
    pub fn is_about(&self, document: &Document) -> bool {
        match (document.id(), self.id.as_deref().map(RawValue::get)) {
            // Which is how no value is read, too.
            (Some("null"), None) => self.index.is_none(),
            (Some(id), own) => own == Some(id),
            (None, _) => self.index == document.line().checked_sub(1),
        }
    }
}
