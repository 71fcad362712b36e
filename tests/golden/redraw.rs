//! The editor's draws made again from reference logits, plainly and in f64.

use toedit::edit::Sampler;
use toedit::random::Uniform;

/// Differences of logits and of cumulative probabilities that two implementations need not agree about.
const MARGIN: f64 = 1e-4;
const TILE: usize = 256;

/// One position: the reference's logits, and what the text has there.
pub struct Redraw<'a> {
    pub sampler: &'a Sampler,
    pub temperature: f64,
    pub logits: &'a [f32],
    pub original: u32,
    pub is_allowed: &'a dyn Fn(u32) -> bool,
}

impl Redraw<'_> {
    /// The token drawn; none where a difference within the margin would draw another.
    pub fn token(&self, random: impl Fn(u8) -> Uniform) -> Option<u32> {
        match *self.sampler {
            Sampler::TopK(k) => self.among_best(k, random(0).first),
            Sampler::TopP(mass) => self.among_best(self.nucleus(mass)?, random(0).first),
            Sampler::Full => self.among_all(self.is_allowed, random(0)),
            Sampler::Rejection => {
                for draw in 0..64 {
                    let proposal = self.among_all(&|_| true, random(draw))?;
                    if (self.is_allowed)(proposal) {
                        return Some(proposal);
                    }
                }
                Some(self.original)
            }
        }
    }

    fn logit(&self, id: u32) -> f64 {
        f64::from(self.logits[id as usize])
    }

    /// All ids, the most likely first.
    fn order(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.logits.len() as u32).collect();
        order.sort_by(|&a, &b| self.logit(b).total_cmp(&self.logit(a)));
        order
    }

    /// How many of the most likely tokens have the mass at temperature 1.
    fn nucleus(&self, mass: f64) -> Option<usize> {
        let total: f64 = self.order().iter().map(|&id| self.logit(id).exp()).sum();
        let mut sum = 0.0;
        for (index, id) in self.order().into_iter().enumerate() {
            sum += self.logit(id).exp() / total;
            if (sum - mass).abs() < MARGIN {
                return None;
            }
            if sum >= mass {
                return Some(index + 1);
            }
        }
        None
    }

    fn among_best(&self, k: usize, u: f64) -> Option<u32> {
        let order = self.order();
        let tied = |a: usize, b: usize| {
            b < order.len() && (self.logit(order[a]) - self.logit(order[b])).abs() < MARGIN
        };
        let weights: Vec<f64> = order[..k].iter().map(|&id| self.weight(id, self.is_allowed)).collect();
        let index = pick(&weights, u)?;
        let unsure = tied(k - 1, k) || tied(index, index + 1) || (index > 0 && tied(index - 1, index));
        (!unsure).then_some(order[index])
    }

    /// The original or a tile by the first number, a column of the tile by the second.
    fn among_all(&self, allowed: &dyn Fn(u32) -> bool, random: Uniform) -> Option<u32> {
        let weights: Vec<f64> = (0..self.logits.len() as u32)
            .map(|id| if id == self.original { 0.0 } else { self.weight(id, allowed) })
            .collect();
        let tiles: Vec<&[f64]> = weights.chunks(TILE).collect();
        let mut masses = vec![self.weight(self.original, allowed)];
        masses.extend(tiles.iter().map(|tile| tile.iter().sum::<f64>()));
        match pick(&masses, random.first)? {
            0 => Some(self.original),
            tile => Some((pick(tiles[tile - 1], random.second)? + (tile - 1) * TILE) as u32),
        }
    }

    fn weight(&self, id: u32, allowed: &dyn Fn(u32) -> bool) -> f64 {
        if id == self.original || allowed(id) { (self.logit(id) / self.temperature).exp() } else { 0.0 }
    }
}

/// The index whose share of the sum u falls in; none near the share's ends.
fn pick(weights: &[f64], u: f64) -> Option<usize> {
    let total: f64 = weights.iter().sum();
    let mut end = 0.0;
    let index = weights.iter().position(|weight| {
        end += weight / total;
        u < end
    })?;
    let start = end - weights[index] / total;
    (start + MARGIN < u && u + MARGIN < end).then_some(index)
}
