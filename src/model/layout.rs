//! Every parameter of a model: its tensor in transformers' files, and where it lies in training, all in one flat buffer,
//! so that the optimizer is one launch over it.
//!
//! Matrices come first, vectors behind them: what decays is the front part. Rows start on 16 bytes; the padding between
//! them is zero in weights, gradients and moments, and stays zero.

mod build;

use std::ops::Range;

use self::build::Builder;
use super::config::Config;
use crate::Result;
use crate::device::{Queue, Rows, View, stride};

/// A matrix, or a vector as one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    start: usize,
    /// Outputs of a product; 1 for a vector.
    pub rows: usize,
    /// Inputs of a product; a vector's length.
    pub width: usize,
}

impl Slot {
    /// Its rows in a flat buffer.
    pub fn of<'a, T: bytemuck::Pod>(&self, flat: View<'a, T>) -> Rows<'a, T> {
        let Self { start, rows, width } = *self;
        let end = flat.len().min(start + self.extent());
        Rows { data: flat.slice(start..end), rows, width, stride: stride(width) }
    }

    /// Some of a matrix's rows.
    fn rows(&self, range: &Range<usize>) -> Self {
        Self { start: self.start + range.start * stride(self.width), rows: range.len(), ..*self }
    }

    /// Some of a vector's values.
    fn values(&self, range: &Range<usize>) -> Self {
        Self { start: self.start + range.start, width: range.len(), ..*self }
    }

    /// A vector's values in a flat buffer.
    pub fn vector<'a, T>(&self, flat: View<'a, T>) -> View<'a, T> {
        flat.slice(self.start..self.start + self.width)
    }

    /// Elements, padding included.
    pub fn extent(&self) -> usize {
        self.rows * stride(self.width)
    }

    /// The next place in a flat buffer that is `end` elements long so far.
    pub fn after(end: &mut usize, rows: usize, width: usize) -> Self {
        let slot = Self { start: *end, rows, width };
        *end += slot.extent();
        slot
    }
}

/// A product's parameters.
#[derive(Clone, Copy, Debug)]
pub struct Linear {
    /// `[outputs, inputs]`
    pub weight: Slot,
    /// `[outputs]`
    pub bias: Option<Slot>,
}

/// A norm's parameters.
#[derive(Clone, Copy, Debug, Default)]
pub struct Norm {
    /// The factors.
    pub weight: Option<Slot>,
    /// The summands.
    pub bias: Option<Slot>,
}

/// One block, as [`crate::model::weights::Layer`].
#[derive(Clone, Debug)]
pub struct Layer {
    /// Ahead of the attention, or after it (`norm_after`).
    pub attention_norm: Norm,
    /// `[Q + 2K, C]`: queries, keys, values.
    pub qkv: Linear,
    /// Of queries, as `qk_norm` says.
    pub q_norm: Norm,
    /// Of keys, as `qk_norm` says.
    pub k_norm: Norm,
    /// `[C, Q]`
    pub output: Linear,
    /// Ahead of the MLP, or after it (`norm_after`).
    pub mlp_norm: Norm,
    /// `[I, C]`; none where the MLP is not gated.
    pub gate: Option<Linear>,
    /// `[I, C]`
    pub up: Linear,
    /// `[C, I]`
    pub down: Linear,
}

/// What a tensor does, as far as its first values depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The token embedding.
    Embedding,
    /// Learned positions.
    Positions,
    /// A norm's factors.
    NormWeight,
    /// The matrix of a product that stays inside the block.
    Linear,
    /// The matrix of a product whose result is added to the residual stream.
    Residual,
    /// The summands of a product or a norm.
    Bias,
    /// The head.
    Head,
}

/// A tensor of a model's files, as transformers writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its full name.
    pub name: String,
    /// Its shape in the file.
    pub shape: Vec<usize>,
    /// What it does.
    pub role: Role,
}

impl Parameter {
    /// Its number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// A tensor as files hold it, and where its values lie.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// As files hold it.
    pub parameter: Parameter,
    /// Where it lies.
    pub slot: Slot,
    /// Whether the file holds it as `[inputs, outputs]`.
    transposed: bool,
    /// The values of a head, where the file holds head after head each one's query, key and value.
    head_wise: Option<usize>,
}

impl Tensor {
    /// Reads its values, in the file's order, from a flat buffer.
    ///
    /// # Errors
    /// As [`Queue::download`].
    pub fn read(&self, queue: &Queue, flat: View<'_, f32>) -> Result<Vec<f32>> {
        self.read_rows(queue, self.slot.of(flat))
    }

    /// The same from rows as they lie in its slot.
    ///
    /// # Errors
    /// As [`Queue::download`].
    pub fn read_rows(&self, queue: &Queue, rows: Rows<'_, f32>) -> Result<Vec<f32>> {
        let mut values = Vec::new();
        for run in self.runs() {
            values.extend(self.part(rows, run).read(queue)?);
        }
        Ok(if self.transposed { transpose(&values, self.slot.width) } else { values })
    }

    /// Rows of the slot (values of a vector) in the file's order.
    fn runs(&self) -> impl Iterator<Item = Range<usize>> {
        let Slot { rows, width, .. } = self.slot;
        let outputs = if self.is_vector() { width } else { rows };
        let run = self.head_wise.unwrap_or(outputs);
        let parts = if self.head_wise.is_some() { 3 } else { 1 };
        let heads = outputs / parts / run.max(1);
        (0..heads * parts).map(move |index| {
            let first = (index % parts * heads + index / parts) * run;
            first..first + run
        })
    }

    fn is_vector(&self) -> bool {
        self.parameter.shape.len() == 1
    }

    fn part<'a>(&self, rows: Rows<'a, f32>, run: Range<usize>) -> Rows<'a, f32> {
        if self.is_vector() { rows.columns(run) } else { rows.rows(run) }
    }

    /// Writes values in the file's order to their places in a flat buffer.
    ///
    /// # Errors
    /// As [`Queue::write`].
    ///
    /// # Panics
    /// If there are not as many as the shape says.
    pub fn write(&self, queue: &Queue, flat: View<'_, f32>, values: &[f32]) -> Result<()> {
        assert_eq!(values.len(), self.parameter.elements(), "values of {}", self.parameter.name);
        let turned;
        let mut rest = if self.transposed {
            turned = transpose(values, values.len() / self.slot.width);
            &turned
        } else {
            values
        };
        for run in self.runs() {
            let part = self.part(self.slot.of(flat), run);
            let (now, later) = rest.split_at(part.rows * part.width);
            part.write(queue, now)?;
            rest = later;
        }
        Ok(())
    }
}

/// Row-major `[n, width]` as row-major `[width, n]`.
fn transpose(values: &[f32], width: usize) -> Vec<f32> {
    (0..width).flat_map(|column| values.iter().skip(column).step_by(width).copied()).collect()
}

/// The places of all parameters.
#[derive(Clone, Debug)]
pub struct Layout {
    /// `[vocab_size, hidden_size]`
    pub embedding: Slot,
    /// Learned positions `[max_position_embeddings, hidden_size]`.
    pub positions: Option<Slot>,
    /// The blocks.
    pub layers: Vec<Layer>,
    /// Ahead of the head.
    pub final_norm: Norm,
    /// `[vocab_size, hidden_size]`; none where the head is the embedding.
    pub head: Option<Slot>,
    /// Every tensor of the file, once.
    pub tensors: Vec<Tensor>,
    /// Elements at the front that weight decay shrinks: tensors of two dimensions.
    pub decayed: usize,
    /// Elements in all, padding included.
    pub len: usize,
}

impl Layout {
    /// The layout of a configuration's parameters.
    pub fn new(config: &Config) -> Self {
        let matrices = Builder::new(config, 0).build().decayed;
        Builder::new(config, matrices).build()
    }

    /// The matrix of the head.
    pub fn head(&self) -> Slot {
        self.head.unwrap_or(self.embedding)
    }

    /// The weights of the products inside the blocks.
    pub fn inner_products(&self) -> impl Iterator<Item = &Tensor> {
        let inner = |tensor: &&Tensor| matches!(tensor.parameter.role, Role::Linear | Role::Residual);
        self.tensors.iter().filter(inner)
    }

    /// Every tensor as files hold it.
    pub fn parameters(&self) -> impl Iterator<Item = &Parameter> {
        self.tensors.iter().map(|tensor| &tensor.parameter)
    }

    /// Weights, without padding.
    pub fn elements(&self) -> usize {
        self.parameters().map(Parameter::elements).sum()
    }
}
