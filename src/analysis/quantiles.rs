//! Quantiles of very many numbers, in bounded memory.

/// Bits of a number's significand that are told apart.
const DIGITS: u32 = 11;
/// Positive finite f32 fall into so many classes, whose order is theirs.
const CLASSES: usize = 255 << DIGITS;

/// Counts of numbers from 0 up, by their first bits: a quantile is known to 2⁻¹² of itself, from 4 MB of counts.
#[derive(Clone, Debug)]
pub(super) struct Quantiles {
    counts: Vec<u64>,
    total: u64,
}

impl Default for Quantiles {
    fn default() -> Self {
        Self { counts: vec![0; CLASSES], total: 0 }
    }
}

impl Quantiles {
    /// Counts a number that is finite and not negative.
    pub fn add(&mut self, value: f32) {
        // Zero may have a sign.
        let class = ((value.abs().to_bits() >> (23 - DIGITS)) as usize).min(CLASSES - 1);
        self.counts[class] += 1;
        self.total += 1;
    }

    /// The least number that at least the share `q` of all do not exceed; none where there are none.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        self.ranked(self.rank(q))
    }

    /// The greatest number that at least the share `q` of all are not below; none where there are none.
    pub fn reverse_quantile(&self, q: f64) -> Option<f64> {
        self.ranked((self.total + 1).checked_sub(self.rank(q))?.max(1))
    }

    fn rank(&self, q: f64) -> u64 {
        ((q * self.total as f64).ceil() as u64).clamp(1, self.total.max(1))
    }

    /// The number of this rank from the smallest, which has 1.
    fn ranked(&self, rank: u64) -> Option<f64> {
        let mut below = 0;
        let class = self.counts.iter().position(|count| {
            below += count;
            below >= rank
        })?;
        Some(middle(class))
    }
}

/// What stands for a class: between its first and last number.
fn middle(class: usize) -> f64 {
    let first = (class as u32) << (23 - DIGITS);
    if class == 0 { 0.0 } else { f64::from(f32::from_bits(first | 1 << (22 - DIGITS))) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn quantiles_are_those_of_the_sorted_numbers(
            values in prop::collection::vec(prop_oneof![0f32..1e-3, 0f32..30.0, 1e3f32..1e30], 1..200), q in 0.0f64..=1.0,
        ) {
            let mut all = Quantiles::default();
            values.iter().for_each(|value| all.add(*value));
            let mut sorted = values.clone();
            sorted.sort_unstable_by(f32::total_cmp);
            let rank = ((q * sorted.len() as f64).ceil() as usize).clamp(1, sorted.len());
            let (found, expected) = (all.quantile(q).unwrap(), f64::from(sorted[rank - 1]));
            prop_assert!((found - expected).abs() <= expected * 2f64.powi(-12) + 1e-41, "{found} for {expected}");
            let (found, expected) = (all.reverse_quantile(q).unwrap(), f64::from(sorted[sorted.len() - rank]));
            prop_assert!((found - expected).abs() <= expected * 2f64.powi(-12) + 1e-41, "{found} for {expected}");
        }
    }

    #[test]
    fn the_ends_of_the_range() {
        let mut quantiles = Quantiles::default();
        assert_eq!((quantiles.quantile(0.5), quantiles.reverse_quantile(0.5)), (None, None));
        for value in [-0.0, 0.0, f32::MAX, f32::MIN_POSITIVE] {
            quantiles.add(value);
        }
        assert_eq!(quantiles.quantile(0.0), Some(0.0));
        assert_eq!(quantiles.quantile(0.5), Some(0.0));
        assert!((quantiles.quantile(1.0).unwrap() / f64::from(f32::MAX) - 1.0).abs() < 1e-3);
    }
}
