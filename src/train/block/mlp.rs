//! The MLP of a block: `down(act(gate(h)) · up(h))`, or `down(act(up(h)))`.

use super::{Block, Shape};
use crate::Result;
use crate::device::kernels::Kernels;
use crate::device::{Matrix, Rows};
use crate::ops::activation::{activate_backward_on, activate_on};
use crate::ops::matmul::{Layout, product};

/// What backward needs of the MLP. Its backward turns these activations into their gradients.
pub struct Saved<E> {
    /// `[T, I]`, where the MLP is gated.
    gate: Option<Matrix<E>>,
    /// `[T, I]`
    up: Matrix<E>,
    /// The last product's output `[T, C]`, where a norm comes after it.
    pub output: Option<Matrix<f32>>,
}

impl<E: Kernels> Saved<E> {
    pub fn new(shape: &Shape, rows: usize) -> Result<Self> {
        let Shape { queue, config, .. } = *shape;
        let wide = || Matrix::new(queue, rows, config.intermediate_size);
        let output = || Matrix::new(queue, rows, config.hidden_size);
        Ok(Self {
            gate: config.gated.then(wide).transpose()?,
            up: wide()?,
            output: config.norm_after.then(output).transpose()?,
        })
    }
}

impl<'a, E: Kernels> Block<'a, E> {
    /// Adds the MLP of `x` to `y`.
    pub(super) fn mlp(&self, x: Rows<'a, f32>, saved: &'a Saved<E>, y: Rows<'a, f32>) -> Result<()> {
        let queue = self.shape.queue;
        let input = self.input(x, self.layer.mlp_norm)?;
        for (linear, out) in [(Some(self.layer.up), Some(&saved.up)), (self.layer.gate, saved.gate.as_ref())]
        {
            let (Some(linear), Some(out)) = (linear, out) else { continue };
            let linear = self.parameters.linear(linear);
            product(queue, Layout::Nt, input, linear.weight, linear.bias, out.first(x.rows))?;
        }
        let wide = self.activate(saved, x.rows)?;
        self.add(self.layer.down, wide, (self.layer.mlp_norm, &saved.output), y)
    }

    /// From the gradient of what was added, in [`super::Work::dy`], to that of `x`.
    pub(super) fn mlp_backward(&self, x: Rows<'a, f32>, saved: &'a Saved<E>) -> Result<()> {
        let (queue, rows) = (self.shape.queue, x.rows);
        let (dy, down) = (self.dy(rows), self.parameters.linear(self.layer.down));
        let wide = self.activate(saved, rows)?;
        self.linear_backward(&down, wide, dy)?;
        product(queue, Layout::Nn, dy, down.weight, None, wide)?;
        let (up, activation) = (saved.up.first(rows), self.shape.config.activation);
        let products = match (&saved.gate, self.layer.gate) {
            (Some(gate), Some(linear)) => {
                let gate = gate.first(rows);
                activate_backward_on(queue, activation, gate, Some(up), wide)?;
                vec![(self.parameters.linear(linear), gate), (self.parameters.linear(self.layer.up), up)]
            }
            _ => {
                activate_backward_on(queue, activation, up, None, wide)?;
                vec![(self.parameters.linear(self.layer.up), up)]
            }
        };
        self.input_backward(x, self.layer.mlp_norm, &products)
    }

    /// What the last product reads.
    fn activate(&self, saved: &'a Saved<E>, rows: usize) -> Result<Rows<'a, E>> {
        let (queue, activation) = (self.shape.queue, self.shape.config.activation);
        let (wide, up) = (self.work.wide.first(rows), saved.up.first(rows));
        match &saved.gate {
            Some(gate) => activate_on(queue, activation, gate.first(rows), Some(up), wide)?,
            None => activate_on(queue, activation, up, None, wide)?,
        }
        Ok(wide)
    }
}
