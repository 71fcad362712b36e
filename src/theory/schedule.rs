//! Which rows each generation edits.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::random::{Stream, uniform};

/// How the masks of a run relate to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mask {
    /// No row is edited twice.
    Disjoint,
    /// Rows drawn anew for each generation.
    Random,
    /// The same rows in each generation.
    Fixed,
    /// Rows drawn anew, their number falling by a factor from one generation to the next.
    Geometric,
    /// All rows: the collapse.
    All,
}

impl Mask {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Disjoint, Self::Random, Self::Fixed, Self::Geometric, Self::All];
}

impl fmt::Display for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disjoint => "disjoint",
            Self::Random => "random",
            Self::Fixed => "fixed",
            Self::Geometric => "geometric",
            Self::All => "all",
        })
    }
}

impl FromStr for Mask {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|mask| mask.to_string() == text);
        found.ok_or_else(|| "expected disjoint, random, fixed, geometric or all".into())
    }
}

/// The masks of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Schedule {
    /// Which rows.
    pub mask: Mask,
    /// The first mask's share of the rows, above 0 and at most 1; [`Mask::All`] ignores it.
    pub share: f64,
    /// By what the share of [`Mask::Geometric`] is multiplied from one generation to the next; above 0 and below 1.
    pub ratio: f64,
}

impl Schedule {
    /// The schedule in which every row is made anew, which is the collapse.
    pub const COLLAPSE: Self = Self { mask: Mask::All, share: 1.0, ratio: 1.0 };

    /// In words, for a legend.
    pub fn name(&self) -> String {
        let Self { mask, share, ratio } = self;
        match mask {
            Mask::All => "all rows: the collapse".into(),
            Mask::Geometric => format!("{mask}, {share} falling by {ratio}"),
            Mask::Disjoint | Mask::Random | Mask::Fixed => format!("{mask}, {share} each"),
        }
    }

    /// Where among `samples` rows mask number `index` (from 0) would lie if masks were laid end to end.
    fn place(&self, index: usize, samples: usize) -> std::ops::Range<usize> {
        let rows = |share: f64| ((share * samples as f64).round() as usize).min(samples);
        match self.mask {
            Mask::Disjoint => rows(self.share * index as f64)..rows(self.share * (index + 1) as f64),
            Mask::Random | Mask::Fixed => 0..rows(self.share),
            Mask::Geometric => 0..rows(self.share * self.ratio.powf(index as f64)),
            Mask::All => 0..samples,
        }
    }

    /// The share of the rows that mask number `index` really has.
    pub(super) fn share(&self, index: usize, samples: usize) -> f64 {
        self.place(index, samples).len() as f64 / samples as f64
    }

    /// The rows of mask number `index`, ascending. Rows of features are alike, so only masks that are drawn anew have to be
    /// random: those of a generation have `stream`.
    pub(super) fn rows(&self, index: usize, samples: usize, stream: &Stream) -> Vec<usize> {
        let place = self.place(index, samples);
        match self.mask {
            Mask::Disjoint | Mask::Fixed | Mask::All => place.collect(),
            // Each has numbers of its own, so that the others of a run do not matter.
            Mask::Random => subset(samples, place.len(), stream, 1),
            Mask::Geometric => subset(samples, place.len(), stream, 2),
        }
    }
}

/// `count` of the numbers below `samples`, all subsets of that size being equally likely: selection sampling (Knuth, volume
/// 2, algorithm 3.4.2 S), to the 2⁻³² of a word.
fn subset(samples: usize, count: usize, stream: &Stream, draw: u8) -> Vec<usize> {
    let mut chosen = Vec::with_capacity(count);
    for row in 0..samples {
        let word = stream.block((row / 4) as u32, draw)[row % 4];
        if uniform(word) * ((samples - row) as f64) < (count - chosen.len()) as f64 {
            chosen.push(row);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Purpose;

    #[test]
    fn subsets_have_their_size_and_are_equally_likely() {
        let mut counts = std::collections::BTreeMap::new();
        for repetition in 0..15_000 {
            let stream = Stream::new(3, repetition, Purpose::Simulate, 1).unwrap();
            let chosen = subset(6, 2, &stream, 1);
            assert!(chosen.len() == 2 && chosen[0] < chosen[1] && chosen[1] < 6);
            *counts.entry(chosen).or_insert(0) += 1;
        }
        // χ² over 15 subsets: 14 degrees of freedom, p = 1e-6 at 53.
        let chi: f64 = counts.values().map(|count: &i32| (f64::from(*count) - 1000.0).powi(2) / 1000.0).sum();
        assert!(counts.len() == 15 && chi < 53.0, "{chi}");
    }

    #[test]
    fn masks_are_as_large_as_said_and_disjoint_ones_fill_the_rows() {
        let stream = Stream::new(0, 0, Purpose::Simulate, 0).unwrap();
        for mask in Mask::ALL {
            let schedule = Schedule { mask, share: 1.0 / 7.0, ratio: 0.5 };
            let masks: Vec<_> = (0..7).map(|index| schedule.rows(index, 100, &stream)).collect();
            for (index, rows) in masks.iter().enumerate() {
                assert_eq!(rows.len() as f64 / 100.0, schedule.share(index, 100), "{mask} {index}");
            }
            if mask == Mask::Disjoint {
                assert!(masks.concat().into_iter().eq(0..100));
            }
        }
        assert_eq!(Mask::ALL.map(|mask| mask.to_string().parse::<Mask>().unwrap()), Mask::ALL);
    }
}
