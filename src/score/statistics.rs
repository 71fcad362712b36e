//! What scoring keeps of a row of logits: enough for an exact log-probability and exact threshold tests.

use bytemuck::{Pod, Zeroable};

/// Statistics of one row of logits l (length V) with the target token x, in f32 as the head produces them.
///
/// The target is kept apart from the rest: near p = 1 the probability is decided by the small sum of the others, which
/// would be lost in a sum over all.
///
/// ```
/// use toedit::score::Statistics;
/// let row = Statistics { target: 2.0, max: 2.0, rest: 1.0 }; // two tokens with equal logits
/// assert_eq!(row.probability(), 0.5);
/// assert!(row.at_least(0.5) && !row.above(0.5));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Statistics {
    /// l_x, the target's logit.
    pub target: f32,
    /// m, the largest of the other logits; −∞ where there are none.
    pub max: f32,
    /// S_rest = Σ_{v≠x} e^{l_v−m}: at least 1, or 0 where there are no others.
    pub rest: f32,
}

impl Statistics {
    /// Whether the row can be trusted: no NaN, and no infinity but the −∞ of an empty rest.
    pub fn is_finite(&self) -> bool {
        let empty = self.max == f32::NEG_INFINITY && self.rest == 0.0;
        self.target.is_finite() && self.rest.is_finite() && (self.max.is_finite() || empty)
    }

    /// log p = −ln_1p(S_rest·e^{m−l_x}) where l_x >= m, else (l_x−m) − ln(S_rest + e^{l_x−m}), in nats.
    ///
    /// Exact near p = 1, never positive, never −0.
    pub fn log_probability(&self) -> f32 {
        let lead = self.lead();
        let log = if lead >= 0.0 { -self.odds_against() } else { lead - self.rest_and_target().ln() };
        // The sum turns −0 into 0 and changes nothing else.
        log as f32 + 0.0
    }

    /// p = e^{l_x} / Σ_v e^{l_v}.
    pub fn probability(&self) -> f64 {
        let lead = self.lead();
        if lead >= 0.0 {
            (1.0 + f64::from(self.rest) * (-lead).exp()).recip()
        } else {
            lead.exp() / self.rest_and_target()
        }
    }

    /// The probability of the token with the given logit of the same row.
    pub fn probability_of(&self, logit: f32) -> f64 {
        (f64::from(logit) - self.log_sum_exp()).exp().min(1.0)
    }

    /// ln Σ_v e^{l_v} over the whole row, the target included.
    pub fn log_sum_exp(&self) -> f64 {
        if self.lead() >= 0.0 {
            f64::from(self.target) + self.odds_against()
        } else {
            f64::from(self.max) + self.rest_and_target().ln()
        }
    }

    /// p >= t, decided as S_rest <= e^{l_x−m}·((1−t)/t). Always true for t <= 0, never for t > 1.
    pub fn at_least(&self, t: f64) -> bool {
        match t {
            _ if t <= 0.0 => true,
            // The factor is 0, which an overflowing exponential would turn into NaN.
            1.0 => self.rest <= 0.0,
            _ => t < 1.0 && f64::from(self.rest) <= self.largest_rest(t),
        }
    }

    /// p > t, decided as S_rest < e^{l_x−m}·((1−t)/t). Always true for t <= 0 (no probability is 0), never for t >= 1.
    pub fn above(&self, t: f64) -> bool {
        t <= 0.0 || t < 1.0 && f64::from(self.rest) < self.largest_rest(t)
    }

    /// l_x − m: how far the target leads; +∞ where there is no other token.
    fn lead(&self) -> f64 {
        f64::from(self.target) - f64::from(self.max)
    }

    /// ln_1p(S_rest·e^{m−l_x}) = −log p, where l_x >= m.
    fn odds_against(&self) -> f64 {
        (f64::from(self.rest) * (-self.lead()).exp()).ln_1p()
    }

    /// S_rest + e^{l_x−m}: the whole sum on the scale of m, where l_x < m.
    fn rest_and_target(&self) -> f64 {
        f64::from(self.rest) + self.lead().exp()
    }

    /// The S_rest at which p = t, for 0 < t < 1.
    fn largest_rest(&self, t: f64) -> f64 {
        self.lead().exp() * ((1.0 - t) / t)
    }
}
