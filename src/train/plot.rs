//! The loss of a run as a picture; its numbers are in the JSON lines beside it.

use std::iter;
use std::path::Path;

use plotters::prelude::*;

use super::metrics::{EVALUATIONS, Evaluation, METRICS, StepMetrics, read};
use crate::data::Sink;
use crate::plot::{Area, Axes, Label, Outcome, Points, legend, line, room, svg, whole};
use crate::{Error, Result};

pub use super::metrics::PLOT;

/// Width and height in pixels.
const SIZE: (u32, u32) = (960, 540);
/// Points of a line: more cannot be told apart.
const POINTS: usize = 1000;
/// Share of all steps that a point of the smoothed line is the mean of.
const SMOOTHING: f64 = 0.02;

const STEPS: RGBColor = RGBColor(168, 198, 226);
const SMOOTHED: RGBColor = RGBColor(31, 98, 163);
const HELD_OUT: RGBColor = RGBColor(205, 92, 8);

/// Draws `loss.svg` from the records in `folder`: the loss of each step, smoothed, and held-out. Where no step is on
/// record there is nothing to draw, and no file.
///
/// # Errors
/// The system's; a picture that cannot be drawn.
pub fn write(folder: &Path) -> Result<()> {
    let steps = read::<StepMetrics>(&folder.join(METRICS))?.map(|line| (line.step as f64, line.loss));
    let held_out = read::<Evaluation>(&folder.join(EVALUATIONS))?.map(|line| (line.step as f64, line.loss));
    let is_finite = |point: &(f64, f64)| point.1.is_finite();
    let steps: Points = steps.filter(is_finite).collect();
    if steps.is_empty() {
        return Ok(());
    }
    let path = folder.join(PLOT);
    let svg = draw(&steps, &held_out.filter(is_finite).collect())
        .map_err(|error| Error::file(&path, format!("cannot be drawn: {error}")))?;
    let mut sink = Sink::create(&path, true)?;
    sink.write(svg.as_bytes())?;
    sink.finish()
}

/// The picture of at least one step: places are steps, values losses.
fn draw(steps: &Points, held_out: &Points) -> Result<String, String> {
    svg(SIZE, |root| render(root, steps, held_out))
}

fn render(root: &Area, steps: &Points, held_out: &Points) -> Outcome {
    let (smoothed, steps) = (thin(&smooth(steps)), thin(steps));
    let last = steps.iter().chain(held_out).map(|point| point.0).fold(1.0, f64::max);
    let losses = steps.iter().chain(held_out).chain(&smoothed).map(|point| point.1);
    let names = ["optimizer step", "loss (nats per token)"];
    let labels: [Label; 2] = [Some(&whole), None];
    let axes = Axes { title: "", x: 0.0..last, y: room(losses), names, labels };
    let mut chart = axes.draw(root)?;
    line(&mut chart, "each step", steps, STEPS.stroke_width(1))?;
    line(&mut chart, "smoothed", smoothed, SMOOTHED.stroke_width(3))?;
    if !held_out.is_empty() {
        line(&mut chart, "held out", held_out.clone(), HELD_OUT.stroke_width(2))?;
        chart.draw_series(held_out.iter().map(|point| Circle::new(*point, 4, HELD_OUT.filled())))?;
    }
    legend(&mut chart, SeriesLabelPosition::UpperRight)
}

/// Means over [`SMOOTHING`] of the steps, half of them on each side; fewer towards the ends, so that nothing shifts.
fn smooth(points: &Points) -> Points {
    let sums = points.iter().scan(0.0, |sum, point| {
        *sum += point.1;
        Some(*sum)
    });
    let sums: Vec<f64> = iter::once(0.0).chain(sums).collect();
    let half = (points.len() as f64 * SMOOTHING / 2.0).round() as usize;
    let mean = |(index, point): (usize, &(f64, f64))| {
        let half = half.min(index).min(points.len() - 1 - index);
        (point.0, (sums[index + half + 1] - sums[index - half]) / (2 * half + 1) as f64)
    };
    points.iter().enumerate().map(mean).collect()
}

/// At most about [`POINTS`] points, each the mean of its neighbours.
fn thin(points: &Points) -> Points {
    let group = points.len().div_ceil(POINTS).max(1);
    let mean = |group: &[(f64, f64)]| {
        let (steps, losses) = group.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        (steps / group.len() as f64, losses / group.len() as f64)
    };
    points.chunks(group).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_any_length_are_drawn() {
        for count in [1, 2, 3, 999, 1000, 1001, 5000] {
            let steps: Points = (1..=count).map(|step| (f64::from(step), 9.0 / f64::from(step))).collect();
            for held_out in [vec![], vec![(0.0, 9.5)], vec![(0.0, 9.5), (f64::from(count), 1.0)]] {
                let svg = draw(&steps, &held_out).unwrap();
                assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{count}");
                assert!(svg.contains("optimizer step") && !svg.contains("NaN") && !svg.contains("inf"));
                assert_eq!(svg.contains("held out"), !held_out.is_empty());
                assert!(svg.len() < 100_000, "{}", svg.len());
            }
        }
        assert!(draw(&vec![(1.0, 2.5); 3], &vec![]).is_ok());
    }

    #[test]
    fn means_keep_what_is_constant() {
        let constant: Points = (1..=2345).map(|step| (f64::from(step), 3.0)).collect();
        assert_eq!(smooth(&constant).len(), constant.len());
        assert!(smooth(&constant).iter().all(|point| (point.1 - 3.0).abs() < 1e-12));
        let thinned = thin(&constant);
        assert!(thinned.len() <= POINTS && thinned.iter().all(|point| (point.1 - 3.0).abs() < 1e-12));
        assert_eq!(thin(&constant[..POINTS].to_vec()), constant[..POINTS]);
        assert_eq!(smooth(&vec![(1.0, 5.0), (2.0, 1.0)]), [(1.0, 5.0), (2.0, 1.0)]);
        let line: Points = (0..500).map(|step| (f64::from(step), f64::from(step))).collect();
        assert!(smooth(&line).iter().all(|point| (point.0 - point.1).abs() < 1e-9));
    }
}
