//! A run from its first step to its last: evaluations, checkpoints, metrics, the trained model.

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::data::Loader;
use super::metrics::{Evaluation, Metrics, StepMetrics};
use super::output::{Begin, Output};
use super::trainer::Trainer;
use crate::Result;

/// What a run does besides its steps.
#[derive(Clone, Debug, PartialEq)]
pub struct RunConfig {
    /// Steps between checkpoints; only one at the end where there is none.
    pub save_every: Option<u64>,
    /// Steps between evaluations; only one at the end where there is none.
    pub eval_every: Option<u64>,
    /// TensorBoard's folder.
    pub log_dir: Option<PathBuf>,
    /// All that the run's bytes depend on: a checkpoint made with others is refused.
    pub settings: Map<String, Value>,
}

/// What happens in a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    /// It goes on after this step.
    Resumed(u64),
    /// A step was taken.
    Step(StepMetrics),
    /// Held-out data were evaluated.
    Evaluation(Evaluation),
    /// A checkpoint was saved.
    Saved(u64),
}

/// A trainer with its output.
pub struct Run<'a> {
    trainer: &'a mut Trainer,
    output: &'a Output,
    held_out: Option<&'a Loader>,
    config: &'a RunConfig,
    metrics: Metrics,
    /// The last evaluation.
    evaluated: Option<Evaluation>,
    /// The step of the last checkpoint.
    saved: Option<u64>,
}

impl<'a> Run<'a> {
    /// Prepares the output's records, and where `begin` says so, goes on from its last checkpoint.
    ///
    /// # Errors
    /// A checkpoint of other settings, naming what differs; files that cannot be read or written.
    pub fn new(
        trainer: &'a mut Trainer,
        output: &'a Output,
        begin: Begin,
        held_out: Option<&'a Loader>,
        config: &'a RunConfig,
    ) -> Result<Self> {
        let log_dir = config.log_dir.as_deref();
        let last = if begin == Begin::Resume { output.last()? } else { None };
        let (metrics, saved) = match last {
            None => (Metrics::create(output.folder(), log_dir)?, None),
            Some((folder, state)) => {
                state.check(&folder, &config.settings)?;
                trainer.resume(&folder, &state)?;
                (Metrics::resume(output.folder(), log_dir, state.step)?, Some(state.step))
            }
        };
        Ok(Self { trainer, output, held_out, config, metrics, evaluated: None, saved })
    }

    /// Takes all steps that are left and writes the trained model. `observe` is told what happens, and stops the run by an
    /// error, after a checkpoint.
    ///
    /// # Errors
    /// Those of the steps and of `observe`; files that cannot be written.
    pub fn finish(mut self, mut observe: impl FnMut(Event) -> Result<()>) -> Result<()> {
        if let Some(step) = self.saved {
            observe(Event::Resumed(step))?;
        }
        let steps = self.trainer.config().steps;
        while self.trainer.steps() < steps {
            let step = self.trainer.step()?;
            self.metrics.step(&step)?;
            if let Err(stop) = observe(Event::Step(step)) {
                self.save(&mut |_| Ok(()))?;
                return Err(stop);
            }
            let due = |every: Option<u64>| every.is_some_and(|every| step.step % every == 0);
            if due(self.config.eval_every) || (step.step == steps && self.held_out.is_some()) {
                self.evaluate(&mut observe)?;
            }
            if due(self.config.save_every) {
                self.save(&mut observe)?;
            }
        }
        if self.saved != Some(steps) {
            self.save(&mut observe)?;
        }
        self.output.publish(&self.output.checkpoint(steps))?;
        self.metrics.sync()
    }

    fn evaluate(&mut self, observe: &mut impl FnMut(Event) -> Result<()>) -> Result<()> {
        let Some(held_out) = self.held_out else { return Ok(()) };
        let evaluation = self.trainer.evaluate(held_out)?;
        self.metrics.evaluation(&evaluation)?;
        self.evaluated = Some(evaluation);
        observe(Event::Evaluation(evaluation))
    }

    /// Saves the step with its held-out loss, by which the best checkpoint is known.
    fn save(&mut self, observe: &mut impl FnMut(Event) -> Result<()>) -> Result<()> {
        let step = self.trainer.steps();
        let loss = self.evaluated.filter(|evaluation| evaluation.step == step).map(|found| found.loss);
        self.metrics.sync()?;
        self.trainer.save(&self.output.checkpoint(step), loss, &self.config.settings)?;
        self.saved = Some(step);
        self.output.prune()?;
        observe(Event::Saved(step))
    }
}
