//! A generation's model, trained from scratch.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::config::{CollapseConfig, LearnerFiles};
use super::stages::Event;
use crate::data::tokens::TokenShards;
use crate::train::checkpoint::State;
use crate::train::data::{DataConfig, Loader, Packing, Source};
use crate::train::{self, Begin, Origin, Output, Run, RunConfig, Trainer};
use crate::{Error, Result};

/// What one model learns from.
pub(super) struct Lesson<'a> {
    pub corpora: &'a [PathBuf],
    pub held_out: &'a Path,
    pub seed: u64,
    /// That of all that the weights depend on.
    pub settings: Map<String, Value>,
}

/// Trains a model in a folder, or goes on with it, and gives its held-out loss.
pub(super) fn train(
    config: &CollapseConfig,
    files: &LearnerFiles,
    lesson: Lesson,
    folder: &Path,
    observe: &mut dyn FnMut(Event) -> Result<()>,
) -> Result<f64> {
    let output = Output::open(folder, Begin::Resume, 1, &[])?;
    let loader = |paths: &[PathBuf], shuffle| {
        let source = |path: &PathBuf| Ok(Source { shards: TokenShards::open(path)?, weight: None });
        let data = DataConfig {
            sequence_length: config.training.sequence_length,
            packing: Packing::Documents,
            shuffle,
            seed: lesson.seed,
            response_only: false,
            eos: None,
        };
        Loader::new(paths.iter().map(source).collect::<Result<_>>()?, &data)
    };
    let held_out = loader(&[lesson.held_out.to_owned()], false)?;
    let origin = Origin::scratch(&files.config, Some(&files.tokenizer))?;
    let run_config = RunConfig {
        save_every: config.training.save_every.and_then(NonZeroU64::new),
        eval_every: None,
        log_dir: None,
        settings: lesson.settings,
    };
    let settings = config.training.train_config(lesson.seed)?;
    let data = loader(lesson.corpora, true)?;
    let mut trainer = Trainer::new(origin, data, settings, config.device, config.dtype)?;
    let run = Run::new(&mut trainer, &output, Some(&held_out), &run_config)?;
    run.finish(|event: train::Event| observe(Event::Training(event)))?;
    let loss = State::read(folder)?.evaluation;
    loss.ok_or_else(|| Error::file(folder, "has no held-out loss: use --overwrite to train anew"))
}
