//! The table as pictures: held-out perplexity and the concentration of n-grams by generation.

use std::ops::Range;

use plotters::prelude::*;

use super::config::Strategy;
use super::table::{Outcome as Figures, Table};
use crate::plot::{Area, Axes, COLOURS, Chart, Label, Outcome, Points, legend, line, room, svg, whole};

/// Width and height of a panel in pixels.
const PANEL: (u32, u32) = (720, 540);
/// Values that span more than this factor are drawn on a logarithmic axis.
const WIDE: f64 = 10.0;
/// Half the width of the ends of an error bar, and what strategies are apart, in generations.
const TICK: f64 = 0.04;

/// What a panel shows.
struct Panel {
    name: &'static str,
    figure: fn(&Figures) -> f64,
}

/// Held-out perplexity: means over seeds as lines, one standard deviation to both sides as bars.
///
/// # Errors
/// What cannot be drawn, in words.
pub fn perplexity(table: &Table) -> Result<String, String> {
    draw(table, &[Panel { name: "held-out perplexity", figure: |outcome| outcome.perplexity }])
}

/// Gini coefficient, entropy and share of the most frequent bigrams of each generation's data, likewise.
///
/// # Errors
/// As [`perplexity`].
pub fn concentration(table: &Table) -> Result<String, String> {
    let panels = [
        Panel { name: "Gini coefficient of hashed n-grams", figure: |outcome| outcome.concentration.gini },
        Panel { name: "entropy of hashed n-grams (nats)", figure: |outcome| outcome.concentration.entropy },
        Panel {
            name: "share of the 40 most frequent bigrams",
            figure: |outcome| outcome.concentration.top_40_share,
        },
    ];
    draw(table, &panels)
}

fn draw(table: &Table, panels: &[Panel]) -> Result<String, String> {
    svg((PANEL.0 * panels.len() as u32, PANEL.1), |root| {
        let areas = root.split_evenly((1, panels.len()));
        areas.iter().zip(panels).try_for_each(|(area, panel)| render(area, panel, table))
    })
}

/// A strategy's line.
struct Series {
    strategy: Strategy,
    /// Place, mean and deviation, on the panel's axis.
    points: Vec<(f64, f64, f64)>,
}

fn render(area: &Area, panel: &Panel, table: &Table) -> Outcome {
    let series = series(table, panel.figure);
    let all = || series.iter().flat_map(|series| &series.points);
    let ends = || all().flat_map(|(_, mean, deviation)| [mean - deviation, mean + deviation]);
    let means = || all().map(|(_, mean, _)| *mean);
    let (low, high) = (means().fold(f64::INFINITY, f64::min), means().fold(0.0, f64::max));
    let last = table.rows.iter().map(|row| row.generation).max().unwrap_or(0).max(1);
    let x = -0.25..f64::from(last) + 0.25;
    let scale = if low > 0.0 && high > WIDE * low { Scale::Logarithmic } else { Scale::Linear };
    let y = match scale {
        Scale::Linear => room(ends()),
        Scale::Logarithmic => low.log10().floor()..high.log10().ceil(),
    };
    let axes = Axes {
        title: "",
        x,
        y: y.clone(),
        names: ["generation (bars: one standard deviation over seeds)", panel.name],
        labels: [Some(&whole), scale.label()],
    };
    let mut chart = axes.draw(area)?;
    for (series, colour) in series.iter().zip(COLOURS.iter().cycle()) {
        curve(&mut chart, series, scale, &y, *colour)?;
    }
    // All lines begin at the human text's point.
    let begin = all().next().map_or(y.start, |(_, mean, _)| scale.place(*mean, &y));
    let is_low = begin < (y.start + y.end) / 2.0;
    legend(&mut chart, if is_low { SeriesLabelPosition::UpperLeft } else { SeriesLabelPosition::LowerLeft })
}

/// All strategies in the table's order, a little apart so that their bars do not hide each other.
fn series(table: &Table, figure: fn(&Figures) -> f64) -> Vec<Series> {
    let mut strategies: Vec<_> = table.rows.iter().map(|row| row.strategy).collect();
    strategies.dedup();
    let middle = (strategies.len() as f64 - 1.0) / 2.0;
    let of = |(index, strategy): (usize, &Strategy)| {
        let is_first = |row: &&super::Row| row.strategy == *strategy && row.seed == table.rows[0].seed;
        let point = |row: &super::Row| {
            let mean = table.mean(*strategy, row.generation, figure);
            let place = f64::from(row.generation) + (index as f64 - middle) * TICK;
            (place, mean.value().expect("there is this row"), mean.deviation().unwrap_or(0.0))
        };
        Series { strategy: *strategy, points: table.rows.iter().filter(is_first).map(point).collect() }
    };
    strategies.iter().enumerate().map(of).collect()
}

/// How values are laid out.
#[derive(Clone, Copy)]
enum Scale {
    Linear,
    /// Powers of ten.
    Logarithmic,
}

impl Scale {
    fn place(self, value: f64, axis: &Range<f64>) -> f64 {
        match self {
            Self::Linear => value,
            // What reaches down to 0 or below has no place.
            Self::Logarithmic if value > 0.0 => value.log10().max(axis.start),
            Self::Logarithmic => axis.start,
        }
    }

    fn label<'a>(self) -> Label<'a> {
        match self {
            Self::Linear => None,
            Self::Logarithmic => Some(&power),
        }
    }
}

/// 10^x for whole x.
fn power(exponent: &f64) -> String {
    if exponent.fract() == 0.0 { 10f64.powf(*exponent).to_string() } else { String::new() }
}

/// Means as a line with marks, and their error bars.
fn curve(chart: &mut Chart, series: &Series, scale: Scale, axis: &Range<f64>, colour: RGBColor) -> Outcome {
    let at = |value: f64| scale.place(value, axis);
    let points: Points = series.points.iter().map(|&(x, mean, _)| (x, at(mean))).collect();
    chart.draw_series(points.iter().map(|point| Circle::new(*point, 4, colour.filled())))?;
    line(chart, series.strategy.name(), points, colour.stroke_width(2))?;
    for &(x, mean, deviation) in series.points.iter().filter(|point| point.2 > 0.0) {
        let [low, high] = [at(mean - deviation), at(mean + deviation)];
        let ends = [low, high].map(|end| vec![(x - TICK, end), (x + TICK, end)]);
        let lines = ends.into_iter().chain([vec![(x, low), (x, high)]]);
        chart.draw_series(lines.map(|line| PathElement::new(line, colour.stroke_width(1))))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collapse::{Concentration, Row};

    fn table(perplexity: impl Fn(u64, u32) -> f64) -> Table {
        let mut table = Table::default();
        for strategy in Strategy::ALL {
            for (seed, generation) in (0..3).flat_map(|seed| (0..4).map(move |number| (seed, number))) {
                let concentration =
                    Concentration { gini: 0.5, entropy: 7.0, top_40_share: 0.1, distinct_2: 0.3 };
                let perplexity = perplexity(seed, generation);
                let loss = perplexity.ln();
                let (texts, tokens, human_tokens, edits) = (9, 99, Some(0), None);
                let outcome = Figures { texts, tokens, human_tokens, loss, perplexity, concentration, edits };
                table.rows.push(Row { strategy, seed, generation, outcome });
            }
        }
        table
    }

    #[test]
    fn all_strategies_are_drawn_whatever_their_size() {
        let curves: [fn(u64, u32) -> f64; 3] = [
            |_, _| 50.0,
            |seed, generation| 50.0 + f64::from(generation) + seed as f64,
            |seed, generation| 50.0 * 20f64.powi(generation as i32) * (1.0 + seed as f64),
        ];
        for (number, curve) in curves.into_iter().enumerate() {
            let table = table(curve);
            let pictures = [perplexity(&table).unwrap(), concentration(&table).unwrap()];
            for svg in &pictures {
                assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
                assert!(!svg.contains("NaN") && !svg.contains("inf"));
                assert!(Strategy::ALL.iter().all(|strategy| svg.contains(strategy.name())));
            }
            assert_eq!(pictures[0].contains("100000"), number == 2, "a logarithmic axis");
        }
    }

    #[test]
    fn means_are_over_seeds() {
        let table = table(|seed, generation| f64::from(generation) + [1.0, 2.0, 6.0][seed as usize]);
        let means = table.means();
        assert_eq!(means.len(), 4 * 4);
        assert_eq!((means[5].strategy, means[5].generation, means[5].seeds), (Strategy::Accumulate, 1, 3));
        assert_eq!((means[5].perplexity, means[5].deviation), (4.0, Some(7f64.sqrt())));
        assert_eq!(table.csv().lines().count(), 1 + 4 * 3 * 4);
    }
}
