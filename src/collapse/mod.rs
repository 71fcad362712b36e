//! The loop that collapses, or does not: train a model, let it write or edit the next one's data, train that one.
//!
//! All corpora of an experiment are token shards of *texts*: human documents are cut into pieces of at most T − 1 tokens,
//! each behind the token that begins a text, so that human and synthetic texts have the same shape and one row of training
//! has one text. A synthetic corpus has a text for each human one, of the same length: it goes on from the first tokens of
//! the human text, as Shumailov et al. do (Nature 631, 2024), and the prompt is no part of it, so that it holds not one human
//! token. Corpora stay ids: nothing is tokenized again between generations.
//!
//! Held-out documents are chosen before all else and are in no corpus. Every stage is a pure function of the settings and
//! the seed, and is written whole or not at all: an experiment goes on where it was stopped.

mod concentration;
mod config;
mod editing;
mod experiment;
mod human;
mod place;
#[cfg(feature = "cli")]
pub mod plot;
mod stages;
mod synthesis;
mod table;
mod texts;
mod training;

pub use concentration::Concentration;
pub use config::{
    CollapseConfig, HumanConfig, Keep, LearnerFiles, Strategy, SynthesisConfig, TrainingConfig,
};
pub use experiment::{Experiment, Inputs};
pub use stages::{Event, Stage, Work};
pub use table::{Edits, Mean, Outcome, Row, Table};
