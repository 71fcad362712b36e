//! One transformer block, forward and backward, on any device.
//!
//! ```text
//! norms ahead                       norms after (OLMo-2)         parallel (GPT-NeoX)
//! m = x + attend(norm(x))           m = x + norm(attend(x))      y = x + attend(norm(x)) + mlp(norm(x))
//! y = m + mlp(norm(m))              y = m + norm(mlp(m))
//! ```
//!
//! The residual stream and its gradient are f32; products read and give `E`. Backward turns the gradient of y, in
//! [`Work::dx`], into that of x, in place. What norms give and what the MLP's second product reads is computed again
//! instead of being kept: it costs a pass over memory each, and no product.

mod attention;
mod mlp;

use super::parameters::{LinearView, ParameterView};
use crate::Result;
use crate::device::kernels::Kernels;
use crate::device::{Buffer, Matrix, Queue, Rows, View};
use crate::model::Config;
use crate::model::config::QkNorm;
use crate::model::layout::{self, Layer};
use crate::ops::attention::{Attention, Tiles};
use crate::ops::elementwise::{column_sums_on, column_sums_scratch, convert_on};
use crate::ops::matmul::{Layout, product_add};
use crate::ops::norm::{Norm, NormGradient};
use crate::ops::rope::Rotary;

/// What forward leaves for backward, besides the block's input.
pub struct Saved<E> {
    attention: attention::Saved<E>,
    mlp: mlp::Saved<E>,
    /// The stream between attention and MLP `[T, C]`; none where they are parallel.
    middle: Option<Matrix<f32>>,
}

/// Work memory that all blocks share.
pub struct Work<E> {
    /// The gradient of the residual stream `[T, C]`.
    pub dx: Matrix<f32>,
    /// The same as products read it `[T, C]`.
    dy: Matrix<E>,
    /// What the block's products read `[T, C]`, and its gradient.
    input: Matrix<E>,
    dinput: Matrix<f32>,
    /// `[T, I]`
    wide: Matrix<E>,
    attention: attention::Work<E>,
    /// Partial sums of gradients.
    scratch: Buffer<f32>,
}

/// What the blocks of a model have in common.
pub struct Shape<'a> {
    /// The device.
    pub queue: &'a Queue,
    /// The model.
    pub config: &'a Config,
    /// Its attention.
    pub attention: Attention,
}

impl<E: Kernels> Saved<E> {
    /// Room for `rows` tokens.
    ///
    /// # Errors
    /// As [`Queue::alloc`].
    pub fn new(shape: &Shape, rows: usize) -> Result<Self> {
        let Shape { queue, config, .. } = *shape;
        let middle = || Matrix::new(queue, rows, config.hidden_size);
        Ok(Self {
            attention: attention::Saved::new(shape, rows)?,
            mlp: mlp::Saved::new(shape, rows)?,
            middle: (!config.parallel_residual).then(middle).transpose()?,
        })
    }
}

impl<E: Kernels> Work<E> {
    /// Room for `rows` tokens.
    ///
    /// # Errors
    /// As [`Queue::alloc`].
    pub fn new(shape: &Shape, rows: usize) -> Result<Self> {
        let Shape { queue, config, attention } = *shape;
        let Config { hidden_size: c, intermediate_size: i, .. } = *config;
        Ok(Self {
            dx: Matrix::new(queue, rows, c)?,
            dy: Matrix::new(queue, rows, c)?,
            input: Matrix::new(queue, rows, c)?,
            dinput: Matrix::new(queue, rows, c)?,
            wide: Matrix::new(queue, rows, i)?,
            attention: attention::Work::new(shape, rows)?,
            scratch: queue.alloc(scratch(config, &attention, rows))?,
        })
    }
}

/// Room for the partial sums of the parameters of all products and norms.
fn scratch(config: &Config, attention: &Attention, rows: usize) -> usize {
    let Config { hidden_size: c, intermediate_size: i, head_dim, qk_norm, .. } = *config;
    let (q, k) = (attention.q_len(), attention.kv_len());
    // Not the widest alone: a norm's chunks depend on the width, and a narrower row may need more.
    let norms = match qk_norm {
        QkNorm::None => vec![(rows, c)],
        QkNorm::Head => vec![(rows, c), (rows * attention.heads, head_dim)],
        QkNorm::Whole => vec![(rows, c), (rows, q), (rows, k)],
    };
    let norms = norms.into_iter().map(|(rows, d)| Norm::scratch(rows, d));
    norms.fold(column_sums_scratch(rows, c.max(i).max(q + 2 * k)), usize::max)
}

impl<E> Work<E> {
    /// Room for partial sums.
    pub fn scratch(&self) -> View<'_, f32> {
        self.scratch.view()
    }
}

/// A block at work on a batch.
pub struct Block<'a, E: Kernels> {
    /// What blocks have in common.
    pub shape: &'a Shape<'a>,
    /// All parameters.
    pub parameters: ParameterView<'a, E>,
    /// This block's.
    pub layer: &'a Layer,
    /// The documents of the batch.
    pub tiles: &'a Tiles,
    /// Rotary tables, where the model has them, and each row's position.
    pub rotary: Option<&'a Rotary<Buffer<f32>>>,
    /// `[T]`
    pub positions: View<'a, u32>,
    /// Work memory.
    pub work: &'a Work<E>,
    /// Whether only the products' weights have gradients.
    pub frozen: bool,
}

impl<'a, E: Kernels> Block<'a, E> {
    /// From the stream `x` to the stream `y`, `[T, C]` each.
    ///
    /// # Errors
    /// What went wrong on the device.
    pub fn forward(&self, x: Rows<'a, f32>, saved: &'a Saved<E>, y: Rows<'a, f32>) -> Result<()> {
        let queue = self.shape.queue;
        let Some(middle) = &saved.middle else {
            copy(queue, x, y)?;
            self.attend(x, &saved.attention, y)?;
            return self.mlp(x, &saved.mlp, y);
        };
        let middle = middle.first(x.rows);
        copy(queue, x, middle)?;
        self.attend(x, &saved.attention, middle)?;
        copy(queue, middle, y)?;
        self.mlp(middle, &saved.mlp, y)
    }

    /// From the gradient of `y` to that of `x`, given what forward was given and left.
    ///
    /// # Errors
    /// What went wrong on the device.
    pub fn backward(&self, x: Rows<'a, f32>, saved: &'a Saved<E>) -> Result<()> {
        let dx = self.work.dx.first(x.rows);
        match &saved.middle {
            // Both branches see the gradient before either adds to it.
            None => {
                convert_on(self.shape.queue, dx, self.dy(x.rows))?;
                self.mlp_backward(x, &saved.mlp)?;
                self.attend_backward(x, &saved.attention)
            }
            Some(middle) => {
                let middle = middle.first(x.rows);
                self.split(&saved.mlp.output, self.layer.mlp_norm)?;
                self.mlp_backward(middle, &saved.mlp)?;
                self.split(&saved.attention.output, self.layer.attention_norm)?;
                self.attend_backward(x, &saved.attention)
            }
        }
    }

    /// The gradient of a branch's last product in [`Work::dy`]: that of the stream, through the norm where it comes after.
    fn split(&self, output: &Option<Matrix<f32>>, norm: layout::Norm) -> Result<()> {
        let (queue, rows) = (self.shape.queue, self.positions.len());
        let (dx, dy) = (self.work.dx.first(rows), self.dy(rows));
        match output {
            None => convert_on(queue, dx, dy),
            Some(output) => {
                let (norm, gradient) = (self.norm(norm), self.norm_gradient(norm));
                norm.add_backward_on(queue, output.first(rows), dx, dy, gradient)
            }
        }
    }

    fn dy(&self, rows: usize) -> Rows<'a, E> {
        self.work.dy.first(rows)
    }

    /// What a branch's first product reads.
    fn input(&self, x: Rows<'a, f32>, norm: layout::Norm) -> Result<Rows<'a, E>> {
        let input = self.work.input.first(x.rows);
        if self.shape.config.norm_after {
            convert_on(self.shape.queue, x, input)?;
        } else {
            self.norm(norm).forward_on(self.shape.queue, x, None, input)?;
        }
        Ok(input)
    }

    /// Adds the gradients of a branch's first products, and what they give their input to the stream's gradient.
    fn input_backward(
        &self,
        x: Rows<'a, f32>,
        norm: layout::Norm,
        products: &[(LinearView<'a, E>, Rows<'a, E>)],
    ) -> Result<()> {
        let queue = self.shape.queue;
        let input = self.input(x, norm)?;
        let dx = self.work.dx.first(x.rows);
        let after = self.shape.config.norm_after;
        let dinput = if after { dx } else { self.work.dinput.first(x.rows) };
        if !after {
            clear(queue, dinput)?;
        }
        for (linear, dy) in products {
            self.linear_backward(linear, input, *dy)?;
            product_add(queue, Layout::Nn, *dy, linear.weight, None, dinput)?;
        }
        if after {
            return Ok(());
        }
        let (gradient, norm) = (self.norm_gradient(norm), self.norm(norm));
        norm.backward_on(queue, x, dinput, dx, gradient)
    }

    /// `y += input · Wᵀ + bias`, by way of `output` and a norm where norms come after.
    fn add(
        &self,
        linear: layout::Linear,
        input: Rows<'a, E>,
        (norm, output): (layout::Norm, &'a Option<Matrix<f32>>),
        y: Rows<'a, f32>,
    ) -> Result<()> {
        let (queue, linear) = (self.shape.queue, self.parameters.linear(linear));
        let Some(output) = output else {
            return product_add(queue, Layout::Nt, input, linear.weight, linear.bias, y);
        };
        let output = output.first(y.rows);
        clear(queue, output)?;
        product_add(queue, Layout::Nt, input, linear.weight, linear.bias, output)?;
        self.norm(norm).add_on(queue, y, output)
    }

    /// Adds the gradients of a product's parameters.
    fn linear_backward(&self, linear: &LinearView<'a, E>, x: Rows<'a, E>, dy: Rows<'a, E>) -> Result<()> {
        let queue = self.shape.queue;
        product_add(queue, Layout::Tn, dy, x, None, linear.dweight)?;
        match linear.dbias {
            Some(dbias) if !self.frozen => column_sums_on(queue, dy, self.work.scratch.view(), dbias),
            _ => Ok(()),
        }
    }

    fn norm(&self, norm: layout::Norm) -> Norm<View<'a, f32>> {
        let Config { norm: kind, norm_eps: eps, .. } = *self.shape.config;
        let [weight, bias] = self.parameters.norm(norm);
        Norm { kind, eps, weight, bias }
    }

    fn norm_gradient(&self, norm: layout::Norm) -> NormGradient<'a> {
        let [weight, bias] = if self.frozen { [None; 2] } else { self.parameters.norm_gradient(norm) };
        NormGradient { weight, bias, scratch: self.work.scratch.view() }
    }
}

/// Sets rows to zero.
pub(super) fn clear(queue: &Queue, rows: Rows<'_, f32>) -> Result<()> {
    queue.fill(rows.data.slice(0..rows.rows * rows.stride), 0)
}

/// Copies rows of equal strides.
fn copy(queue: &Queue, from: Rows<'_, f32>, to: Rows<'_, f32>) -> Result<()> {
    let len = from.rows * from.stride;
    queue.copy(from.data.slice(0..len), to.data.slice(0..len))
}
