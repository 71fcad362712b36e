//! Mean and standard error of numbers that come one by one, or in blocks.

/// Welford's sums, which lose nothing to cancellation; blocks are joined as Chan, Golub and LeVeque do (1979).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Moments {
    count: f64,
    mean: f64,
    /// Sum of the squared distances from the mean.
    squares: f64,
}

impl Moments {
    pub fn push(&mut self, value: f64) {
        self.count += 1.0;
        let distance = value - self.mean;
        self.mean += distance / self.count;
        self.squares += distance * (value - self.mean);
    }

    pub fn join(&mut self, other: &Self) {
        let count = self.count + other.count;
        if count > 0.0 {
            let distance = other.mean - self.mean;
            self.mean += distance * other.count / count;
            self.squares += other.squares + distance * distance * self.count * other.count / count;
            self.count = count;
        }
    }

    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// Of the mean; of at least two numbers.
    pub fn standard_error(&self) -> f64 {
        (self.squares / (self.count - 1.0) / self.count).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_add_up() {
        let values: Vec<f64> = (0..100).map(|index| 1e9 + f64::from(index * index % 17)).collect();
        let mean = values.iter().sum::<f64>() / 100.0;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 99.0;
        for size in [1, 7, 100] {
            let mut joined = Moments::default();
            for block in values.chunks(size) {
                let mut moments = Moments::default();
                block.iter().for_each(|value| moments.push(*value));
                joined.join(&moments);
            }
            joined.join(&Moments::default());
            assert!((joined.mean() - mean).abs() < 1e-6);
            assert!((joined.standard_error() - (variance / 100.0).sqrt()).abs() < 1e-6);
        }
    }
}
