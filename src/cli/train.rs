//! `toedit train`: a model that learns from a corpus.

mod data;
mod progress;
mod settings;

use std::path::Path;

use self::data::TrainData;
use self::progress::TrainProgress;
use super::args::{TrainArgs, pool};
use super::print_error;
use super::progress::Mode;
use super::signals::Interrupt;
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
    let begin = match (args.output.resume, args.output.overwrite) {
        (true, _) => Begin::Resume,
        (_, true) => Begin::Overwrite,
        _ => Begin::New,
    };
    let origin = origin(args)?;
    let output = Output::open(folder, begin, args.output.keep_last)?;
    let mode = Mode::of(&args.common);
    let stop = || interrupt.requested().map_or(Ok(()), |signal| Err(Error::Stopped(signal)));
    let (device, dtype) = args.run.place()?;
    device.check()?;
    let config = settings::train_config(args, &origin)?;
    let data = TrainData::open(args, &origin, config.sequence_length, folder, mode, &stop)?;
    let config = settings::with_data(config, &args.optimizer, &data)?;
    let run_config = RunConfig {
        save_every: args.output.save_every.map(|steps| steps as u64),
        eval_every: args.data.eval_every.map(|steps| steps as u64),
        log_dir: args.output.log_dir.clone(),
        settings: settings::record(args, &origin, &data, &config, (device, dtype))?,
    };
    let progress = TrainProgress::new(mode, config.steps);
    let mut trainer = Trainer::new(origin, data.train, config, device, dtype)?;
    if mode != Mode::Quiet {
        progress.say(&describe(&trainer, device));
    }
    let run = Run::new(&mut trainer, &output, begin, data.held_out.as_ref(), &run_config)?;
    run.finish(|event| {
        progress.show(&event);
        // A run that is stopped between steps leaves a checkpoint.
        if let Event::Step(_) = event { stop() } else { Ok(()) }
    })?;
    plot::write(folder)?;
    progress.finish(&format!("wrote {}", folder.display()));
    Ok(())
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
fn tokens_folder(output: &Path, kind: &str, index: usize) -> std::path::PathBuf {
    output.join("tokens").join(format!("{kind}-{index}"))
}
