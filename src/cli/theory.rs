//! `toedit theory`: collapse and editing in linear regression, simulated beside the closed forms.

use std::fmt::Write;
use std::time::Instant;

use serde::Serialize;

use super::args::{TheoryArgs, pool};
use super::figures::Figures;
use super::signals::Interrupt;
use super::summary::{self, counted};
use crate::theory::{Simulation, TheoryConfig, draw, simulate};
use crate::{Error, Result};

const JSON: &str = "theory.json";
const CSV: &str = "theory.csv";
const SVG: &str = "theory.svg";

/// `theory.json`, and the summary.
#[derive(Serialize)]
struct Report<'a> {
    command: &'static str,
    version: &'static str,
    config: &'a TheoryConfig,
    /// 2V, which Theorem 1 prints for the recursion: see `covers`.
    printed_bound: f64,
    covers: &'static str,
    #[serde(flatten)]
    simulation: &'a Simulation,
    seconds: f64,
}

/// What the printed bound holds for.
const COVERS: &str = "the estimator of the proof, w* + X⁺(E_1 + Σ M_i E_{i+1}), with masks that are disjoint or whose shares \
                      add up to at most 1; not the recursion, whose error with disjoint masks tends to V(2e^s − 1) for T ≫ d";

/// Runs the command and gives the exit status.
///
/// # Errors
/// Those of the arguments and the files.
pub fn run(args: &TheoryArgs) -> Result<u8> {
    args.check()?;
    let config = args.config();
    config.validate()?;
    let interrupt = Interrupt::install()?;
    let output = args.output.output.as_deref().expect("`check` has seen it");
    summary::check_apart(args.output.summary.as_deref(), [output].into_iter())?;
    let figures = Figures::open(output, args.output.overwrite, &[JSON, CSV, SVG])?;
    let stop = || interrupt.requested().map_or(Ok(()), |signal| Err(Error::Stopped(signal)));
    let start = Instant::now();
    let simulation = pool(args.run.threads)?.install(|| simulate(&config, stop))?;
    let report = Report {
        command: "theory",
        version: env!("CARGO_PKG_VERSION"),
        config: &config,
        printed_bound: 2.0 * simulation.unit,
        covers: COVERS,
        simulation: &simulation,
        seconds: start.elapsed().as_secs_f64(),
    };
    figures.json(JSON, &report)?;
    figures.write(CSV, &table(&simulation))?;
    figures.picture(SVG, draw(&simulation))?;
    summary::report(&args.common, args.output.summary.as_deref(), &text(&config, &simulation), &report)?;
    Ok(0)
}

/// All figures, one a line.
fn table(simulation: &Simulation) -> String {
    let mut csv = "schedule,quantity,generation,error,standard_error,closed_form,error_in_v\n".to_owned();
    for outcome in &simulation.outcomes {
        for (quantity, figures) in [("recursion", &outcome.recursion), ("estimator", &outcome.estimator)] {
            for figure in figures {
                let (mask, in_units) = (outcome.schedule.mask, figure.error / simulation.unit);
                let numbers = [figure.error, figure.standard_error, figure.closed_form, in_units];
                let numbers = numbers.map(|number| number.to_string()).join(",");
                let _ = writeln!(csv, "{mask},{quantity},{},{numbers}", figure.generation);
            }
        }
    }
    csv
}

/// The last generation's errors, in units of V.
fn text(config: &TheoryConfig, simulation: &Simulation) -> String {
    let unit = simulation.unit;
    let mut text = format!("{}, V = {unit:.6}", counted(config.repetitions, "repetition"));
    for outcome in &simulation.outcomes {
        let (Some(recursion), Some(estimator)) = (outcome.recursion.last(), outcome.estimator.last()) else {
            continue;
        };
        let _ = write!(
            text,
            "\n{}: {:.3} ± {:.3} V after {} generations (formula {:.3} V); the proof's estimator {:.3} V",
            outcome.schedule.name(),
            recursion.error / unit,
            recursion.standard_error / unit,
            recursion.generation,
            recursion.closed_form / unit,
            estimator.error / unit
        );
    }
    text
}
