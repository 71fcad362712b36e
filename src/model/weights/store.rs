//! Where weights go: packed for the CPU's products, or row-major onto a device.

use std::ops::Range;

use crate::Result;
use crate::tensor::{self, Element};

/// A layout of weights in memory.
pub trait Store<E> {
    /// A matrix `[n, k]` of `E`.
    type Matrix;
    /// Values in f32.
    type Vector;
    /// What a product adds to its outputs.
    type Bias;

    /// Stores `[n, k]`: `read(rows, out)` fills `out` (row-major, `rows.len() × k`) with some of the rows, in parallel.
    ///
    /// # Errors
    /// Those of `read`; no room.
    fn matrix(
        &self,
        n: usize,
        k: usize,
        read: impl Fn(Range<usize>, &mut [f32]) -> Result<()> + Sync,
    ) -> Result<Self::Matrix>;

    /// Stores rows of `width` values.
    ///
    /// # Errors
    /// No room.
    fn rows(&self, width: usize, values: Vec<f32>) -> Result<Self::Vector>;

    /// Stores the summands of a product's outputs.
    ///
    /// # Errors
    /// As [`Store::rows`].
    fn bias(&self, values: Vec<f32>) -> Result<Self::Bias>;

    /// Stores one row.
    ///
    /// # Errors
    /// As [`Store::rows`].
    fn vector(&self, values: Vec<f32>) -> Result<Self::Vector> {
        self.rows(values.len(), values)
    }
}

/// In panels, as the CPU's products read them.
pub struct Packed;

impl<E: Element> Store<E> for Packed {
    type Matrix = tensor::Matrix<E>;
    type Vector = Vec<f32>;
    type Bias = Vec<f32>;

    fn matrix(
        &self,
        n: usize,
        k: usize,
        read: impl Fn(Range<usize>, &mut [f32]) -> Result<()> + Sync,
    ) -> Result<Self::Matrix> {
        tensor::Matrix::pack(n, k, read)
    }

    fn rows(&self, _: usize, values: Vec<f32>) -> Result<Vec<f32>> {
        Ok(values)
    }

    fn bias(&self, values: Vec<f32>) -> Result<Vec<f32>> {
        Ok(values)
    }
}

/// Row-major, rows [`crate::device::stride`] apart.
#[cfg(kernels)]
mod device {
    use std::ops::Range;

    use rayon::prelude::*;

    use super::Store;
    use crate::Result;
    use crate::device::{BiasBuffers, Buffer, Matrix, Queue, stride};
    use crate::tensor::{Element, round};

    /// Bytes that are read and sent at a time.
    const CHUNK_BYTES: usize = 64 << 20;
    /// Rows that one thread reads at a time.
    const BLOCK: usize = 32;

    impl<E: Element> Store<E> for Queue {
        type Matrix = Matrix<E>;
        type Vector = Buffer<f32>;
        type Bias = BiasBuffers<E>;

        fn matrix(
            &self,
            n: usize,
            k: usize,
            read: impl Fn(Range<usize>, &mut [f32]) -> Result<()> + Sync,
        ) -> Result<Matrix<E>> {
            let matrix = Matrix::new(self, n, k)?;
            let pitch = stride(k);
            let chunk = (CHUNK_BYTES / (pitch * size_of::<E>())).clamp(1, n.max(1));
            let mut staged = vec![E::from_f32(0.0); chunk * pitch];
            for first in (0..n).step_by(chunk) {
                let rows = chunk.min(n - first);
                let staged = &mut staged[..rows * pitch];
                staged.par_chunks_mut(BLOCK * pitch).enumerate().try_for_each_init(
                    || vec![0.0; BLOCK * k],
                    |values, (block, staged)| {
                        let start = first + block * BLOCK;
                        let values = &mut values[..staged.len() / pitch * k];
                        read(start..start + staged.len() / pitch, values)?;
                        let rows = staged.chunks_exact_mut(pitch).zip(values.chunks_exact(k));
                        rows.for_each(|(to, from)| round(from, to));
                        Ok(())
                    },
                )?;
                self.write(matrix.view().rows(first..first + rows).data, staged)?;
            }
            Ok(matrix)
        }

        fn rows(&self, width: usize, values: Vec<f32>) -> Result<Buffer<f32>> {
            let pitch = stride(width);
            let mut padded = vec![0.0; values.len() / width * pitch];
            for (to, from) in padded.chunks_exact_mut(pitch).zip(values.chunks_exact(width)) {
                to[..width].copy_from_slice(from);
            }
            self.upload(&padded)
        }

        fn bias(&self, values: Vec<f32>) -> Result<BiasBuffers<E>> {
            BiasBuffers::upload(self, &values)
        }
    }
}
