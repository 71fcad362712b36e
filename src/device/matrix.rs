//! Matrices on a device: row-major, rows on 16 bytes.

use std::ops::Range;

use bytemuck::Pod;

use super::{Buffer, Queue, View};
use crate::Result;
use crate::tensor::Element;

/// Rows start on a multiple of this many elements: 16 bytes in every type.
const ALIGNMENT: usize = 8;

/// Distance between rows of `width` elements.
pub fn stride(width: usize) -> usize {
    width.next_multiple_of(ALIGNMENT)
}

/// Where the index that is summed over stands in the operands of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// `a [M, K] · b [N, K]ᵀ`: inputs by weights.
    Nt,
    /// `a [M, K] · b [K, N]`: gradients of inputs.
    Nn,
    /// `a [K, M]ᵀ · b [K, N]`: gradients of weights.
    Tn,
}

impl Layout {
    /// M, N and K.
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub(crate) fn sizes<T: Copy, D: Copy>(
        self,
        a: Rows<'_, T>,
        b: Rows<'_, T>,
        out: Rows<'_, D>,
    ) -> [usize; 3] {
        let ((m, k), (n, depth)) = match self {
            Self::Nt => ((a.rows, a.width), (b.rows, b.width)),
            Self::Nn => ((a.rows, a.width), (b.width, b.rows)),
            Self::Tn => ((a.width, a.rows), (b.width, b.rows)),
        };
        assert_eq!((k, m, n), (depth, out.rows, out.width), "shapes of a product");
        [m, n, k]
    }
}

/// A matrix `[rows, width]` with rows [`stride`] apart; what lies between them is undefined.
pub struct Matrix<T> {
    buffer: Buffer<T>,
    rows: usize,
    width: usize,
}

impl<T: Pod> Matrix<T> {
    /// An undefined matrix.
    ///
    /// # Errors
    /// As [`Queue::alloc`].
    pub fn new(queue: &Queue, rows: usize, width: usize) -> Result<Self> {
        Ok(Self { buffer: queue.alloc(rows.saturating_mul(stride(width)))?, rows, width })
    }

    /// All rows.
    pub fn view(&self) -> Rows<'_, T> {
        let Self { ref buffer, rows, width } = *self;
        Rows { data: buffer.view(), rows, width, stride: stride(width) }
    }

    /// The first `rows` rows.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn first(&self, rows: usize) -> Rows<'_, T> {
        self.view().rows(0..rows)
    }
}

impl<T: Element> Matrix<T> {
    /// The matrix of row-major `values`, rounded to `T`.
    ///
    /// # Errors
    /// As [`Queue::upload`].
    ///
    /// # Panics
    /// If `values` is not whole rows.
    pub fn upload(queue: &Queue, width: usize, values: &[f32]) -> Result<Self> {
        assert!(values.len().is_multiple_of(width), "{} values in rows of {width}", values.len());
        let matrix = Self::new(queue, values.len() / width, width)?;
        matrix.view().write(queue, values)?;
        Ok(matrix)
    }
}

/// What a product adds to its outputs, in the types that kernels and libraries take it in.
#[derive(Clone, Copy)]
pub struct Bias<'a, T> {
    /// As the kernels add it.
    pub exact: View<'a, f32>,
    /// As cuBLASLt adds it to outputs of type `T`.
    pub rounded: View<'a, T>,
}

/// The memory of a [`Bias`].
pub struct BiasBuffers<T> {
    exact: Buffer<f32>,
    rounded: Buffer<T>,
}

impl<T: Element> BiasBuffers<T> {
    /// Sends both forms to a device.
    ///
    /// # Errors
    /// As [`Queue::upload`].
    pub fn upload(queue: &Queue, values: &[f32]) -> Result<Self> {
        let rounded: Vec<_> = values.iter().map(|value| T::from_f32(*value)).collect();
        Ok(Self { exact: queue.upload(values)?, rounded: queue.upload(&rounded)? })
    }

    /// All of it.
    pub fn view(&self) -> Bias<'_, T> {
        Bias { exact: self.exact.view(), rounded: self.rounded.view() }
    }
}

/// Rows of a matrix, or some of their columns.
#[derive(Clone, Copy)]
pub struct Rows<'a, T> {
    /// From the first element of the first row on.
    pub data: View<'a, T>,
    /// How many.
    pub rows: usize,
    /// Elements of a row.
    pub width: usize,
    /// Elements from a row to the next.
    pub stride: usize,
}

impl<'a, T> Rows<'a, T> {
    /// From the first element of the first row to the last of the last.
    pub(super) fn extent(&self) -> View<'a, T> {
        let Self { data, rows, width, stride } = *self;
        data.slice(0..rows.checked_sub(1).map_or(0, |last| last * stride + width))
    }

    /// Fails where a kernel would reach past the memory.
    pub(crate) fn check(&self) {
        let Self { data, rows, width, stride } = *self;
        assert!(width <= stride, "rows of {width}, {stride} apart");
        let extent = rows.saturating_sub(1).saturating_mul(stride).saturating_add(width);
        assert!(rows == 0 || data.len() >= extent, "{rows} rows in {} values", data.len());
    }

    /// Fails where a kernel would reach past the memory that moves 16 bytes at a time, up to a multiple of [`ALIGNMENT`]
    /// elements in each row.
    pub(crate) fn check_aligned(&self) {
        let stride = self.stride;
        assert!(stride.is_multiple_of(ALIGNMENT), "rows {stride} apart");
        self.check();
        Self { width: self.width.next_multiple_of(ALIGNMENT), ..*self }.check();
        assert!(self.data.address().0.is_multiple_of(16), "rows that do not start on 16 bytes");
    }
}

impl<'a, T> Rows<'a, T> {
    /// All of a view in lines of `width` elements without gaps.
    ///
    /// # Panics
    /// If it is not whole lines.
    pub fn lines(data: View<'a, T>, width: usize) -> Self {
        assert!(data.len().is_multiple_of(width), "{} elements in lines of {width}", data.len());
        Self { data, rows: data.len() / width, width, stride: width }
    }
}

impl<T: Pod> Rows<'_, T> {
    /// Some of the rows.
    ///
    /// # Panics
    /// If the range exceeds them.
    pub fn rows(&self, range: Range<usize>) -> Self {
        assert!(range.end <= self.rows, "{range:?} of {} rows", self.rows);
        let data = self.data.slice(range.start * self.stride..self.data.len());
        Self { data, rows: range.len(), ..*self }
    }

    /// Some of the columns.
    ///
    /// # Panics
    /// If the range exceeds them.
    pub fn columns(&self, range: Range<usize>) -> Self {
        assert!(range.end <= self.width, "{range:?} of {} columns", self.width);
        let data = self.data.slice(range.start.min(self.data.len())..self.data.len());
        Self { data, width: range.len(), ..*self }
    }
}

impl<T: Element> Rows<'_, T> {
    /// Fills the rows with row-major `values`, rounded to `T`.
    ///
    /// # Errors
    /// As [`Queue::write`].
    pub fn write(&self, queue: &Queue, values: &[f32]) -> Result<()> {
        let mut padded = vec![T::from_f32(0.0); values.len() / self.width * self.stride];
        for (row, values) in padded.chunks_exact_mut(self.stride).zip(values.chunks_exact(self.width)) {
            row.iter_mut().zip(values).for_each(|(to, from)| *to = T::from_f32(*from));
        }
        // What follows the last row may be something else's.
        padded.truncate(padded.len().saturating_sub(self.stride - self.width));
        queue.write(self.data, &padded)
    }

    /// Waits for all work and reads the rows, row-major.
    ///
    /// # Errors
    /// As [`Queue::download`].
    pub fn read(&self, queue: &Queue) -> Result<Vec<f32>> {
        if self.rows == 0 {
            return Ok(Vec::new());
        }
        let padded = queue.download(self.data.slice(0..(self.rows - 1) * self.stride + self.width))?;
        Ok(padded.chunks(self.stride).flat_map(|row| row[..self.width].iter().map(|x| x.to_f32())).collect())
    }
}
