//! What the pictures of all commands share: SVG, colours, axes, lines. Their numbers lie in files beside them.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Lines of text and axes.
pub(crate) const INK: RGBColor = RGBColor(64, 64, 64);
/// Lines that guide the eye.
pub(crate) const GRID: RGBColor = RGBColor(226, 226, 226);
/// Colours that people who see fewer of them can tell apart too (Okabe and Ito, 2008).
pub(crate) const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(0, 0, 0),
];
/// Length of the sample of a line in a legend.
const SAMPLE: i32 = 24;

/// Points of a line.
pub(crate) type Points = Vec<(f64, f64)>;
/// Where something is drawn.
pub(crate) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// Axes to draw in.
pub(crate) type Chart<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
/// Of a drawing.
pub(crate) type Outcome<T = ()> = Result<T, DrawingAreaErrorKind<std::io::Error>>;

/// A white picture of this width and height in pixels, with what `render` draws.
pub(crate) fn svg(size: (u32, u32), render: impl FnOnce(&Area) -> Outcome) -> Result<String, String> {
    let mut svg = String::new();
    let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
    root.fill(&WHITE)
        .and_then(|()| render(&root))
        .and_then(|()| root.present())
        .map_err(|error| error.to_string())?;
    drop(root);
    Ok(svg)
}

/// Text for a value of an axis.
pub(crate) type Label<'a> = Option<&'a dyn Fn(&f64) -> String>;

/// The axes of a chart.
pub(crate) struct Axes<'a> {
    /// Above the chart; nothing where empty.
    pub title: &'a str,
    pub x: Range<f64>,
    pub y: Range<f64>,
    /// What stands at the axes.
    pub names: [&'a str; 2],
    /// Values of the axes as text, where plain numbers will not do.
    pub labels: [Label<'a>; 2],
}

impl Axes<'_> {
    pub fn draw<'a>(&self, area: &Area<'a>) -> Outcome<Chart<'a>> {
        let mut chart = blank(area, self.title, 76, [self.x.clone(), self.y.clone()])?;
        let mut mesh = chart.configure_mesh();
        let [x, y] = self.labels;
        mesh.x_label_formatter(x.unwrap_or(&plain)).y_label_formatter(y.unwrap_or(&plain));
        // Values that have names of their own are whole ones: none between them.
        if x.is_some() {
            mesh.x_labels(wholes(&self.x));
        }
        if y.is_some() {
            mesh.y_labels(wholes(&self.y));
        }
        mesh.x_desc(self.names[0])
            .y_desc(self.names[1])
            .axis_desc_style(font(18))
            .label_style(font(15))
            .axis_style(INK)
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .draw()?;
        Ok(chart)
    }
}

/// A chart with a title and nothing else yet; `left` pixels are for labels.
fn blank<'a>(area: &Area<'a>, title: &str, left: u32, [x, y]: [Range<f64>; 2]) -> Outcome<Chart<'a>> {
    let mut builder = ChartBuilder::on(area);
    builder.margin(24).x_label_area_size(52).y_label_area_size(left);
    if !title.is_empty() {
        builder.caption(title, font(20));
    }
    builder.build_cartesian_2d(x, y)
}

/// The whole numbers of a range; of a long one as many as there is room for.
fn wholes(range: &Range<f64>) -> usize {
    ((range.end - range.start) as usize + 1).min(11)
}

/// Horizontal bars with their labels, from the top, on an axis that ends at `longest`.
pub(crate) fn labelled_bars(
    area: &Area,
    [title, name]: [&str; 2],
    bars: &[(String, f64)],
    longest: f64,
    colour: RGBColor,
) -> Outcome {
    let mut chart = blank(area, title, 190, [0.0..longest, -(bars.len() as f64)..0.0])?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(0)
        .x_desc(name)
        .x_label_formatter(&plain)
        .axis_desc_style(font(18))
        .label_style(font(15))
        .axis_style(INK)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .draw()?;
    let rows = || bars.iter().enumerate().map(|(row, bar)| (-(row as f64), bar));
    chart.draw_series(rows().map(|(top, (_, length))| {
        Rectangle::new([(0.0, top - 0.15), (*length, top - 0.85)], colour.filled())
    }))?;
    let style = font(13).pos(Pos::new(HPos::Right, VPos::Center));
    chart.draw_series(rows().map(|(top, (label, _))| {
        EmptyElement::at((0.0, top - 0.5)) + Text::new(printable(label), (-8, 0), style.clone())
    }))?;
    Ok(())
}

/// Characters of a label.
const LABEL: usize = 28;

/// A label that fits, without what XML cannot hold.
fn printable(label: &str) -> String {
    let shown = label.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character });
    let cut: String = shown.take(LABEL).collect();
    if label.chars().count() > LABEL { cut + "…" } else { cut }
}

/// Bars from 0 up, as (left, right, height), with their name in the legend.
pub(crate) fn bars(chart: &mut Chart, name: &str, bars: &[(f64, f64, f64)], colour: RGBColor) -> Outcome {
    let bar = |&(left, right, height): &(f64, f64, f64)| {
        Rectangle::new([(left, 0.0), (right, height)], colour.filled())
    };
    chart
        .draw_series(bars.iter().map(bar))?
        .label(name)
        .legend(move |(x, y)| Rectangle::new([(x, y - 6), (x + SAMPLE, y + 6)], colour.filled()));
    Ok(())
}

/// A number without the zeros that add nothing, to nine digits: ticks are sums, which round.
fn plain(value: &f64) -> String {
    let rounded: f64 = format!("{value:.8e}").parse().unwrap_or(*value);
    let is_short = rounded == 0.0 || (1e-5..1e9).contains(&rounded.abs());
    if is_short { rounded.to_string() } else { format!("{rounded:e}") }
}

/// Whole numbers, and nothing for others.
pub(crate) fn whole(value: &f64) -> String {
    if value.fract() == 0.0 { value.to_string() } else { String::new() }
}

/// A line with its name in the legend.
pub(crate) fn line(chart: &mut Chart, name: &str, points: Points, style: ShapeStyle) -> Outcome {
    chart
        .draw_series(LineSeries::new(points, style))?
        .label(name)
        .legend(move |(x, y)| PathElement::new([(x, y), (x + SAMPLE, y)], style));
    Ok(())
}

/// A dashed line, which has a name in the legend unless that is empty.
pub(crate) fn dashed(chart: &mut Chart, name: &str, points: Points, style: ShapeStyle) -> Outcome {
    let series = chart.draw_series(DashedLineSeries::new(points, 6, 5, style))?;
    if !name.is_empty() {
        let dash = move |x: i32, y| PathElement::new([(x, y), (x + SAMPLE / 3, y)], style);
        series.label(name).legend(move |(x, y)| {
            let gap = EmptyElement::at((x, y));
            gap + dash(0, 0) + dash(SAMPLE * 2 / 3, 0)
        });
    }
    Ok(())
}

/// The area between two lines over the same places, given as (place, low, high).
pub(crate) fn band(chart: &mut Chart, points: &[(f64, f64, f64)], colour: RGBColor) -> Outcome {
    let low = points.iter().map(|&(x, low, _)| (x, low));
    let high = points.iter().rev().map(|&(x, _, high)| (x, high));
    let outline: Points = low.chain(high).collect();
    chart.draw_series([Polygon::new(outline, colour.mix(0.25).filled())])?;
    Ok(())
}

/// The names of what was drawn so far.
pub(crate) fn legend(chart: &mut Chart, position: SeriesLabelPosition) -> Outcome {
    chart
        .configure_series_labels()
        .position(position)
        .margin(16)
        .legend_area_size(SAMPLE + 12)
        .background_style(WHITE.mix(0.8))
        .border_style(GRID)
        .label_font(font(16))
        .draw()
}

pub(crate) fn font(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

/// The values' range with some room.
pub(crate) fn room(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (low, high) = values
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    let room = ((high - low) * 0.05).max(high.abs() * 1e-3).max(1e-6);
    low - room..high + room
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_short_as_they_can_be() {
        let numbers = [0.0, 10.0, 0.1 + 0.2, 0.7 - 0.1, -2.5, 1e-7, 3e-5, 12_000_000.0, 2.5e12];
        let expected = ["0", "10", "0.3", "0.6", "-2.5", "1e-7", "0.00003", "12000000", "2.5e12"];
        assert_eq!(numbers.map(|number| plain(&number)), expected);
    }

    #[test]
    fn an_axis_has_a_label_for_each_whole_number_while_there_is_room() {
        assert_eq!([0.0..4.0, -6.0..0.0, 1.0..11.0, 0.0..1000.0].map(|range| wholes(&range)), [5, 7, 11, 11]);
    }
}
