//! `toedit train`: a model that learns from a corpus.

mod data;
pub(super) mod progress;
mod settings;
mod summary;

use std::fs;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Instant;

use self::data::TrainData;
use self::progress::TrainProgress;
use super::args::{TrainArgs, pool};
use super::print_error;
use super::progress::Mode;
use super::signals::Interrupt;
use super::summary::check_apart;
use crate::data::tokens::TokenShards;
use crate::device::Device;
use crate::train::{Begin, Event, Origin, Output, Run, RunConfig, Trainer, plot};
use crate::{Error, Result};

/// Runs the command and gives the exit status.
///
/// # Errors
/// Those of the arguments, the files, the model and the steps.
pub fn run(args: &TrainArgs) -> Result<u8> {
    args.check()?;
    let interrupt = Interrupt::install()?;
    pool(args.run.threads)?.install(|| train(args, &interrupt))?;
    Ok(0)
}

fn train(args: &TrainArgs, interrupt: &Interrupt) -> Result<()> {
    let folder = args.output.output.as_deref().expect("`check` has seen it");
    let start = Instant::now();
    let origin = origin(args)?;
    let (device, dtype) = args.run.place()?;
    device.check()?;
    let config = settings::train_config(args, &origin)?;
    let output = output(args, &origin, folder)?;
    let mode = Mode::of(&args.common);
    let stop = || interrupt.requested().map_or(Ok(()), |signal| Err(Error::Stopped(signal)));
    let data = TrainData::open(args, &origin, config.sequence_length, folder, mode, &stop)?;
    let config = settings::with_data(config, &args.optimizer, &data)?;
    let run_config = RunConfig {
        save_every: args.output.save_every.and_then(|steps| NonZeroU64::new(steps as u64)),
        eval_every: args.data.eval_every.and_then(|steps| NonZeroU64::new(steps as u64)),
        log_dir: args.output.log_dir.clone(),
        settings: settings::record(args, &origin, &data, &config, (device, dtype))?,
    };
    let (progress, documents) = (TrainProgress::new(mode, config.steps), data.train.documents());
    let mut trainer = Trainer::new(origin, data.train, config, device, dtype)?;
    if mode != Mode::Quiet {
        progress.say(&describe(&trainer, device));
    }
    let run = Run::new(&mut trainer, &output, data.held_out.as_ref(), &run_config)?;
    remove_stale_tokens(args, folder)?;
    let loaded = Instant::now();
    run.finish(|event| {
        progress.show(&event);
        // A run that is stopped here leaves a checkpoint.
        if let Event::Step(_) | Event::Evaluating = event { stop() } else { Ok(()) }
    })?;
    plot::write(folder)?;
    progress.finish();
    let settings = &run_config.settings;
    summary::report(args, &trainer, summary::Facts { folder, settings, documents, times: [start, loaded] })
}

/// Takes hold of the output.
fn output(args: &TrainArgs, origin: &Origin, folder: &Path) -> Result<Output> {
    let begin = match (args.output.resume, args.output.overwrite) {
        (true, _) => Begin::Resume,
        (_, true) => Begin::Overwrite,
        _ => Begin::New,
    };
    let data = || args.data.data.iter().chain(&args.data.eval_data).map(PathBuf::as_path);
    let model = origin.folder().into_iter().chain(origin.config_path().parent());
    let reads: Vec<_> = data().chain(model).collect();
    let output = Output::open(folder, begin, args.output.keep_last, &reads)?;
    check_apart(args.output.summary.as_deref(), data())?;
    Ok(output)
}

fn origin(args: &TrainArgs) -> Result<Origin> {
    match (&args.learner.model, &args.learner.config_json) {
        (Some(model), _) => Origin::model(model),
        (None, Some(config)) => Origin::scratch(config, args.learner.tokenizer.as_deref()),
        (None, None) => unreachable!("`check` has seen one of them"),
    }
}

fn describe(trainer: &Trainer, device: Device) -> String {
    let (config, layout) = (trainer.config(), trainer.learner().layout());
    let rows = config.batch_size * config.accumulate;
    let what = match config.lora {
        Some(lora) => format!("adapters of rank {} on {} weights", lora.rank, layout.elements()),
        None => format!("{} weights", layout.elements()),
    };
    let (steps, tokens) = (config.steps, config.sequence_length);
    format!("training {what}: {steps} steps of {rows} × {tokens} tokens in {} on {device}", trainer.dtype())
}

/// What must not be lost.
fn warn(mode: Mode, text: &str) {
    if mode != Mode::Quiet {
        print_error(text);
    }
}

/// Where the tokens of an input go.
fn tokens_folder(output: &Path, kind: &str, index: usize) -> PathBuf {
    output.join(Output::TOKENS).join(format!("{kind}-{index}"))
}

/// Removes the tokens that an earlier run had made and this one has not.
fn remove_stale_tokens(args: &TrainArgs, output: &Path) -> Result<()> {
    let made = |kind, paths: &[PathBuf]| -> Vec<PathBuf> {
        let made = paths.iter().enumerate().filter(|(_, path)| !TokenShards::is_folder(path));
        made.map(|(index, _)| tokens_folder(output, kind, index)).collect()
    };
    let made = [made("train", &args.data.data), made("eval", &args.data.eval_data)].concat();
    let folder = output.join(Output::TOKENS);
    if !folder.is_dir() {
        return Ok(());
    }
    let at_folder = |error| Error::io(&folder, error);
    for entry in fs::read_dir(&folder).map_err(at_folder)? {
        let path = entry.map_err(at_folder)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !made.contains(&path) && (name.starts_with("train-") || name.starts_with("eval-")) {
            fs::remove_dir_all(&path).map_err(|error| Error::io(&path, error))?;
        }
    }
    Ok(())
}
