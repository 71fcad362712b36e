//! What an experiment is at, for whoever watches it.

use std::fmt;

use super::config::Strategy;
use super::table::Row;
use crate::train;

/// What is done for a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Its predecessor writes.
    Generating,
    /// Its predecessor, or the prior, edits.
    Editing,
    /// Human and synthetic texts are chosen.
    Mixing,
    /// Its model learns.
    Training,
}

/// A stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// The seed.
    pub seed: u64,
    /// None for what all strategies share.
    pub strategy: Option<Strategy>,
    /// The generation that it is done for, from 0.
    pub generation: u32,
    /// What is done.
    pub work: Work,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, strategy, generation, work } = self;
        let name = strategy.map_or("all strategies", Strategy::name);
        let work = match work {
            Work::Generating => "generating",
            Work::Editing => "editing",
            Work::Mixing => "mixing",
            Work::Training => "training",
        };
        write!(f, "seed {seed}, {name}, generation {generation}: {work}")
    }
}

/// What happens in an experiment.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// Human documents are read: so many, with so many tokens of those that are kept by now.
    Reading {
        /// Documents read.
        documents: u64,
        /// Tokens kept.
        tokens: u64,
    },
    /// A stage begins.
    Begin(Stage),
    /// A model learns.
    Training(train::Event),
    /// Texts were written or edited.
    Texts {
        /// So many of this stage.
        texts: u64,
        /// With so many tokens.
        tokens: u64,
    },
    /// A generation is complete, now or in an earlier run. All rows come in the order in which they are made, generation 0
    /// once for each strategy.
    Finished(&'a Row),
}
