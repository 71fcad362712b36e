//! Random operands. Values are held as f32 and already rounded to the element type, so that an oracle in f64 sees
//! exactly what an op sees.

use toedit::random::{philox4x32, uniform};
use toedit::tensor::{Element, Matrix};

/// `len` values, uniform on (−1, 1), rounded to `E`.
pub fn values<E: Element>(seed: u32, len: usize) -> Vec<f32> {
    let word = |index: usize| philox4x32([index as u32, 0, 0, 0], [seed, 0])[0];
    (0..len).map(|index| E::from_f32((2.0 * uniform(word(index)) - 1.0) as f32).to_f32()).collect()
}

/// Integers below `limit`.
pub fn ids(seed: u32, len: usize, limit: usize) -> Vec<u32> {
    let word = |index: usize| philox4x32([index as u32, 1, 0, 0], [seed, 0])[0];
    (0..len).map(|index| word(index) % limit as u32).collect()
}

/// Converts values that `E` holds exactly.
pub fn elements<E: Element>(values: &[f32]) -> Vec<E> {
    values.iter().map(|value| E::from_f32(*value)).collect()
}

/// Rows of `k` values as a product wants them: padded with zeros to whole groups.
pub fn padded<E: Element>(values: &[f32], k: usize) -> Vec<E> {
    let mut out = Vec::new();
    for row in values.chunks_exact(k) {
        out.extend(elements::<E>(row));
        out.resize(out.len().next_multiple_of(E::GROUP), E::from_f32(0.0));
    }
    out
}

/// Packs row-major weights `[n, k]`.
pub fn matrix<E: Element>(weights: &[f32], n: usize, k: usize) -> Matrix<E> {
    Matrix::pack(n, k, |rows, out| {
        out.copy_from_slice(&weights[rows.start * k..rows.end * k]);
        Ok(())
    })
    .unwrap()
}
