//! Arguments of `toedit theory`.

use clap::Args;

use super::shared::{CommonArgs, Missing, OutputArgs, PoolArgs};
use super::values::{at_least, positive};
use crate::Result;
use crate::theory::{Mask, Schedule, TheoryConfig};

/// Collapse and editing in linear regression.
#[derive(Args, Clone, Debug)]
pub struct TheoryArgs {
    /// What is simulated.
    #[command(flatten)]
    pub model: LinearModelArgs,
    /// Which rows are edited.
    #[command(flatten)]
    pub masks: MaskArgs,
    /// What to write: theory.json, theory.csv and theory.svg in a folder.
    #[command(flatten)]
    pub output: OutputArgs,
    /// How to run.
    #[command(flatten)]
    pub run: PoolArgs,
    /// What every command takes.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// What is simulated.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Linear model")]
pub struct LinearModelArgs {
    /// T: samples that each model is fitted to
    #[arg(long, value_name = "T", value_parser = at_least(1), default_value_t = TheoryConfig::default().samples)]
    pub samples: usize,
    /// d: features of a sample, at least 4 fewer than samples
    #[arg(long, value_name = "D", value_parser = at_least(1), default_value_t = TheoryConfig::default().dimension)]
    pub dimension: usize,
    /// σ: standard deviation of the labels' noise
    #[arg(long, value_name = "S", value_parser = positive, default_value_t = 1.0)]
    pub noise: f64,
    /// Models, the first of them fitted to human labels: one more than there are masks
    #[arg(long, value_name = "N", value_parser = at_least(1), default_value_t = TheoryConfig::default().generations)]
    pub generations: usize,
    /// Runs with data of their own, to average over
    #[arg(long, value_name = "N", default_value_t = TheoryConfig::default().repetitions)]
    pub repetitions: u64,
}

/// Which rows are edited.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Masks")]
pub struct MaskArgs {
    /// disjoint (no row twice), random (drawn anew), fixed (always the same), geometric (drawn anew, ever fewer), all (the
    /// collapse, which is always there); repeatable [default: every one]
    #[arg(long, value_name = "NAME")]
    pub schedule: Vec<Mask>,
    /// The share of the rows that a mask has (geometric: the first mask)
    #[arg(long, value_name = "M", value_parser = positive, default_value_t = 0.1)]
    pub share: f64,
    /// What geometric masks shrink by
    #[arg(long, value_name = "R", value_parser = positive, default_value_t = 0.5)]
    pub ratio: f64,
}

impl TheoryArgs {
    /// Checks that everything needed was given.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] naming what is missing.
    pub fn check(&self) -> Result<()> {
        Missing::default().output(&self.output).check("toedit theory --output theory")
    }

    /// The simulation that was asked for.
    pub fn config(&self) -> TheoryConfig {
        let MaskArgs { schedule: ref named, share, ratio } = self.masks;
        let is_asked = |mask: &Mask| named.is_empty() || named.contains(mask);
        let schedules =
            Mask::ALL.into_iter().filter(is_asked).map(|mask| Schedule { mask, share, ratio }).collect();
        let LinearModelArgs { samples, dimension, noise, generations, repetitions } = self.model;
        TheoryConfig { samples, dimension, noise, generations, repetitions, seed: self.run.seed, schedules }
    }
}
