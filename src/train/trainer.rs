//! The training loop: rows of data, optimizer steps, evaluations.
//!
//! A run is a pure function of its data, its settings and the weights it starts from: rows and learning rates are looked
//! up by the step's number, so that nothing but weights and moments needs to be remembered.

use std::time::Instant;

use super::batch::Batch;
use super::config::TrainConfig;
use super::data::Loader;
use super::learner::{Learn, Learner, LearnerConfig, StepConfig};
use super::metrics::{Evaluation, StepMetrics};
use super::origin::Origin;
use super::transformer::Extent;
use crate::device::{Device, Queue};
use crate::model::{Config, Dtype};
use crate::ops::optimizer::AdamW;
use crate::{Error, Result};

/// A run in progress.
///
/// ```
/// use toedit::data::tokens::{TokenShards, TokenWriter, WriterConfig};
/// use toedit::train::data::{DataConfig, Loader, Packing, Source};
/// use toedit::train::schedule::{Decay, Schedule};
/// use toedit::train::{Origin, TrainConfig, Trainer};
/// use toedit::{Device, Dtype};
///
/// let place = tempfile::tempdir()?;
/// let folder = place.path().join("tokens");
/// let mut writer = TokenWriter::create(&folder, WriterConfig::new(4096, Some(0)), false)?;
/// writer.push(&[314, 15, 92, 65, 35, 89, 79, 32], None)?;
/// writer.finish()?;
/// let data = DataConfig {
///     sequence_length: 8,
///     packing: Packing::Documents,
///     shuffle: true,
///     seed: 0,
///     response_only: false,
///     eos: None,
/// };
/// let loader = Loader::new(vec![Source { shards: TokenShards::open(&folder)?, weight: None }], &data)?;
///
/// let schedule = Schedule::new(Decay::Constant, 1e-3, 0.0, 0, 2)?;
/// let config = TrainConfig { batch_size: 1, ..TrainConfig::new(2, 8, schedule) };
/// let mut trainer = Trainer::new(Origin::model("assets/tiny")?, loader, config, Device::Cpu, Dtype::F32)?;
/// let (first, second) = (trainer.step()?, trainer.step()?);
/// assert!(second.loss < first.loss);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Trainer {
    learner: Box<dyn Learn>,
    origin: Origin,
    config: TrainConfig,
    dtype: Dtype,
    loader: Loader,
    step: u64,
    tokens: u64,
}

impl Trainer {
    /// Plans all memory, and reads or draws the first weights.
    ///
    /// # Errors
    /// Those of [`TrainConfig::check`]; tensors that are missing or do not fit; [`Error::OutOfMemory`].
    pub fn new(
        origin: Origin,
        loader: Loader,
        config: TrainConfig,
        device: Device,
        dtype: Dtype,
    ) -> Result<Self> {
        config.check(origin.config())?;
        let mut learner = learner(origin.config(), &config, device, dtype)?;
        start(learner.as_mut(), &origin, config.seed)?;
        Ok(Self { learner, origin, config, dtype, loader, step: 0, tokens: 0 })
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Tokens of the steps that were taken here, not of those before a checkpoint that it goes on from.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// The settings.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// Where the model came from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The type of the products.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The model.
    pub fn learner(&self) -> &dyn Learn {
        self.learner.as_ref()
    }

    /// Goes on after `step`, the learner's tensors and state being those of a checkpoint.
    pub(super) fn restore(&mut self, step: u64) -> &mut dyn Learn {
        self.step = step;
        self.learner.as_mut()
    }

    /// Takes the next step.
    ///
    /// # Errors
    /// [`Error::Diverged`], the weights being those of the step before; data that cannot be read.
    pub fn step(&mut self) -> Result<StepMetrics> {
        let start = Instant::now();
        let step = self.step + 1;
        let parts = self.parts(self.step)?;
        let learning_rate = self.config.schedule.at(step);
        let [beta1, beta2] = self.config.betas;
        let TrainConfig { eps, weight_decay, clip, truncate_above, .. } = self.config;
        let number =
            u32::try_from(step).map_err(|_| Error::Usage(format!("step {step}: 2³² is the limit")))?;
        let learning_rate_f32 = learning_rate as f32;
        let optimizer =
            AdamW { learning_rate: learning_rate_f32, beta1, beta2, eps, weight_decay, step: number };
        let found = self.learner.step(&parts, &StepConfig { optimizer, clip, truncate_above })?;
        self.step = step;
        let tokens: usize = parts.iter().map(|part| part.ids.len()).sum();
        self.tokens += tokens as u64;
        Ok(StepMetrics {
            step,
            loss: found.loss,
            learning_rate,
            gradient_norm: found.gradient_norm,
            tokens_per_second: tokens as f64 / start.elapsed().as_secs_f64(),
        })
    }

    /// The batches of the step after `done` ones.
    fn parts(&self, done: u64) -> Result<Vec<Batch>> {
        let (rows, parts) = (self.config.batch_size as u64, self.config.accumulate as u64);
        let batch = |part| {
            let first = (done * parts + part) * rows;
            let rows: Vec<_> =
                (first..first + rows).map(|row| self.loader.row(row)).collect::<Result<_>>()?;
            Ok(Batch::new(&rows))
        };
        (0..parts).map(batch).collect()
    }

    /// Mean loss over all rows of `data`, once each. `watch` is called before each batch, and ends it by an error.
    ///
    /// # Errors
    /// Data that cannot be read; those of `watch`.
    pub fn evaluate(&mut self, data: &Loader, mut watch: impl FnMut() -> Result<()>) -> Result<Evaluation> {
        let rows = data.rows_per_epoch();
        let (mut sum, mut tokens) = (0.0, 0);
        for first in (0..rows).step_by(self.config.batch_size) {
            watch()?;
            let last = rows.min(first + self.config.batch_size as u64);
            let rows: Vec<_> = (first..last).map(|row| data.row(row)).collect::<Result<_>>()?;
            let batch = Batch::new(&rows);
            sum += self.learner.evaluate(&batch)?.iter().map(|loss| f64::from(*loss)).sum::<f64>();
            tokens += batch.counted() as u64;
        }
        let loss = sum / tokens as f64;
        Ok(Evaluation { step: self.step, loss, perplexity: loss.exp(), tokens })
    }
}

fn learner(model: &Config, config: &TrainConfig, device: Device, dtype: Dtype) -> Result<Box<dyn Learn>> {
    let tokens = config.batch_size * (config.sequence_length - 1);
    let extent = Extent { tokens, sequence: config.sequence_length - 1, recompute: config.recompute };
    let config = LearnerConfig { extent, lora: config.lora };
    let queue = Queue::open(device)?;
    Ok(match dtype {
        Dtype::F32 => Box::new(Learner::<f32>::new(queue, model, &config)?),
        Dtype::Bf16 => Box::new(Learner::<half::bf16>::new(queue, model, &config)?),
    })
}

/// The first weights: those of a checkpoint, or drawn.
fn start(learner: &mut dyn Learn, origin: &Origin, seed: u64) -> Result<()> {
    for tensor in learner.layout().tensors.clone() {
        learner.write(&tensor, &origin.values(&tensor.parameter, seed)?)?;
    }
    learner.ready()
}
