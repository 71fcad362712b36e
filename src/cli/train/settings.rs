//! The settings of a training run, from its arguments, and as a checkpoint records them.

use std::fs;

use serde_json::{Map, Value, json};
use xxhash_rust::xxh3::xxh3_64;

use super::super::args::{OptimizerArgs, ScheduleArg, TrainArgs};
use super::data::TrainData;
use crate::device::Device;
use crate::model::Dtype;
use crate::train::schedule::{DEFAULT_DECAY_SHARE, Decay, Schedule, default_warmup};
use crate::train::{LoraConfig, Origin, TrainConfig};
use crate::{Error, Result};

/// The longest rows that are made unless more is asked for.
const SEQUENCE_LENGTH: usize = 1024;

/// The trainer's settings before its data are known: with as many steps as there may be, where none are given.
///
/// # Errors
/// [`Error::Usage`] for settings that contradict each other or the model.
pub fn train_config(args: &TrainArgs, origin: &Origin) -> Result<TrainConfig> {
    let optimizer = &args.optimizer;
    let seed = args.run.seed;
    let lora = args.learner.lora_rank.map(|rank| LoraConfig {
        rank,
        alpha: args.learner.lora_alpha.unwrap_or(2.0 * rank as f64) as f32,
        seed,
    });
    let steps = optimizer.steps.map_or(u64::from(u32::MAX), |steps| steps as u64);
    let (_, longest) = origin.config().context();
    let config = TrainConfig {
        steps,
        batch_size: optimizer.batch_size,
        accumulate: optimizer.accumulate,
        sequence_length: args.data.sequence_length.unwrap_or(longest.min(SEQUENCE_LENGTH)),
        schedule: schedule(optimizer, steps)?,
        betas: optimizer.betas.map(|beta| beta as f32),
        eps: optimizer.eps as f32,
        weight_decay: optimizer.weight_decay as f32,
        clip: (optimizer.clip > 0.0).then_some(optimizer.clip as f32),
        truncate_above: optimizer.truncate_above.map(|limit| limit as f32),
        lora,
        recompute: args.learner.recompute,
        seed,
    };
    config.check(origin.config())?;
    Ok(config)
}

/// The same with the steps that the data give, where none are given.
///
/// # Errors
/// [`Error::Usage`] for a warm-up of more steps than there are.
pub fn with_data(config: TrainConfig, args: &OptimizerArgs, data: &TrainData) -> Result<TrainConfig> {
    if args.steps.is_some() {
        return Ok(config);
    }
    let rows = data.train.rows_per_epoch() as f64 * args.epochs.unwrap_or(1.0);
    let steps = (rows / config.batch_size as f64 / config.accumulate as f64).ceil().max(1.0) as u64;
    if steps > config.steps {
        return Err(Error::Usage(format!("{steps} steps in all epochs: expected at most {}", config.steps)));
    }
    Ok(TrainConfig { steps, schedule: schedule(args, steps)?, ..config })
}

fn schedule(args: &OptimizerArgs, steps: u64) -> Result<Schedule> {
    let decay = match args.schedule {
        ScheduleArg::Constant => Decay::Constant,
        ScheduleArg::Cosine => Decay::Cosine,
        ScheduleArg::Wsd => Decay::WarmupStableDecay { share: DEFAULT_DECAY_SHARE },
    };
    let floor = args.min_learning_rate.unwrap_or(args.learning_rate / 10.0);
    let warmup = args.warmup.map_or_else(|| default_warmup(steps), |steps| steps as u64);
    Schedule::new(decay, args.learning_rate, floor, warmup, steps)
}

/// All that the run's bytes depend on, but for the number of threads and how batches are parted.
///
/// # Errors
/// Files of the model or the data that cannot be read.
pub fn record(
    args: &TrainArgs,
    origin: &Origin,
    data: &TrainData,
    config: &TrainConfig,
    (device, dtype): (Device, Dtype),
) -> Result<Map<String, Value>> {
    let read = |path: &std::path::Path| fs::read(path).map_err(|error| Error::io(path, error));
    let model = match origin.checkpoint() {
        Some(checkpoint) => format!("{:016x}", checkpoint.fingerprint()?),
        None => format!("scratch-{}", hash(&read(origin.config_path())?)),
    };
    let settings = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "model": model,
        "data": data.hashes,
        "data_weight": args.data.data_weight,
        "packing": format!("{:?}", args.data.packing).to_lowercase(),
        "shuffle": !args.data.no_shuffle,
        "response_only": args.data.response_only,
        "steps": config.steps,
        "batch_size": config.batch_size,
        "accumulate": config.accumulate,
        "sequence_length": config.sequence_length,
        "schedule": config.schedule,
        "betas": config.betas,
        "eps": config.eps,
        "weight_decay": config.weight_decay,
        "clip": config.clip,
        "truncate_above": config.truncate_above,
        "lora_rank": config.lora.map(|lora| lora.rank),
        "lora_alpha": config.lora.map(|lora| lora.alpha),
        "seed": config.seed,
        "device": device.setting(),
        "dtype": dtype.to_string(),
    });
    let Value::Object(settings) = settings else { unreachable!("an object was written") };
    Ok(settings)
}

fn hash(bytes: &[u8]) -> String {
    format!("{:016x}", xxh3_64(bytes))
}
