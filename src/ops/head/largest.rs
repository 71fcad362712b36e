//! The largest logits of some rows, from few tiles of the vocabulary.
//!
//! Scoring leaves the maximum of each tile. The k largest logits of a row lie in the k tiles of the largest maxima, and in
//! that of the target, which those maxima leave out: any other tile's best is at most the k-th of them, and where it is
//! equal, of a higher id. So only those tiles are computed again, each for all rows that need it.

use std::cmp::Reverse;

use rayon::prelude::*;

use super::super::draw::{Candidate, largest};
use super::super::matmul::{Panels, Rows, matmul};
use super::{Head, ROWS, Scratch, TILE};
use crate::tensor::{Element, PANEL};

/// Rows that are worked on at a time.
const CHUNK_ROWS: usize = 1024;
/// How many times fewer tiles there must be than in the whole rows, whose products are done at a better rate.
const GAIN: usize = 4;

/// What a row needs.
struct Wanted {
    /// Ascending.
    tiles: Vec<usize>,
    /// No smaller logit is among the largest.
    least: f32,
}

impl<E: Element> Head<'_, E> {
    /// The `k` largest logits of each of `rows`, as [`largest`] orders them, after [`Head::score`] with the same
    /// `scratch`. None where k is so large that whole rows are as fast.
    pub fn largest(&self, rows: &[usize], k: usize, scratch: &Scratch) -> Option<Vec<Vec<Candidate>>> {
        let tiles = self.weight.n().div_ceil(TILE);
        if k == 0 || (k + 1).saturating_mul(GAIN) > tiles {
            return None;
        }
        Some(rows.chunks(CHUNK_ROWS).flat_map(|rows| self.largest_of(rows, k, scratch)).collect())
    }

    fn largest_of(&self, rows: &[usize], k: usize, scratch: &Scratch) -> Vec<Vec<Candidate>> {
        let wanted: Vec<_> = rows.par_iter().map(|&row| self.wanted(row, k, scratch)).collect();
        let mut takers = vec![Vec::new(); self.weight.n().div_ceil(TILE)];
        for (place, wanted) in wanted.iter().enumerate() {
            wanted.tiles.iter().for_each(|&tile| takers[tile].push(place));
        }
        let of_tile = |(tile, takers): (usize, &Vec<usize>)| -> Vec<Vec<Candidate>> {
            let blocks = takers.chunks(ROWS);
            blocks.flat_map(|takers| self.tile_candidates(tile, takers, rows, &wanted, k)).collect()
        };
        let found: Vec<_> = takers.par_iter().enumerate().map(of_tile).collect();
        let mut candidates = vec![Vec::new(); rows.len()];
        // Ids ascend with the tiles.
        for (takers, found) in takers.iter().zip(found) {
            takers.iter().zip(found).for_each(|(&place, found)| candidates[place].extend(found));
        }
        candidates.par_iter_mut().for_each(|row| {
            row.sort_unstable_by_key(|&candidate| Reverse(candidate));
            row.truncate(k);
        });
        candidates
    }

    fn wanted(&self, row: usize, k: usize, scratch: &Scratch) -> Wanted {
        let parts = scratch.parts.iter().skip(row).step_by(self.hidden.rows);
        let maxima: Vec<f32> = parts.map(|part| part.max).collect();
        let best = largest(&maxima, k);
        let mut tiles: Vec<_> = best.iter().map(|tile| tile.id as usize).collect();
        tiles.push(self.targets[row] as usize / TILE);
        tiles.sort_unstable();
        tiles.dedup();
        Wanted { tiles, least: best.last().map_or(f32::NEG_INFINITY, |last| last.logit) }
    }

    /// A tile's candidates for each row that takes it.
    fn tile_candidates(
        &self,
        tile: usize,
        takers: &[usize],
        rows: &[usize],
        wanted: &[Wanted],
        k: usize,
    ) -> Vec<Vec<Candidate>> {
        let Self { hidden, weight, .. } = *self;
        let first = tile * TILE;
        let columns = TILE.min(weight.n() - first);
        let row = |place: &usize| &hidden.data[rows[*place] * hidden.stride..][..hidden.stride];
        let gathered: Vec<E> = takers.iter().flat_map(row).copied().collect();
        let gathered = Rows { data: &gathered, rows: takers.len(), ..hidden };
        let mut logits = vec![0.0; takers.len() * TILE];
        matmul(gathered, Panels::of(weight, first / PANEL, columns.div_ceil(PANEL)), &mut logits, TILE);
        let of_row = |(logits, place): (&[f32], &usize)| {
            let best = largest(&logits[..columns], k.min(columns)).into_iter();
            let best = best.take_while(|candidate| candidate.logit >= wanted[*place].least);
            best.map(|candidate| Candidate { id: candidate.id + first as u32, ..candidate }).collect()
        };
        logits.chunks_exact(TILE).zip(takers).map(of_row).collect()
    }
}
