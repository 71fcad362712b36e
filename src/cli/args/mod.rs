//! The arguments of each command as plain structs. Rules and paths are kept as they were written; what they mean is settled where
//! they are used.

mod analyze;
mod collapse;
mod corpora;
mod edit;
mod eval;
mod generate;
mod info;
mod inspect;
mod mix;
mod records;
mod revert;
mod score;
mod select;
mod shared;
mod theory;
mod tokenize;
mod train;
mod values;
mod verify;

pub use analyze::AnalyzeArgs;
pub use collapse::{CollapseArgs, CollapseEditArgs};
pub use edit::{EditArgs, EmitArg, RuleArgs, SamplerArg, SamplerArgs, StrategyArg};
pub use eval::{EvalArgs, Measure, PerplexityArgs, SetArgs};
pub use generate::{GenerateArgs, TextFormArg};
pub use info::InfoArgs;
pub use inspect::{ColorArg, InspectArgs};
pub use mix::MixArgs;
pub use revert::RevertArgs;
pub use score::ScoreArgs;
pub use select::{DsirArgs, PerplexityRangeArgs, SelectArgs, SelectRule};
pub use shared::default_threads;
pub use shared::{CommonArgs, LogFormat, ModelArgs, OnErrorArg, OutputArgs, RunArgs, WindowArgs, pool};
pub use theory::TheoryArgs;
pub use tokenize::TokenizeArgs;
pub use train::{OptimizerArgs, PackingArg, ScheduleArg, TrainArgs};
pub use values::{DeviceArg, DtypeArg, ShardArg};
pub use verify::VerifyArgs;
