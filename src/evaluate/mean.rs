//! Means with their standard errors.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// Sums of numbers, for their mean and its standard error.
///
/// ```
/// use toedit::evaluate::Mean;
/// let mean: Mean = [1.0, 0.0, 0.0, 1.0, 1.0].into_iter().collect();
/// let p: f64 = 0.6;
/// assert_eq!(mean.value(), Some(p));
/// assert!((mean.standard_error().unwrap() - (p * (1.0 - p) / 4.0).sqrt()).abs() < 1e-12);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Mean {
    count: u64,
    sum: f64,
    squares: f64,
}

impl Mean {
    /// Adds a number.
    pub fn push(&mut self, value: f64) {
        *self += &Self { count: 1, sum: value, squares: value * value };
    }

    /// How many numbers there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their mean; none of no numbers.
    pub fn value(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }

    /// The standard error of the mean, √(Σ(x−x̄)² / (n(n−1))), which is √(p(1−p)/(n−1)) for a share p; none of fewer
    /// than two numbers.
    pub fn standard_error(&self) -> Option<f64> {
        let (n, mean) = (self.count as f64, self.value()?);
        let deviations = (self.squares - mean * self.sum).max(0.0);
        (self.count > 1).then(|| (deviations / (n * (n - 1.0))).sqrt())
    }
}

impl AddAssign<&Self> for Mean {
    fn add_assign(&mut self, other: &Self) {
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
