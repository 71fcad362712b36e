//! `toedit edit`.

use super::args::EditArgs;
use crate::{Error, Result};

/// Runs the command and gives the exit status.
///
/// # Errors
/// Those of the arguments, the files and the model.
pub fn run(args: &EditArgs) -> Result<u8> {
    args.check()?;
    Err(Error::Usage("not wired".into()))
}
