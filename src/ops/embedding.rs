//! Embedding: `x[t] = weight[ids[t]] (+ position[p[t]])`.

use crate::tensor::{Element, Matrix};

/// Fills `x` (`ids.len()` rows of `weight.k()`) with the tokens' rows, plus those of their positions where the model
/// learned them (`[max_position, d]`, row-major).
///
/// # Panics
/// If an id or a position lies outside its table: callers check ids first.
pub fn embed<E: Element>(
    weight: &Matrix<E>,
    learned: Option<&[f32]>,
    ids: &[u32],
    positions: &[u32],
    x: &mut [f32],
) {
    let d = weight.k();
    for ((x, id), position) in x.chunks_exact_mut(d).zip(ids).zip(positions) {
        weight.row(*id as usize, x);
        if let Some(learned) = learned {
            let row = &learned[*position as usize * d..][..d];
            x.iter_mut().zip(row).for_each(|(x, p)| *x += p);
        }
    }
}
