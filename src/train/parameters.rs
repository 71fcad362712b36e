//! Weights, their gradients and the optimizer's moments on a device.

use crate::Result;
use crate::device::kernels::Kernels;
use crate::device::{Bias, Buffer, Queue, Rows, View};
use crate::ops::elementwise::convert_on;
use crate::tensor::Element;

use crate::model::layout::{Layout, Linear, Norm, Slot};

/// Elements of a line, where a flat buffer is worked through as a matrix; every length is a multiple.
const LINE: usize = 8;

/// The flat buffers of a layout: f32 weights, and where the products take another type, these weights rounded to it.
pub struct Parameters<E> {
    weight: Buffer<f32>,
    rounded: Option<Buffer<E>>,
    gradient: Buffer<f32>,
}

impl<E: Kernels> Parameters<E> {
    /// Zeros. `apart`: the products' weights are others than these even in f32.
    ///
    /// # Errors
    /// As [`Queue::alloc`].
    pub fn new(queue: &Queue, layout: &Layout, apart: bool) -> Result<Self> {
        let rounded = apart || E::NAME != f32::NAME;
        Ok(Self {
            weight: zeros(queue, layout.len)?,
            rounded: rounded.then(|| zeros(queue, layout.len)).transpose()?,
            gradient: zeros(queue, layout.len)?,
        })
    }

    /// The weights that training changes.
    pub fn weight(&self) -> View<'_, f32> {
        self.weight.view()
    }

    /// The weights of the products, where they are others than [`Self::weight`].
    pub fn rounded(&self) -> Option<View<'_, E>> {
        self.rounded.as_ref().map(Buffer::view)
    }

    /// Brings the products' weights up to the others.
    ///
    /// # Errors
    /// What went wrong on the device before.
    pub fn round(&self, queue: &Queue) -> Result<()> {
        let Some(rounded) = self.rounded() else { return Ok(()) };
        convert_on(queue, Rows::lines(self.weight.view(), LINE), Rows::lines(rounded, LINE))
    }

    /// The gradients.
    pub fn gradient(&self) -> View<'_, f32> {
        self.gradient.view()
    }

    /// All of it as the model uses it.
    pub fn view(&self) -> ParameterView<'_, E> {
        let exact = self.weight.view();
        let rounded = self.rounded().or_else(|| exact.same()).expect("f32 needs no rounding");
        ParameterView { exact, rounded, gradient: self.gradient.view() }
    }
}

/// A buffer of zeros.
pub fn zeros<T: bytemuck::Pod>(queue: &Queue, len: usize) -> Result<Buffer<T>> {
    let buffer = queue.alloc(len)?;
    queue.fill(buffer.view(), 0)?;
    Ok(buffer)
}

/// What a pass reads and adds its gradients to.
#[derive(Clone, Copy)]
pub struct ParameterView<'a, E> {
    exact: View<'a, f32>,
    rounded: View<'a, E>,
    gradient: View<'a, f32>,
}

/// A product's parameters and their gradients.
#[derive(Clone, Copy)]
pub struct LinearView<'a, E> {
    /// `[outputs, inputs]`
    pub weight: Rows<'a, E>,
    /// `[outputs]`
    pub bias: Option<Bias<'a, E>>,
    /// `[outputs, inputs]`
    pub dweight: Rows<'a, f32>,
    /// `[outputs]`
    pub dbias: Option<View<'a, f32>>,
}

impl<'a, E: Kernels> ParameterView<'a, E> {
    /// A matrix as the products read it.
    pub fn matrix(&self, slot: Slot) -> Rows<'a, E> {
        slot.of(self.rounded)
    }

    /// A matrix in f32.
    pub fn exact(&self, slot: Slot) -> Rows<'a, f32> {
        slot.of(self.exact)
    }

    /// A matrix's gradient.
    pub fn gradient(&self, slot: Slot) -> Rows<'a, f32> {
        slot.of(self.gradient)
    }

    /// A vector's gradient.
    pub fn vector_gradient(&self, slot: Slot) -> View<'a, f32> {
        slot.vector(self.gradient)
    }

    /// A product.
    pub fn linear(&self, linear: Linear) -> LinearView<'a, E> {
        let bias = |slot: Slot| Bias { exact: slot.vector(self.exact), rounded: slot.vector(self.rounded) };
        LinearView {
            weight: self.matrix(linear.weight),
            bias: linear.bias.map(bias),
            dweight: self.gradient(linear.weight),
            dbias: linear.bias.map(|slot| self.vector_gradient(slot)),
        }
    }

    /// A norm's weight and bias.
    pub fn norm(&self, norm: Norm) -> [Option<View<'a, f32>>; 2] {
        [norm.weight, norm.bias].map(|slot| slot.map(|slot| slot.vector(self.exact)))
    }

    /// The gradients of a norm's weight and bias.
    pub fn norm_gradient(&self, norm: Norm) -> [Option<View<'a, f32>>; 2] {
        [norm.weight, norm.bias].map(|slot| slot.map(|slot| self.vector_gradient(slot)))
    }
}
