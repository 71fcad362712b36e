//! Rows of a matrix, gathered from the rows of tensors.

use std::ops::Range;

use rayon::prelude::*;

use super::Store;
use crate::{Result, model::checkpoint::Tensor};

/// Rows compared at a time.
const BLOCK: usize = 64;

/// The rows of a matrix `[len, width]`, where they lie.
pub(super) struct Rows<'a> {
    width: usize,
    runs: Vec<Run<'a>>,
}

/// Consecutive rows of a tensor.
struct Run<'a> {
    tensor: Tensor<'a>,
    first: usize,
    len: usize,
}

impl<'a> Rows<'a> {
    /// All rows of tensors (tensor, rows), one tensor after the other. Each row has `width` elements; 1 for vectors.
    pub fn new(width: usize, tensors: impl IntoIterator<Item = (Tensor<'a>, usize)>) -> Self {
        let runs = tensors.into_iter().map(|(tensor, len)| Run { tensor, first: 0, len }).collect();
        Self { width, runs }
    }

    /// Of one tensor in which each head has the rows of its query, its key and its value: all queries, all keys, all
    /// values.
    pub fn gather_heads(self, head_dim: usize) -> Self {
        let tensor = self.runs[0].tensor;
        let heads = self.len() / (3 * head_dim);
        let run = |part, head| Run { tensor, first: (3 * head + part) * head_dim, len: head_dim };
        let runs = (0..3).flat_map(|part| (0..heads).map(move |head| run(part, head))).collect();
        Self { width: self.width, runs }
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.runs.iter().map(|run| run.len).sum()
    }

    /// Reads a range of rows, row-major.
    pub fn read(&self, rows: Range<usize>, mut out: &mut [f32]) -> Result<()> {
        let mut start = 0;
        for run in &self.runs {
            let part = rows.start.max(start)..rows.end.min(start + run.len);
            if !part.is_empty() {
                let elements = part.len() * self.width;
                let first = (run.first + part.start - start) * self.width;
                let (now, rest) = out.split_at_mut(elements);
                run.tensor.read(first..first + elements, now)?;
                out = rest;
            }
            start += run.len;
        }
        Ok(())
    }

    /// All rows.
    pub fn to_vec(&self) -> Result<Vec<f32>> {
        let mut values = vec![0.0; self.len() * self.width];
        self.read(0..self.len(), &mut values)?;
        Ok(values)
    }

    /// Stores the rows as a matrix's outputs.
    pub fn store<E, S: Store<E>>(&self, store: &S) -> Result<S::Matrix> {
        store.matrix(self.len(), self.width, |rows, out| self.read(rows, out))
    }

    /// As [`Self::store`] for one tensor that lies transposed, `[width, len]`. It is read once, as a whole: a few
    /// outputs need a few values of each of its rows.
    pub fn store_transposed<E, S: Store<E>>(&self, store: &S) -> Result<S::Matrix> {
        let (n, k) = (self.len(), self.width);
        let values = self.runs[0].tensor.to_vec()?;
        store.matrix(n, k, |rows, out| {
            for (column, line) in values.chunks_exact(n).enumerate() {
                for (row, value) in line[rows.clone()].iter().enumerate() {
                    out[row * k + column] = *value;
                }
            }
            Ok(())
        })
    }

    /// Whether all values are equal to those of `other`, a matrix of the same shape.
    pub fn equals(&self, other: &Self) -> Result<bool> {
        let equal = |block: usize| {
            let rows = block * BLOCK..self.len().min((block + 1) * BLOCK);
            let mut values = vec![0.0; 2 * rows.len() * self.width];
            let (ours, theirs) = values.split_at_mut(rows.len() * self.width);
            self.read(rows.clone(), ours)?;
            other.read(rows, theirs)?;
            Ok(ours == theirs)
        };
        (0..self.len().div_ceil(BLOCK)).into_par_iter().map(equal).try_reduce(|| true, |a, b| Ok(a && b))
    }
}
