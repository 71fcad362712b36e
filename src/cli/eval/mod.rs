//! `toedit eval`: measures of a model.

mod choices;
mod figures;
mod items;
mod lambada;
mod perplexity;
mod sets;

use super::args::{EvalArgs, Measure};
use crate::Result;
use choices::Choices;
use lambada::Lambada;

/// Runs the command and gives the exit status.
///
/// # Errors
/// Those of the arguments, the files and the model.
pub fn run(args: &EvalArgs) -> Result<u8> {
    match &args.measure {
        Measure::Perplexity(args) => perplexity::run(args),
        Measure::Choices(args) => sets::run::<Choices>(args),
        Measure::Lambada(args) => sets::run::<Lambada>(args),
    }
}
