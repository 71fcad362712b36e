//! One optimizer step: losses and gradients of a large batch in parts, clipping, AdamW.

use super::batch::Batch;
use super::lora::Lora;
use super::parameters::{Parameters, zeros};
use super::transformer::{Extent, Transformer};
use crate::device::kernels::Kernels;
use crate::device::{Buffer, Queue, View};
use crate::model::Config;
use crate::model::layout::{Layout, Tensor};
use crate::ops::cross_entropy::CrossEntropy;
use crate::ops::optimizer::{self, AdamW, SUMS, sum_of_squares_on};
use crate::{Error, Result};

/// What the optimizer changes: flat weights with their gradients and moments.
pub struct Moments {
    exp_avg: Buffer<f32>,
    exp_avg_sq: Buffer<f32>,
    partials: Buffer<f64>,
}

impl Moments {
    fn new(queue: &Queue, len: usize) -> Result<Self> {
        Ok(Self { exp_avg: zeros(queue, len)?, exp_avg_sq: zeros(queue, len)?, partials: queue.alloc(SUMS)? })
    }
}

/// The settings of one optimizer step.
#[derive(Clone, Copy, Debug)]
pub struct StepConfig {
    /// AdamW at this step.
    pub optimizer: AdamW,
    /// The largest global norm of the gradient; it is scaled down to it.
    pub clip: Option<f32>,
    /// No loss where the model gives the target more than this probability (ForTIFAI, arXiv 2509.08972).
    pub truncate_above: Option<f32>,
}

/// What a step found, before it changed the weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Mean loss of the targets that count, nats.
    pub loss: f64,
    /// Global norm of its gradient, before clipping.
    pub gradient_norm: f64,
}

/// A model that learns, of either type, on any device.
pub trait Learn: Send {
    /// Losses, gradients and the update, of one large batch that comes in parts. The result does not depend on how it was
    /// parted but for rounding.
    ///
    /// # Errors
    /// [`Error::Diverged`] where the loss or the gradient is not finite; then the weights are as before.
    fn step(&mut self, parts: &[Batch], config: &StepConfig) -> Result<Step>;
    /// The mean loss of a large batch that comes in parts, nats, and its gradient in the place of the one before.
    ///
    /// # Errors
    /// What went wrong on the device.
    fn differentiate(&mut self, parts: &[Batch], truncate_above: Option<f32>) -> Result<f64>;
    /// −log p of each target in nats, 0 where it carries no loss.
    ///
    /// # Errors
    /// What went wrong on the device.
    fn evaluate(&mut self, batch: &Batch) -> Result<Vec<f32>>;
    /// The places of the parameters.
    fn layout(&self) -> &Layout;
    /// Reads the values of a tensor as they are now, adapters merged.
    ///
    /// # Errors
    /// What went wrong on the device.
    fn read(&self, tensor: &Tensor) -> Result<Vec<f32>>;
    /// Reads the last gradient of a tensor, before clipping; of what is frozen, zeros.
    ///
    /// # Errors
    /// What went wrong on the device.
    fn read_gradient(&self, tensor: &Tensor) -> Result<Vec<f32>>;
    /// Sets the values of a tensor.
    ///
    /// # Errors
    /// What went wrong on the device.
    fn write(&mut self, tensor: &Tensor, values: &[f32]) -> Result<()>;
    /// To be called once all tensors are set.
    ///
    /// # Errors
    /// What went wrong on the device.
    fn ready(&mut self) -> Result<()>;
    /// Flat buffers from which, with the tensors where these are saved exactly, a run continues.
    fn state(&self) -> Vec<(&'static str, View<'_, f32>)>;
    /// The device.
    fn queue(&self) -> &Queue;
}

/// How a learner is set up.
#[derive(Clone, Copy, Debug)]
pub struct LearnerConfig {
    /// Its largest batch.
    pub extent: Extent,
    /// Adapters instead of all weights.
    pub lora: Option<super::lora::LoraConfig>,
}

/// A [`Learn`] whose products take `E`.
pub struct Learner<E: Kernels> {
    queue: Queue,
    transformer: Transformer<E>,
    parameters: Parameters<E>,
    lora: Option<Lora>,
    moments: Moments,
}

impl<E: Kernels> Learner<E> {
    /// Plans all memory.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn new(queue: Queue, model: &Config, config: &LearnerConfig) -> Result<Self> {
        let transformer = Transformer::new(&queue, model, config.extent)?;
        let layout = transformer.layout();
        let lora = config.lora.map(|lora| Lora::new(&queue, layout, lora)).transpose()?;
        let parameters = Parameters::new(&queue, layout, lora.is_some())?;
        let trained = lora.as_ref().map_or(layout.len, Lora::len);
        let moments = Moments::new(&queue, trained)?;
        Ok(Self { queue, transformer, parameters, lora, moments })
    }

    fn update(&self, scale: f32, optimizer: &AdamW) -> Result<()> {
        let Self { queue, parameters, moments, .. } = self;
        let (exp_avg, exp_avg_sq) = (moments.exp_avg.view(), moments.exp_avg_sq.view());
        let Some(lora) = &self.lora else {
            let all = optimizer::Parameters {
                weight: parameters.weight(),
                gradient: parameters.gradient(),
                exp_avg,
                exp_avg_sq,
                rounded: parameters.rounded(),
                decayed: self.transformer.layout().decayed,
            };
            return optimizer.step_on(queue, scale, &all);
        };
        let adapters = optimizer::Parameters::<f32> {
            weight: lora.weight(),
            gradient: lora.gradient(),
            exp_avg,
            exp_avg_sq,
            rounded: None,
            decayed: lora.len(),
        };
        optimizer.step_on(queue, scale, &adapters)?;
        lora.merge(queue, parameters)
    }
}

impl<E: Kernels> Learn for Learner<E> {
    fn step(&mut self, parts: &[Batch], config: &StepConfig) -> Result<Step> {
        let loss = self.differentiate(parts, config.truncate_above)?;
        let (gradient, factor) = match &self.lora {
            None => (self.parameters.gradient(), 1.0),
            Some(lora) => {
                lora.backward(&self.queue, self.parameters.gradient())?;
                (lora.gradient(), lora.scale())
            }
        };
        let squares = sum_of_squares_on(&self.queue, gradient, self.moments.partials.view())?;
        let gradient_norm = f64::from(factor) * squares.sqrt();
        if !loss.is_finite() || !gradient_norm.is_finite() {
            let step = u64::from(config.optimizer.step);
            return Err(Error::Diverged { step, loss, gradient_norm, checkpoint: None });
        }
        // As `clip_grad_norm_` does it.
        let clip = config.clip.map_or(1.0, |clip| (f64::from(clip) / (gradient_norm + 1e-6)).min(1.0));
        self.update(factor * clip as f32, &config.optimizer)?;
        Ok(Step { loss, gradient_norm })
    }

    fn differentiate(&mut self, parts: &[Batch], truncate_above: Option<f32>) -> Result<f64> {
        let counted = parts.iter().map(Batch::counted).sum::<usize>().max(1);
        let loss = CrossEntropy { scale: 1.0 / counted as f32, truncate_above };
        self.queue.fill(self.parameters.gradient(), 0)?;
        let mut sum = 0.0;
        for part in parts {
            let losses = self.transformer.learn(self.parameters.view(), &loss, part, self.lora.is_some())?;
            sum += losses.iter().map(|loss| f64::from(*loss)).sum::<f64>();
        }
        Ok(sum / counted as f64)
    }

    fn evaluate(&mut self, batch: &Batch) -> Result<Vec<f32>> {
        let loss = CrossEntropy { scale: 1.0, truncate_above: None };
        self.transformer.evaluate(self.parameters.view(), &loss, batch)
    }

    fn layout(&self) -> &Layout {
        self.transformer.layout()
    }

    fn read(&self, tensor: &Tensor) -> Result<Vec<f32>> {
        match &self.lora {
            None => tensor.read(&self.queue, self.parameters.weight()),
            Some(lora) => lora.read(&self.queue, tensor, self.parameters.weight()),
        }
    }

    fn read_gradient(&self, tensor: &Tensor) -> Result<Vec<f32>> {
        tensor.read(&self.queue, self.parameters.gradient())
    }

    fn write(&mut self, tensor: &Tensor, values: &[f32]) -> Result<()> {
        tensor.write(&self.queue, self.parameters.weight(), values)
    }

    fn ready(&mut self) -> Result<()> {
        match &self.lora {
            None => self.parameters.round(&self.queue),
            Some(lora) => {
                self.parameters.round(&self.queue)?;
                lora.merge(&self.queue, &self.parameters)
            }
        }
    }

    fn state(&self) -> Vec<(&'static str, View<'_, f32>)> {
        let moments =
            [("exp_avg", self.moments.exp_avg.view()), ("exp_avg_sq", self.moments.exp_avg_sq.view())];
        let weights = match &self.lora {
            Some(lora) => Some(("adapters", lora.weight())),
            None => self.parameters.rounded().map(|_| ("weight", self.parameters.weight())),
        };
        weights.into_iter().chain(moments).collect()
    }

    fn queue(&self) -> &Queue {
        &self.queue
    }
}
