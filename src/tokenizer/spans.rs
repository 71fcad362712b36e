//! Ranges of a text as runs of its tokens.

use std::ops::Range;

use super::{Alignment, Tokenizer};
use crate::Result;

impl Tokenizer {
    /// For each of `ranges` of `text`, ascending and apart, the run of its tokens `ids` that have a byte of it; empty where
    /// the range is. No token is in two runs. Where tokens have no bytes of their own (`alignment` is that of
    /// [`Tokenizer::align`]), a range begins, and the one before it ends, after the tokens that the text up to there has in
    /// common with the whole.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    ///
    /// # Panics
    /// Where a range does not lie in the text, on character boundaries.
    pub fn runs(
        &self,
        text: &str,
        ids: &[u32],
        alignment: Option<&Alignment>,
        ranges: &[Range<usize>],
    ) -> Result<Vec<Range<usize>>> {
        let ends: Option<Vec<usize>> =
            alignment.map(|alignment| (0..ids.len()).map(|place| alignment.range(place).end).collect());
        let mut runs: Vec<Range<usize>> = Vec::with_capacity(ranges.len());
        for range in ranges {
            let run = match &ends {
                Some(ends) => {
                    let first = ends.partition_point(|&end| end <= range.start);
                    first..(ends.partition_point(|&end| end < range.end) + 1).min(ids.len())
                }
                None => self.common(&text[..range.start], ids)?..self.common(&text[..range.end], ids)?,
            };
            let start = run.start.max(runs.last().map_or(0, |last| last.end));
            runs.push(start..if range.is_empty() { start } else { run.end.max(start) });
        }
        Ok(runs)
    }

    /// How many of the first tokens of `ids` are those of `text`.
    fn common(&self, text: &str, ids: &[u32]) -> Result<usize> {
        let start = self.encode(text)?;
        Ok(start.iter().zip(ids).take_while(|(a, b)| a == b).count())
    }
}
