//! Means with their standard errors.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// Numbers that come one by one or in parts: their mean, and how far they lie from it.
///
/// Squared distances are added up, those of parts as Chan, Golub and LeVeque do (1979), so that nothing is lost to
/// cancellation.
///
/// ```
/// use toedit::mean::Mean;
/// let mean: Mean = [1.0, 0.0, 0.0, 1.0, 1.0].into_iter().collect();
/// let p: f64 = 0.6;
/// assert_eq!(mean.value(), Some(p));
/// assert!((mean.standard_error().unwrap() - (p * (1.0 - p) / 4.0).sqrt()).abs() < 1e-12);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Mean {
    count: u64,
    sum: f64,
    /// Sum of the squared distances from the mean.
    squares: f64,
}

impl Mean {
    /// Adds a number.
    pub fn push(&mut self, value: f64) {
        *self += &Self { count: 1, sum: value, squares: 0.0 };
    }

    /// How many numbers there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their mean; none of no numbers.
    pub fn value(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }

    /// Their standard deviation, √(Σ(x−x̄)² / (n−1)); none of fewer than two numbers.
    pub fn deviation(&self) -> Option<f64> {
        (self.count > 1).then(|| (self.squares / (self.count - 1) as f64).sqrt())
    }

    /// The standard error of the mean, √(Σ(x−x̄)² / (n(n−1))), which is √(p(1−p)/(n−1)) for a share p; none of fewer
    /// than two numbers.
    pub fn standard_error(&self) -> Option<f64> {
        Some(self.deviation()? / (self.count as f64).sqrt())
    }
}

impl AddAssign<&Self> for Mean {
    fn add_assign(&mut self, other: &Self) {
        if let (Some(mean), Some(others)) = (self.value(), other.value()) {
            let (n, m) = (self.count as f64, other.count as f64);
            self.squares += (others - mean).powi(2) * n * m / (n + m);
        }
        self.count += other.count;
        self.sum += other.sum;
        self.squares += other.squares;
    }
}

impl FromIterator<f64> for Mean {
    fn from_iter<T: IntoIterator<Item = f64>>(values: T) -> Self {
        let mut mean = Self::default();
        values.into_iter().for_each(|value| mean.push(value));
        mean
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_without_cancellation() {
        let values: Vec<f64> = (0..100).map(|index| 1e9 + f64::from(index * index % 17)).collect();
        let mean = values.iter().sum::<f64>() / 100.0;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 99.0;
        for size in [1, 7, 100] {
            let mut joined = Mean::default();
            values.chunks(size).for_each(|part| joined += &part.iter().copied().collect());
            joined += &Mean::default();
            assert_eq!(joined.count(), 100);
            assert!((joined.value().unwrap() - mean).abs() < 1e-6);
            assert!((joined.deviation().unwrap() - variance.sqrt()).abs() < 1e-6);
        }
        let alone: Mean = [3.0].into_iter().collect();
        assert_eq!((alone.value(), alone.deviation(), Mean::default().value()), (Some(3.0), None, None));
    }
}
