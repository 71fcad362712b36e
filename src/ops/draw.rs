//! Draws a token from one row of raw logits: the samplers of editing.
//!
//! Weights are w_v = e^{(l_v−l₀)/T} in f64. Candidates come from the whole vocabulary; those not allowed get weight 0
//! afterwards. l₀ is the largest logit that keeps its weight, so that no temperature can make every weight underflow.

use std::cmp::{Ordering, Reverse};

use super::head::TILE;
use crate::edit::Sampler;
use crate::random::Uniform;
use crate::score::Statistics;

/// Proposals of the rejection sampler before it gives up.
pub const MAX_PROPOSALS: u8 = 64;

/// One position's distribution.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Raw logits of the whole vocabulary, length V, none of them NaN or +∞.
    pub logits: &'a [f32],
    /// The token that the text has here.
    pub original: u32,
    /// The row's statistics with `original` as target.
    pub statistics: &'a Statistics,
}

/// A draw's result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Draw {
    /// The token drawn, which may be the original.
    Token {
        /// Its id.
        id: u32,
        /// Its raw logit.
        logit: f32,
    },
    /// No candidate was allowed: the original stays.
    NoAlternative,
}

/// Draws from `row` at `temperature` (finite, > 0) by `sampler`.
///
/// `allowed(id)` says whether a token may stand here, the original included. `random(d)` gives the numbers of draw d of
/// this position: rejection uses draws 0 to 63, the others draw 0.
///
/// ```
/// use toedit::edit::Sampler;
/// use toedit::ops::draw::{Draw, Row, draw};
/// use toedit::random::Uniform;
/// use toedit::score::Statistics;
/// let logits = [4.0, 1.0, 2.0];
/// let statistics = Statistics { target: 4.0, max: 2.0, rest: 1.0 + (-1f32).exp() };
/// let row = Row { logits: &logits, original: 0, statistics: &statistics };
/// let drawn = draw(&Sampler::TopK(2), 1.5, row, |id| id != 0, |_| Uniform { first: 0.5, second: 0.5 });
/// assert_eq!(drawn, Draw::Token { id: 2, logit: 2.0 });
/// ```
pub fn draw(
    sampler: &Sampler,
    temperature: f64,
    row: Row<'_>,
    allowed: impl Fn(u32) -> bool,
    random: impl Fn(u8) -> Uniform,
) -> Draw {
    let logits = row.logits;
    let id = match *sampler {
        Sampler::TopK(k) => return draw_among(&largest(logits, k), temperature, allowed, random(0)),
        Sampler::TopP(mass) if mass < 1.0 => {
            return draw_among(&nucleus(row, mass), temperature, allowed, random(0));
        }
        Sampler::TopP(_) | Sampler::Full => Tiled::new(row, temperature, allowed).draw(random(0)),
        Sampler::Rejection => {
            let whole = Tiled::new(row, temperature, |_| true);
            (0..MAX_PROPOSALS).filter_map(|d| whole.draw(random(d))).find(|&id| allowed(id))
        }
    };
    match id {
        Some(id) => Draw::Token { id, logit: logits[id as usize] },
        None => Draw::NoAlternative,
    }
}

/// A token and its logit. The better one is greater: higher logit, then lower id.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The token's id.
    pub id: u32,
    /// Its raw logit.
    pub logit: f32,
}

impl Eq for Candidate {}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        // Adding 0 makes −0 equal to 0, which the total order would tell apart.
        (self.logit + 0.0).total_cmp(&(other.logit + 0.0)).then(other.id.cmp(&self.id))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The `k` largest of `logits`, best first: logit descending, id ascending.
///
/// A scan against a threshold that at least k candidates reach; a tile without a larger logit, which is nearly every
/// one, is passed over by a loop that vectorises. Time is O(V + k log k), memory O(k).
///
/// ```
/// let best = toedit::ops::draw::largest(&[1.0, 3.0, 2.0, 3.0], 3);
/// assert_eq!(best.iter().map(|candidate| candidate.id).collect::<Vec<_>>(), [1, 3, 2]);
/// ```
pub fn largest(logits: &[f32], k: usize) -> Vec<Candidate> {
    let k = k.min(logits.len());
    let (head, tail) = logits.split_at(k);
    let mut best: Vec<_> = candidates(head, 0).collect();
    let mut threshold = head.iter().copied().fold(f32::INFINITY, f32::min);
    for (tile, start) in tail.chunks(TILE).zip((k..).step_by(TILE)) {
        // Ids ascend, so that an equal logit never displaces one that is there.
        if tile.iter().fold(false, |any, &logit| any | (logit > threshold)) {
            best.extend(candidates(tile, start).filter(|candidate| candidate.logit > threshold));
            if best.len() >= 2 * k {
                let (_, worst, _) = best.select_nth_unstable_by_key(k - 1, |&candidate| Reverse(candidate));
                threshold = worst.logit;
                best.truncate(k);
            }
        }
    }
    best.sort_unstable_by_key(|&candidate| Reverse(candidate));
    best.truncate(k);
    best
}

fn candidates(logits: &[f32], start: usize) -> impl Iterator<Item = Candidate> {
    logits.iter().zip(start..).map(|(&logit, id)| Candidate { id: id as u32, logit })
}

/// The smallest prefix of the order of [`largest`] whose softmax mass at temperature 1 reaches `mass`.
fn nucleus(row: Row<'_>, mass: f64) -> Vec<Candidate> {
    let log_sum_exp = row.statistics.log_sum_exp();
    // Where a token is likely the prefix is short; a long one is found in few steps.
    let mut k = 16;
    loop {
        let mut best = largest(row.logits, k);
        let mut sum = 0.0;
        let last = best.iter().position(|candidate| {
            sum += (f64::from(candidate.logit) - log_sum_exp).exp();
            sum >= mass
        });
        if last.is_some() || best.len() == row.logits.len() {
            best.truncate(last.map_or(best.len(), |last| last + 1));
            return best;
        }
        k *= 4;
    }
}

/// One inverse-CDF draw among `candidates`, which come best first, by the first word of `random`.
pub fn draw_among(
    candidates: &[Candidate],
    temperature: f64,
    allowed: impl Fn(u32) -> bool,
    random: Uniform,
) -> Draw {
    let mut weights: Vec<f64> = candidates
        .iter()
        .map(|candidate| if allowed(candidate.id) { f64::from(candidate.logit) } else { f64::NEG_INFINITY })
        .collect();
    exponentiate(&mut weights, temperature);
    pick(&weights, random.first).map_or(Draw::NoAlternative, |index| {
        let Candidate { id, logit } = candidates[index];
        Draw::Token { id, logit }
    })
}

/// Replaces each logit l by e^{(l−l₀)/T}, l₀ being the largest, and returns l₀. −∞ becomes 0.
pub(super) fn exponentiate(logits: &mut [f64], temperature: f64) -> f64 {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    for logit in logits {
        // Where all are −∞ their difference would be NaN.
        *logit = if *logit == f64::NEG_INFINITY { 0.0 } else { ((*logit - largest) / temperature).exp() };
    }
    largest
}

/// The first index at which the running sum passes u times the total; never past the last positive weight.
pub(super) fn pick(weights: &[f64], u: f64) -> Option<usize> {
    let target = u * weights.iter().sum::<f64>();
    let mut running = 0.0;
    let mut last = None;
    for (index, &weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
        running += weight;
        last = Some(index);
        if running > target {
            break;
        }
    }
    last
}

/// The distribution over a whole row, in the order: the original, then tiles of 256 columns.
///
/// Word 0 picks the original or a tile by mass, word 1 a column of the tile, whose weights are computed again. So a draw
/// keeps one number per tile, and 2⁻³², the grain of one word, does not bound what a rare token's share can be.
struct Tiled<'a, A> {
    row: Row<'a>,
    temperature: f64,
    allowed: A,
    /// The allowed mass of the original and of each tile without it, up to a common factor.
    masses: Vec<f64>,
}

impl<'a, A: Fn(u32) -> bool> Tiled<'a, A> {
    fn new(row: Row<'a>, temperature: f64, allowed: A) -> Self {
        let tiles = row.logits.len().div_ceil(TILE);
        let mut tiled = Self { row, temperature, allowed, masses: Vec::with_capacity(1 + tiles) };
        let mut scales = Vec::with_capacity(1 + tiles);
        let original = row.logits.get(row.original as usize).filter(|_| (tiled.allowed)(row.original));
        scales.push(original.map_or(f64::NEG_INFINITY, |&logit| f64::from(logit)));
        tiled.masses.push(1.0);
        for tile in 0..tiles {
            let mut weights = [0.0; TILE];
            scales.push(tiled.weigh(tile, &mut weights));
            tiled.masses.push(weights.iter().sum());
        }
        exponentiate(&mut scales, temperature);
        tiled.masses.iter_mut().zip(&scales).for_each(|(mass, scale)| *mass *= scale);
        tiled
    }

    /// Fills in the weights of a tile, relative to its largest allowed logit, which is returned.
    fn weigh(&self, tile: usize, weights: &mut [f64; TILE]) -> f64 {
        weights.fill(f64::NEG_INFINITY);
        let start = tile * TILE;
        for (weight, candidate) in weights.iter_mut().zip(candidates(&self.row.logits[start..], start)) {
            if candidate.id != self.row.original && (self.allowed)(candidate.id) {
                *weight = f64::from(candidate.logit);
            }
        }
        exponentiate(weights, self.temperature)
    }

    fn draw(&self, random: Uniform) -> Option<u32> {
        let Some(tile) = pick(&self.masses, random.first)?.checked_sub(1) else {
            return Some(self.row.original);
        };
        let mut weights = [0.0; TILE];
        self.weigh(tile, &mut weights);
        pick(&weights, random.second).map(|column| (tile * TILE + column) as u32)
    }
}
