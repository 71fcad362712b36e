//! Rows of training data as the model takes them.

use super::data::Row;
use crate::ops::cross_entropy::IGNORE;

/// Sequences laid one after the other, each without its last token, which predicts nothing.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Token ids of all sequences.
    pub ids: Vec<u32>,
    /// The token after each, or [`IGNORE`].
    pub targets: Vec<u32>,
    /// Where each sequence starts in `ids`, and the end of the last.
    pub cu_seqlens: Vec<usize>,
}

impl Batch {
    /// Lays rows out.
    pub fn new(rows: &[Row]) -> Self {
        let mut batch = Self { cu_seqlens: vec![0], ..Self::default() };
        for row in rows {
            batch.ids.extend_from_slice(&row.ids[..row.targets.len()]);
            batch.targets.extend_from_slice(&row.targets);
            batch.cu_seqlens.push(batch.ids.len());
        }
        batch
    }

    /// The position of each token in its sequence.
    pub fn positions(&self) -> Vec<u32> {
        self.cu_seqlens.windows(2).flat_map(|ends| 0..(ends[1] - ends[0]) as u32).collect()
    }

    /// Targets that carry loss.
    pub fn counted(&self) -> usize {
        self.targets.iter().filter(|target| **target != IGNORE).count()
    }
}
