//! Whole rows of logits on a device.

use super::{Chosen, TILE, chunk_rows, logits_on};
use crate::Result;
use crate::device::kernels::Kernels;
use crate::device::{Buffer, Queue, Rows, View};

/// Room for a bounded number of rows of logits, those that [`super::Scores`] sees.
pub struct WholeRows {
    vocabulary: usize,
    rows: Buffer<u32>,
    count: Buffer<u32>,
    /// `[rows, tiles, TILE]`
    logits: Buffer<f32>,
}

impl WholeRows {
    /// For [`chunk_rows`] rows.
    ///
    /// # Errors
    /// As [`Queue::alloc`].
    pub fn new(queue: &Queue, vocabulary: usize) -> Result<Self> {
        let rows = chunk_rows(vocabulary);
        let width = vocabulary.next_multiple_of(TILE);
        Ok(Self {
            vocabulary,
            rows: queue.alloc(rows)?,
            count: queue.alloc(1)?,
            logits: queue.alloc(rows.saturating_mul(width))?,
        })
    }

    /// The logits of some rows of the hidden states. Up to the next multiple of [`TILE`] they are −∞.
    ///
    /// # Errors
    /// What went wrong on the device before.
    ///
    /// # Panics
    /// If a row is not there, there are more than there is room for, or the shapes do not fit.
    pub fn compute<T: Kernels>(
        &self,
        queue: &Queue,
        hidden: Rows<'_, T>,
        weight: Rows<'_, T>,
        rows: &[u32],
    ) -> Result<Rows<'_, f32>> {
        let stride = self.vocabulary.next_multiple_of(TILE);
        assert_eq!(weight.rows, self.vocabulary, "ids");
        assert!(rows.iter().all(|row| (*row as usize) < hidden.rows), "rows of {}", hidden.rows);
        queue.write(self.rows.view(), rows)?;
        queue.write(self.count.view(), &[rows.len() as u32])?;
        let chosen = Chosen {
            rows: self.rows.view().slice(0..rows.len()),
            pairs: View::none(),
            counts: self.count.view(),
            slots: stride / TILE,
        };
        logits_on(queue, hidden, weight, chosen, self.logits.view())?;
        let data = self.logits.view().slice(0..rows.len() * stride);
        Ok(Rows { data, rows: rows.len(), width: self.vocabulary, stride })
    }
}
