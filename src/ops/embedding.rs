//! Embedding: `x[t] = weight[ids[t]] (+ position[p[t]])`.

#[cfg(kernels)]
use super::elementwise::block_per_row;
#[cfg(kernels)]
use crate::Result;
#[cfg(kernels)]
use crate::device::{Buffer, Queue, Rows, View, kernels::Kernels, stride};
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

/// The same on a device, with rows of learned positions [`stride`] apart. An id or a position outside its table gives a
/// row of NaN.
///
/// # Errors
/// What went wrong on the device before.
///
/// # Panics
/// If widths or numbers of rows differ.
#[cfg(kernels)]
pub fn embed_on<E: Kernels>(
    queue: &Queue,
    weight: Rows<'_, E>,
    learned: Option<&Buffer<f32>>,
    ids: View<'_, u32>,
    positions: View<'_, u32>,
    x: Rows<'_, f32>,
) -> Result<()> {
    let (d, pitch) = (weight.width, stride(weight.width));
    assert_eq!((ids.len(), positions.len(), d), (x.rows, x.rows, x.width), "shapes of an embedding");
    weight.check();
    x.check();
    let places = learned.map_or(0, |learned| learned.len() / pitch);
    E::embedding_forward(
        queue,
        block_per_row(x.rows, d.div_ceil(4)),
        x.data,
        weight.data,
        learned.into(),
        ids,
        positions,
        d,
        weight.rows,
        places,
        x.stride,
        weight.stride,
        pitch,
    )
}
