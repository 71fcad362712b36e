//! Arguments of `toedit info`.

use clap::Args;

use super::shared::{CommonArgs, ModelArgs};

/// What is built in, what the machine has, and a model's card.
#[derive(Args, Clone, Debug)]
pub struct InfoArgs {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// What every command takes.
    #[command(flatten)]
    pub common: CommonArgs,
}
