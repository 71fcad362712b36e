//! A run from its first step to its last: evaluations, checkpoints, metrics, the trained model.

use std::num::NonZeroU64;
use std::path::PathBuf;

use serde_json::{Map, Value};

use super::data::Loader;
use super::metrics::{Evaluation, Metrics, StepMetrics};
use super::output::{Begin, Output};
use super::trainer::Trainer;
use crate::{Error, Result};

/// What a run does besides its steps.
#[derive(Clone, Debug, PartialEq)]
pub struct RunConfig {
    /// Steps between checkpoints; only one at the end where there is none.
    pub save_every: Option<NonZeroU64>,
    /// Steps between evaluations; only one at the end where there is none.
    pub eval_every: Option<NonZeroU64>,
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
    /// A batch of held-out data is next to be evaluated.
    Evaluating,
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
    /// The step of the last evaluation, and its loss.
    evaluated: Option<(u64, f64)>,
    /// Where the last checkpoint lies.
    saved: Option<PathBuf>,
}

impl<'a> Run<'a> {
    /// Prepares the output: an earlier run's files go, or the run goes on from its last checkpoint, as the output says. All
    /// else that a run needs has been found good by now.
    ///
    /// # Errors
    /// A checkpoint of other settings, naming what differs; files that cannot be read or written.
    pub fn new(
        trainer: &'a mut Trainer,
        output: &'a Output,
        held_out: Option<&'a Loader>,
        config: &'a RunConfig,
    ) -> Result<Self> {
        let last = if output.begin() == Begin::Resume { output.last()? } else { None };
        let (folder, log_dir) = (output.folder(), config.log_dir.as_deref());
        let Some((saved, state)) = last else {
            if output.begin() != Begin::New {
                output.clear()?;
            }
            let metrics = Metrics::create(folder, log_dir)?;
            return Ok(Self { trainer, output, held_out, config, metrics, evaluated: None, saved: None });
        };
        state.check(&saved, &config.settings)?;
        trainer.resume(&saved, &state)?;
        let metrics = Metrics::resume(folder, log_dir, state.step)?;
        let evaluated = state.evaluation.map(|loss| (state.step, loss));
        Ok(Self { trainer, output, held_out, config, metrics, evaluated, saved: Some(saved) })
    }

    /// Takes all steps that are left and writes the trained model. `observe` is told what happens. By an error it stops the
    /// run; where it was told of a step or of a batch to be evaluated, a checkpoint is saved first.
    ///
    /// # Errors
    /// Those of the steps and of `observe`; files that cannot be written.
    pub fn finish(mut self, mut observe: impl FnMut(Event) -> Result<()>) -> Result<()> {
        if self.saved.is_some() {
            self.go_on(&mut observe)?;
        }
        while self.trainer.steps() < self.trainer.config().steps {
            self.step(&mut observe)?;
        }
        // The folder itself is its last checkpoint where the others are gone.
        if let Some(saved) = self.saved.as_deref().filter(|saved| *saved != self.output.folder()) {
            self.output.publish(saved)?;
        }
        self.metrics.sync()
    }

    /// Makes up for the evaluation that the run was stopped in.
    fn go_on(&mut self, observe: &mut impl FnMut(Event) -> Result<()>) -> Result<()> {
        let step = self.trainer.steps();
        observe(Event::Resumed(step))?;
        if self.is_evaluated(step) && self.evaluated.is_none() {
            self.evaluate(observe)?;
            self.save(observe)?;
        }
        Ok(())
    }

    fn step(&mut self, observe: &mut impl FnMut(Event) -> Result<()>) -> Result<()> {
        let step = self.trainer.step().map_err(|error| self.keep_last_good(error))?;
        self.metrics.step(&step)?;
        let mut outcome = observe(Event::Step(step));
        if outcome.is_ok() && self.is_evaluated(step.step) {
            outcome = self.evaluate(observe);
        }
        if outcome.is_err() || self.is_saved(step.step) {
            self.save(observe)?;
        }
        outcome
    }

    /// Saves the weights of the step before the one that diverged, unless there is a checkpoint, and tells where it is.
    fn keep_last_good(&mut self, error: Error) -> Error {
        let Error::Diverged { step, loss, gradient_norm, .. } = error else { return error };
        if self.saved.is_none()
            && let Err(error) = self.save(&mut |_| Ok(()))
        {
            tracing::warn!("the weights of step {} cannot be saved: {error}", step - 1);
        }
        Error::Diverged { step, loss, gradient_norm, checkpoint: self.saved.clone() }
    }

    fn evaluate(&mut self, observe: &mut impl FnMut(Event) -> Result<()>) -> Result<()> {
        let Some(held_out) = self.held_out else { return Ok(()) };
        let evaluation = self.trainer.evaluate(held_out, || observe(Event::Evaluating))?;
        self.metrics.evaluation(&evaluation)?;
        self.evaluated = Some((evaluation.step, evaluation.loss));
        observe(Event::Evaluation(evaluation))
    }

    /// Saves the step with its held-out loss, by which the best checkpoint is known.
    fn save(&mut self, observe: &mut impl FnMut(Event) -> Result<()>) -> Result<()> {
        let step = self.trainer.steps();
        let folder = self.output.checkpoint(step);
        let loss = self.evaluated.filter(|(evaluated, _)| *evaluated == step).map(|(_, loss)| loss);
        self.metrics.sync()?;
        self.trainer.save(&folder, loss, &self.config.settings)?;
        self.saved = Some(folder);
        self.output.prune(|step| self.is_saved(step))?;
        observe(Event::Saved(step))
    }

    /// Whether held-out data are evaluated after this step.
    fn is_evaluated(&self, step: u64) -> bool {
        self.held_out.is_some() && is_due(self.config.eval_every, self.trainer.config().steps, step)
    }

    /// Whether there is a checkpoint of this step, even if the run is not stopped there.
    fn is_saved(&self, step: u64) -> bool {
        is_due(self.config.save_every, self.trainer.config().steps, step)
    }
}

/// Whether something is done after this step: every so many, and at the end.
fn is_due(every: Option<NonZeroU64>, steps: u64, step: u64) -> bool {
    step == steps || (step > 0 && every.is_some_and(|every| step % every == 0))
}
