//! Arguments of `toedit verify`.

use std::path::PathBuf;

use clap::Args;

use super::shared::CommonArgs;

/// Outputs against their manifests.
#[derive(Args, Clone, Debug)]
pub struct VerifyArgs {
    /// Outputs of toedit, or folders of them
    #[arg(value_name = "OUTPUT", required = true)]
    pub outputs: Vec<PathBuf>,
    /// What every command takes.
    #[command(flatten)]
    pub common: CommonArgs,
}
