//! The simulation as a picture: the recursion on the left, the estimator of the proof on the right.

use plotters::prelude::*;

use super::simulate::{Figure, Outcome as Series, Simulation};
use crate::plot::{
    Area, Axes, COLOURS, Chart, INK, Label, Outcome, Points, band, dashed, legend, line, svg, whole,
};

/// Width and height in pixels.
const SIZE: (u32, u32) = (1280, 600);
/// Half the height of an error band, in standard errors of the mean.
pub const BAND: f64 = 3.0;

/// An SVG of all errors in units of V by generation: means as lines, three standard errors to both sides as bands, the
/// closed forms dashed, and the 2V that the paper prints.
///
/// # Errors
/// What cannot be drawn, in words.
pub fn draw(simulation: &Simulation) -> Result<String, String> {
    svg(SIZE, |root| {
        let [left, right] = &root.split_evenly((1, 2))[..] else { unreachable!("two parts were asked for") };
        panel(left, "the recursion as it is written", simulation, |series| &series.recursion)?;
        panel(right, "the estimator of Theorem 1's proof", simulation, |series| &series.estimator)
    })
}

fn panel(area: &Area, title: &str, simulation: &Simulation, figures: fn(&Series) -> &[Figure]) -> Outcome {
    let unit = simulation.unit;
    let all = || simulation.outcomes.iter().flat_map(figures);
    let last = all().map(|figure| figure.generation).max().unwrap_or(1).max(2) as f64;
    let top = all().map(|figure| figure.closed_form.max(figure.error + BAND * figure.standard_error) / unit);
    let top = top.fold(2.0, f64::max) * 1.05;
    let place = format!("generation n (bands: ±{BAND} standard errors; thin dashes: formulas)");
    let names = [&place, "test error of w_n, in units of V"];
    let labels: [Label; 2] = [Some(&whole), None];
    let mut chart = Axes { title, x: 1.0..last, y: 0.0..top, names, labels }.draw(area)?;
    for (series, colour) in simulation.outcomes.iter().zip(COLOURS.iter().cycle()) {
        curve(&mut chart, &series.schedule.name(), figures(series), unit, *colour)?;
    }
    dashed(&mut chart, "2V, the printed bound", vec![(1.0, 2.0), (last, 2.0)], INK.stroke_width(1))?;
    legend(&mut chart, SeriesLabelPosition::UpperLeft)
}

/// A mean with its band and its formula.
fn curve(chart: &mut Chart, name: &str, figures: &[Figure], unit: f64, colour: RGBColor) -> Outcome {
    let place = |figure: &Figure| figure.generation as f64;
    let band_of = |figure: &Figure| {
        let (mean, half) = (figure.error / unit, BAND * figure.standard_error / unit);
        (place(figure), mean - half, mean + half)
    };
    let line_of = |value: fn(&Figure) -> f64| -> Points {
        figures.iter().map(|figure| (place(figure), value(figure) / unit)).collect()
    };
    band(chart, &figures.iter().map(band_of).collect::<Vec<_>>(), colour)?;
    line(chart, name, line_of(|figure| figure.error), colour.stroke_width(2))?;
    dashed(chart, "", line_of(|figure| figure.closed_form), colour.stroke_width(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::theory::{Mask, Schedule, TheoryConfig, simulate};

    #[test]
    fn all_series_are_drawn_whatever_their_size() {
        for (generations, noise) in [(1, 1.0), (2, 1e-12), (40, 1e12)] {
            let masks = [Mask::Random, Mask::Geometric];
            let schedules = masks.map(|mask| Schedule { mask, share: 0.5, ratio: 0.5 }).to_vec();
            let small = TheoryConfig { samples: 12, dimension: 2, repetitions: 3, ..TheoryConfig::default() };
            let config = TheoryConfig { generations, noise, schedules, ..small };
            let svg = draw(&simulate(&config, || Ok(())).unwrap()).unwrap();
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
            assert!(!svg.contains("NaN") && !svg.contains("inf"));
            for part in ["random, 0.5 each", "geometric", "the collapse", "printed bound", "generation n"] {
                assert!(svg.contains(part), "{part}");
            }
        }
    }
}
