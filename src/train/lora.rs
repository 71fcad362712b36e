//! Low-rank adapters (Hu et al., LoRA): each product inside the blocks uses `W + s·B·A` with `s = alpha / rank`, and only A
//! and B learn.
//!
//! The sum is formed once a step, and the gradients of A and B come from that of the sum: `dB = s·dW·Aᵀ`,
//! `dA = s·Bᵀ·dW`. So a pass is the same as without adapters, and what is scored after merging is what was trained. It
//! costs the products of dW, as training all weights does; it saves the moments of all weights.

use super::parameters::{Parameters, zeros};
use crate::device::kernels::Kernels;
use crate::device::{Buffer, Matrix, Queue, Rows, View, stride};
use crate::model::init::{Init, fill};
use crate::model::layout::{Layout, Slot, Tensor};
use crate::ops::elementwise::convert_on;
use crate::ops::matmul::{Layout as Form, multiply_add_on, multiply_on};
use crate::{Error, Result};

/// The size of the adapters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoraConfig {
    /// Rows of A, columns of B.
    pub rank: usize,
    /// Over `rank`, the factor of their product.
    pub alpha: f32,
    /// Of A's first values; B starts as zero.
    pub seed: u64,
}

/// The adapters of one tensor.
struct Adapter {
    /// The tensor's name in the file.
    name: String,
    /// Where it lies `[outputs, inputs]`.
    weight: Slot,
    /// `[rank, inputs]`
    a: Slot,
    /// `[outputs, rank]`
    b: Slot,
}

/// All adapters of a model in f32.
pub struct Lora {
    config: LoraConfig,
    adapters: Vec<Adapter>,
    weight: Buffer<f32>,
    gradient: Buffer<f32>,
    /// `s` times the identity `[rank, rank]`: a product with it scales.
    identity: Matrix<f32>,
    /// `s·A` and `W + s·B·A` of one tensor.
    scaled: Buffer<f32>,
    sum: Buffer<f32>,
}

impl Lora {
    /// Adapters for each tensor of a product inside the blocks.
    ///
    /// # Errors
    /// [`Error::Usage`] for a rank of 0, or above what the sum of any tensor can have; as [`Queue::alloc`].
    pub fn new(queue: &Queue, layout: &Layout, config: LoraConfig) -> Result<Self> {
        let rank = config.rank;
        let most = layout.inner_products().map(|tensor| tensor.slot.rows.min(tensor.slot.width)).max();
        let most = most.unwrap_or(0);
        if !(1..=most).contains(&rank) {
            return Err(Error::Usage(format!("LoRA rank {rank}: expected 1 to {most} for this model")));
        }
        let mut len = 0;
        let mut place = |rows, width| Slot::after(&mut len, rows, width);
        let adapter = |tensor: &Tensor| Adapter {
            name: tensor.parameter.name.clone(),
            weight: tensor.slot,
            a: place(rank, tensor.slot.width),
            b: place(tensor.slot.rows, rank),
        };
        let adapters: Vec<_> = layout.inner_products().map(adapter).collect();
        let largest =
            |size: fn(&Adapter) -> Slot| adapters.iter().map(|a| size(a).extent()).max().unwrap_or(0);
        let scale = config.alpha / rank as f32;
        let identity: Vec<_> =
            (0..rank * rank).map(|at| if at / rank == at % rank { scale } else { 0.0 }).collect();
        let lora = Self {
            weight: zeros(queue, len)?,
            gradient: zeros(queue, len)?,
            identity: Matrix::upload(queue, rank, &identity)?,
            scaled: zeros(queue, largest(|adapter| adapter.a))?,
            sum: zeros(queue, largest(|adapter| adapter.weight))?,
            config,
            adapters,
        };
        lora.initialise(queue)?;
        Ok(lora)
    }

    /// A starts with the variance of PEFT's uniform values, 1 / (3 · inputs).
    fn initialise(&self, queue: &Queue) -> Result<()> {
        for Adapter { name, a, .. } in &self.adapters {
            let mut values = vec![0.0; a.rows * a.width];
            let init = Init::Normal { std: 1.0 / (3.0 * a.width as f64).sqrt() };
            fill(init, self.config.seed, &format!("{name}.lora_A"), 0, &mut values);
            a.of(self.weight.view()).write(queue, &values)?;
        }
        Ok(())
    }

    /// Elements of [`Self::weight`].
    pub fn len(&self) -> usize {
        self.weight.len()
    }

    /// All A and B.
    pub fn weight(&self) -> View<'_, f32> {
        self.weight.view()
    }

    /// Their gradients over `s`.
    pub fn gradient(&self) -> View<'_, f32> {
        self.gradient.view()
    }

    /// s
    pub fn scale(&self) -> f32 {
        self.config.alpha / self.config.rank as f32
    }

    /// Brings the products' weights up to the adapters.
    ///
    /// # Errors
    /// What went wrong on the device.
    pub fn merge<E: Kernels>(&self, queue: &Queue, parameters: &Parameters<E>) -> Result<()> {
        let rounded = parameters.rounded().expect("adapters keep the products' weights apart");
        for adapter in &self.adapters {
            let sum = self.sum(queue, adapter, parameters.weight())?;
            convert_on(queue, sum, adapter.weight.of(rounded))?;
        }
        Ok(())
    }

    /// `W + s·B·A`
    fn sum<'a>(&'a self, queue: &Queue, adapter: &Adapter, weight: View<'_, f32>) -> Result<Rows<'a, f32>> {
        let Adapter { weight: slot, a, b, .. } = adapter;
        let [a, b] = [a, b].map(|slot| slot.of(self.weight.view()));
        let scaled = Rows { data: self.scaled.view(), ..a };
        multiply_on(queue, Form::Nn, self.identity.view(), a, View::none(), scaled)?;
        let sum = self.sum.view().slice(0..slot.extent());
        queue.copy(slot.of(weight).data, sum)?;
        let sum = Rows { data: sum, rows: slot.rows, width: slot.width, stride: stride(slot.width) };
        multiply_add_on(queue, Form::Nn, b, scaled, View::none(), sum)?;
        Ok(sum)
    }

    /// The gradients of A and B, over `s`, from those of the products' weights.
    ///
    /// # Errors
    /// What went wrong on the device.
    pub fn backward(&self, queue: &Queue, gradient: View<'_, f32>) -> Result<()> {
        queue.fill(self.gradient.view(), 0)?;
        for Adapter { weight, a, b, .. } in &self.adapters {
            let dweight = weight.of(gradient);
            let [da, db] = [a, b].map(|slot| slot.of(self.gradient.view()));
            let [a, b] = [a, b].map(|slot| slot.of(self.weight.view()));
            multiply_add_on(queue, Form::Tn, b, dweight, View::none(), da)?;
            multiply_add_on(queue, Form::Nt, dweight, a, View::none(), db)?;
        }
        Ok(())
    }

    /// Reads a tensor with its adapters merged.
    ///
    /// # Errors
    /// What went wrong on the device.
    pub fn read(&self, queue: &Queue, tensor: &Tensor, weight: View<'_, f32>) -> Result<Vec<f32>> {
        match self.adapters.iter().find(|adapter| adapter.name == tensor.parameter.name) {
            Some(adapter) => tensor.read_rows(queue, self.sum(queue, adapter, weight)?),
            None => tensor.read(queue, weight),
        }
    }
}
