//! `toedit completions SHELL`: a completion script on standard output.

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use super::{Cli, print};
use crate::Result;

/// Arguments of `toedit completions`.
#[derive(Args, Clone, Debug)]
pub struct CompletionsArgs {
    /// The shell to write for
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Prints the script.
///
/// # Errors
/// [`crate::Error::Io`] where standard output cannot be written.
pub fn run(args: &CompletionsArgs) -> Result<u8> {
    let mut script = Vec::new();
    generate(args.shell, &mut Cli::command(), "toedit", &mut script);
    print(&script)?;
    Ok(0)
}
