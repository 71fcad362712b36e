//! Analyses as pictures, two corpora side by side. Their numbers lie in tables beside them.

use plotters::prelude::*;

use super::ngrams::Bigram;
use super::perplexities::Perplexities;
use crate::plot::{Area, Axes, COLOURS, Label, Outcome, Points, bars, labelled_bars, legend, line, svg};

/// Width and height in pixels.
const SIZE: (u32, u32) = (960, 540);
/// Of a picture with two parts beside each other.
const WIDE: (u32, u32) = (1280, 560);
/// What one bigram takes from top to bottom, and all else.
const ROW: u32 = 15;
const MARGINS: u32 = 150;
/// Shares below it are not drawn on a logarithmic axis: 10⁻⁴ per cent.
const LEAST: f64 = 1e-6;

/// The share of tokens in each bin of their probability, as bars.
///
/// # Errors
/// What cannot be drawn, in words; so for all pictures.
pub fn draw_bins(corpora: &[(&str, &[u64])]) -> Result<String, String> {
    svg(SIZE, |root| {
        let all: Vec<_> = corpora.iter().map(|(name, bins)| (*name, percent(bins))).collect();
        let top = all.iter().flat_map(|(_, shares)| shares).copied().fold(1.0, f64::max) * 1.1;
        let names = ["probability of the token", "share of tokens (%)"];
        let mut chart =
            Axes { title: "", x: 0.0..1.0, y: 0.0..top, names, labels: [None, None] }.draw(root)?;
        for (corpus, (name, shares)) in all.iter().enumerate() {
            let width = 1.0 / shares.len() as f64;
            // Bars of one bin beside each other, with some room between bins.
            let part = 0.9 * width / all.len() as f64;
            let bar = |(bin, share): (usize, &f64)| {
                let left = bin as f64 * width + 0.05 * width + corpus as f64 * part;
                (left, left + part, *share)
            };
            let found: Vec<_> = shares.iter().enumerate().map(bar).collect();
            bars(&mut chart, name, &found, COLOURS[corpus % COLOURS.len()])?;
        }
        legend(&mut chart, SeriesLabelPosition::UpperMiddle)
    })
}

/// The same as lines over a logarithmic axis, for many bins.
///
/// # Errors
/// As [`draw_bins`].
pub fn draw_fine_bins(corpora: &[(&str, &[u64])]) -> Result<String, String> {
    svg(SIZE, |root| {
        let names = ["probability of the token", "share of tokens in a bin"];
        let series = |bins: &[u64]| -> Points {
            let width = 1.0 / bins.len() as f64;
            let share = percent(bins).into_iter().enumerate();
            share
                .flat_map(|(bin, share)| {
                    let height = (share / 100.0).max(LEAST).log10();
                    [(bin as f64 * width, height), ((bin + 1) as f64 * width, height)]
                })
                .collect()
        };
        let all: Vec<_> = corpora.iter().map(|(name, bins)| (*name, series(bins))).collect();
        let low = all.iter().flat_map(|(_, points)| points).map(|point| point.1).fold(-1.0, f64::min);
        let labels: [Label; 2] = [None, Some(&power_of_ten)];
        let axes = Axes { title: "", x: 0.0..1.0, y: low.floor()..0.0, names, labels };
        draw_lines(root, &axes, all, SeriesLabelPosition::UpperMiddle)
    })
}

/// The share of documents by perplexity, over a logarithmic axis.
///
/// # Errors
/// As [`draw_bins`].
pub fn draw_perplexities(corpora: &[(&str, &Perplexities)]) -> Result<String, String> {
    svg(SIZE, |root| {
        let series = |perplexities: &Perplexities| -> Points {
            let all = perplexities.documents().max(1) as f64;
            let steps = perplexities.bins().flat_map(|(low, high, count)| {
                let share = 100.0 * count as f64 / all;
                [(low.log2(), share), (high.log2(), share)]
            });
            steps.collect()
        };
        let all: Vec<_> = corpora.iter().map(|(name, perplexities)| (*name, series(perplexities))).collect();
        let filled = || all.iter().flat_map(|(_, points)| points).filter(|point| point.1 > 0.0);
        let right = filled().map(|point| point.0).fold(1.0, f64::max).ceil();
        let top = filled().map(|point| point.1).fold(1.0, f64::max) * 1.1;
        let names = ["perplexity of the document", "share of documents (%)"];
        let labels: [Label; 2] = [
            Some(&|power: &f64| {
                format!("{:.3}", power.exp2()).trim_end_matches('0').trim_end_matches('.').to_owned()
            }),
            None,
        ];
        let axes = Axes { title: "", x: 0.0..right, y: 0.0..top, names, labels };
        let within = |(name, points): (_, Points)| {
            (name, points.into_iter().filter(|point| point.0 <= right).collect())
        };
        draw_lines(root, &axes, all.into_iter().map(within).collect(), SeriesLabelPosition::UpperRight)
    })
}

/// How n-grams are spread over buckets: the share of each bucket, and of the fullest ones together, over a bucket's rank.
///
/// # Errors
/// As [`draw_bins`].
pub fn draw_buckets(corpora: &[(&str, &[u64])]) -> Result<String, String> {
    svg(WIDE, |root| {
        let sorted: Vec<_> = corpora.iter().map(|(name, counts)| (*name, descending(counts))).collect();
        let right = sorted.iter().map(|(_, shares)| shares.len()).max().unwrap_or(10).max(10) as f64;
        let [left_area, right_area] = &root.split_evenly((1, 2))[..] else {
            unreachable!("two parts were asked for")
        };
        let each = |shares: &[f64]| -> Points {
            let filled = shares.iter().enumerate().filter(|(_, share)| **share > 0.0);
            filled.map(|(rank, share)| (log_rank(rank), share.max(LEAST).log10())).collect()
        };
        let lines: Vec<_> = sorted.iter().map(|(name, shares)| (*name, each(shares))).collect();
        let names = ["bucket, by rank", "share of n-grams in it"];
        let labels: [Label; 2] = [Some(&rank), Some(&power_of_ten)];
        let axes = Axes { title: "", x: 0.0..right.log10(), y: LEAST.log10()..0.0, names, labels };
        draw_lines(left_area, &axes, lines, SeriesLabelPosition::UpperRight)?;
        let together = |shares: &[f64]| -> Points {
            let sum = |sum: &mut f64, (rank, share): (usize, &f64)| {
                *sum += 100.0 * share;
                Some((log_rank(rank), *sum))
            };
            shares.iter().enumerate().scan(0.0, sum).collect()
        };
        let lines = sorted.iter().map(|(name, shares)| (*name, together(shares))).collect();
        let names = ["buckets, the fullest first", "share of n-grams in them together (%)"];
        let axes =
            Axes { title: "", x: 0.0..right.log10(), y: 0.0..105.0, names, labels: [Some(&rank), None] };
        draw_lines(right_area, &axes, lines, SeriesLabelPosition::UpperLeft)
    })
}

/// The most frequent bigrams of each corpus, with their share of all its bigrams, whose number comes third.
///
/// # Errors
/// As [`draw_bins`].
pub fn draw_bigrams(corpora: &[(&str, &[Bigram], u64)]) -> Result<String, String> {
    let rows = corpora.iter().map(|(_, bigrams, _)| bigrams.len()).max().unwrap_or_default().max(1) as u32;
    // One scale for all, so that bars can be compared.
    let share = |bigram: &Bigram, total: u64| 100.0 * bigram.count as f64 / total.max(1) as f64;
    let all =
        corpora.iter().flat_map(|(_, bigrams, total)| bigrams.iter().map(|bigram| share(bigram, *total)));
    let longest = all.fold(1e-9, f64::max) * 1.05;
    svg((640 * corpora.len().max(1) as u32, MARGINS + ROW * rows), |root| {
        let areas = root.split_evenly((1, corpora.len().max(1)));
        for (corpus, ((name, bigrams, total), area)) in corpora.iter().zip(&areas).enumerate() {
            let rows: Vec<_> =
                bigrams.iter().map(|bigram| (bigram.bigram.clone(), share(bigram, *total))).collect();
            let title = format!("{name}: the {} most frequent bigrams", rows.len());
            let colour = COLOURS[corpus % COLOURS.len()];
            labelled_bars(area, [&title, "share of bigrams (%)"], &rows, longest, colour)?;
        }
        Ok(())
    })
}

/// A line for each corpus, with a legend.
fn draw_lines(
    area: &Area,
    axes: &Axes,
    lines: Vec<(&str, Points)>,
    position: SeriesLabelPosition,
) -> Outcome {
    let mut chart = axes.draw(area)?;
    for ((name, points), colour) in lines.into_iter().zip(COLOURS.iter().cycle()) {
        line(&mut chart, name, points, colour.stroke_width(2))?;
    }
    legend(&mut chart, position)
}

fn percent(counts: &[u64]) -> Vec<f64> {
    let all = counts.iter().sum::<u64>().max(1) as f64;
    counts.iter().map(|count| 100.0 * *count as f64 / all).collect()
}

/// Shares, the largest first.
fn descending(counts: &[u64]) -> Vec<f64> {
    let mut shares: Vec<f64> = super::distribution(counts);
    shares.sort_unstable_by(|a, b| b.total_cmp(a));
    shares
}

fn log_rank(rank: usize) -> f64 {
    ((rank + 1) as f64).log10()
}

/// A rank's logarithm, as the rank; nothing between whole powers.
fn rank(power: &f64) -> String {
    if power.fract() == 0.0 { format!("{}", 10f64.powf(*power)) } else { String::new() }
}

/// A share's logarithm, in per cent; nothing between whole powers.
fn power_of_ten(power: &f64) -> String {
    if power.fract() == 0.0 { format!("{} %", 10f64.powf(*power + 2.0)) } else { String::new() }
}
