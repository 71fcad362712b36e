//! What a training run reports at its end.

use std::path::Path;
use std::time::Instant;

use serde::Serialize;
use serde_json::{Map, Value};

use super::super::args::TrainArgs;
use super::super::summary::{Timing, counted, report as tell};
use crate::Result;
use crate::train::Trainer;
use crate::train::metrics::{EVALUATIONS, Evaluation, METRICS, StepMetrics, Stepped, read};

/// What the trainer does not know of its run.
pub struct Facts<'a> {
    pub folder: &'a Path,
    pub settings: &'a Map<String, Value>,
    /// Those that were learnt from.
    pub documents: u64,
    /// When loading began, and when it was done.
    pub times: [Instant; 2],
}

/// The summary file.
#[derive(Serialize)]
struct Summary<'a> {
    command: &'static str,
    version: &'static str,
    /// Of the configuration that was trained.
    config: String,
    output: String,
    device: String,
    threads: usize,
    /// As a checkpoint records them, with fingerprints of model and data.
    settings: &'a Map<String, Value>,
    /// Of the model.
    weights: usize,
    documents: u64,
    steps: u64,
    /// Tokens of the steps that this process took: those before a checkpoint are not among them.
    tokens: u64,
    /// Of the last step's batch, in nats.
    loss: Option<f64>,
    /// Held-out, after the last step.
    perplexity: Option<f64>,
    #[serde(flatten)]
    timing: Timing,
}

/// Says what was done, and writes the summary where one is asked for.
///
/// # Errors
/// Files that cannot be read or written.
pub fn report(args: &TrainArgs, trainer: &Trainer, facts: Facts) -> Result<()> {
    let [start, loaded] = facts.times;
    let seconds = loaded.elapsed().as_secs_f64();
    let timing = Timing::new((loaded - start).as_secs_f64(), seconds, trainer.tokens());
    let step = last::<StepMetrics>(&facts.folder.join(METRICS), trainer)?;
    let evaluation = last::<Evaluation>(&facts.folder.join(EVALUATIONS), trainer)?;
    let (loss, perplexity) = (step.map(|line| line.loss), evaluation.map(|line| line.perplexity));
    let steps = trainer.steps();
    let mut text = format!("wrote {}: {}{}", facts.folder.display(), counted(steps, "step"), timing.text());
    text += &loss.map_or(String::new(), |loss| format!(", loss {loss:.4}"));
    text += &perplexity.map_or(String::new(), |value| format!(", held-out perplexity {value:.4}"));
    let summary = Summary {
        command: "train",
        version: env!("CARGO_PKG_VERSION"),
        config: trainer.origin().config_path().display().to_string(),
        output: facts.folder.display().to_string(),
        device: trainer.learner().queue().device().to_string(),
        threads: rayon::current_num_threads(),
        settings: facts.settings,
        weights: trainer.learner().layout().elements(),
        documents: facts.documents,
        steps,
        tokens: trainer.tokens(),
        loss,
        perplexity,
        timing,
    };
    tell(&args.common, args.output.summary.as_deref(), &text, &summary)
}

/// The line of the last step, if there is one.
fn last<T: Stepped>(path: &Path, trainer: &Trainer) -> Result<Option<T>> {
    Ok(read::<T>(path)?.last().filter(|line| line.step() == trainer.steps()))
}
