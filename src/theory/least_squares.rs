//! Least squares with features that stay the same: one factorisation, many right-hand sides.

/// A T × d matrix X of full rank as X = QR, the columns of Q being orthonormal.
///
/// X⁺ = R⁻¹Qᵀ, and a fit's predictions X·X⁺·y = Q·Qᵀ·y do not need R at all. Gram–Schmidt done twice loses no digits to an
/// ill-conditioned X ("twice is enough", Giraud, Langou and Rozložník, 2005), as the normal equations would, and is short
/// enough not to need a crate.
pub(super) struct Design {
    dimension: usize,
    /// Q, row by row.
    rows: Vec<f64>,
    /// R, column by column: the entries at and above the diagonal.
    columns: Vec<Vec<f64>>,
}

impl Design {
    /// Factorises the matrix with these columns.
    pub fn new(mut features: Vec<Vec<f64>>) -> Self {
        let mut columns = Vec::with_capacity(features.len());
        for index in 0..features.len() {
            let (done, rest) = features.split_at_mut(index);
            columns.push(orthonormalise(&mut rest[0], done));
        }
        let (dimension, samples) = (features.len(), features.first().map_or(0, Vec::len));
        let rows = (0..samples).flat_map(|row| features.iter().map(move |column| column[row])).collect();
        Self { dimension, rows, columns }
    }

    /// Qᵀ·labels: the fit to T labels, as coordinates in the columns of Q.
    pub fn fit(&self, labels: &[f64]) -> Vec<f64> {
        let mut coordinates = vec![0.0; self.dimension];
        labels.iter().enumerate().for_each(|(row, label)| self.shift(&mut coordinates, row, *label));
        coordinates
    }

    /// Makes a fit that to labels of which that of sample `row` is larger by `change`.
    pub fn shift(&self, coordinates: &mut [f64], row: usize, change: f64) {
        let row = &self.rows[row * self.dimension..][..self.dimension];
        coordinates.iter_mut().zip(row).for_each(|(sum, entry)| *sum += entry * change);
    }

    /// What a fit predicts for sample `row`.
    pub fn predict(&self, coordinates: &[f64], row: usize) -> f64 {
        dot(&self.rows[row * self.dimension..][..self.dimension], coordinates)
    }

    /// The coordinates of a model with these weights: R·weights.
    pub fn coordinates(&self, weights: &[f64]) -> Vec<f64> {
        let mut coordinates = vec![0.0; self.dimension];
        for (column, weight) in self.columns.iter().zip(weights) {
            coordinates.iter_mut().zip(column).for_each(|(sum, entry)| *sum += entry * weight);
        }
        coordinates
    }

    /// The weights of a fit: R⁻¹·coordinates, by substitution from the last on.
    pub fn weights(&self, coordinates: &[f64]) -> Vec<f64> {
        let mut weights = coordinates.to_vec();
        for (index, column) in self.columns.iter().enumerate().rev() {
            let weight = weights[index] / column[index];
            weights[index] = weight;
            weights[..index].iter_mut().zip(column).for_each(|(rest, entry)| *rest -= entry * weight);
        }
        weights
    }
}

/// Makes `column` orthogonal to the orthonormal columns before it and of length 1; gives its column of R.
fn orthonormalise(column: &mut [f64], before: &[Vec<f64>]) -> Vec<f64> {
    let mut entries = vec![0.0; before.len() + 1];
    for _ in 0..2 {
        for (earlier, entry) in before.iter().zip(&mut entries) {
            let projection = dot(earlier, column);
            column.iter_mut().zip(earlier).for_each(|(value, unit)| *value -= projection * unit);
            *entry += projection;
        }
    }
    let length = dot(column, column).sqrt();
    column.iter_mut().for_each(|value| *value /= length);
    entries[before.len()] = length;
    entries
}

/// In eight sums that do not wait for each other.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (a, b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a.zip(b) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hilbert's matrix: its columns are all but parallel.
    fn hilbert(samples: usize, dimension: usize) -> Vec<Vec<f64>> {
        let entry = |row: usize, column: usize| 1.0 / (row + column + 1) as f64;
        (0..dimension).map(|column| (0..samples).map(|row| entry(row, column)).collect()).collect()
    }

    #[test]
    fn the_factors_are_orthonormal_and_multiply_to_the_matrix() {
        let features = hilbert(37, 9);
        let design = Design::new(features.clone());
        for row in 0..37 {
            for (index, column) in features.iter().enumerate() {
                let mut weights = vec![0.0; 9];
                weights[index] = 1.0;
                let value = design.predict(&design.coordinates(&weights), row);
                assert!((value - column[row]).abs() < 1e-15, "{row} {index}");
            }
        }
        let column = |index: usize| (0..37).map(|row| design.rows[row * 9 + index]).collect::<Vec<_>>();
        for a in 0..9 {
            for b in 0..9 {
                let expected = if a == b { 1.0 } else { 0.0 };
                assert!((dot(&column(a), &column(b)) - expected).abs() < 1e-14, "{a} {b}");
            }
        }
    }

    #[test]
    fn labels_without_noise_give_their_weights_back() {
        let design = Design::new(hilbert(50, 4));
        let truth = [1.0, -2.0, 3.5, 0.25];
        let coordinates = design.coordinates(&truth);
        let labels: Vec<f64> = (0..50).map(|row| design.predict(&coordinates, row)).collect();
        let weights = design.weights(&design.fit(&labels));
        assert!(weights.iter().zip(truth).all(|(found, truth)| (found - truth).abs() < 1e-9), "{weights:?}");
    }
}
