//! Norms backward on a device: gradients of their inputs row by row, those of their parameters by chunks of rows, whose
//! sums are added in order.

use std::ops::Range;

use rayon::prelude::*;

use super::Norm;
use super::chunks::{Chunks, NormGradient};
use crate::Result;
use crate::device::kernels::Kernels;
use crate::device::{Access, Arm, Queue, Rows, View};
#[cfg(kernels)]
use crate::model::config::NormKind;
use crate::tensor::Element;

impl Norm<View<'_, f32>> {
    /// `dx +=` the gradient of `x`, given `dy`, that of the outputs of [`Norm::forward_on`] for all rows.
    ///
    /// # Errors
    /// What went wrong on the device before.
    ///
    /// # Panics
    /// If the shapes differ, there is too little scratch, or rows do not start on 16 bytes.
    pub fn backward_on<E: Kernels>(
        &self,
        queue: &Queue,
        x: Rows<'_, f32>,
        dy: Rows<'_, E>,
        dx: Rows<'_, f32>,
        gradient: NormGradient<'_>,
    ) -> Result<()> {
        let (rows, d) = check(x, dy, dx);
        self.check(d);
        gradient.check(rows, d);
        match queue.arm() {
            Arm::Host(host) => {
                self.backward_on_host(&host, x, dy, dx, gradient, |dx, back| *dx += back);
                Ok(())
            }
            #[cfg(kernels)]
            Arm::Kernels => {
                let launch = match self.kind {
                    NormKind::Layer => E::layer_norm_backward,
                    NormKind::Rms => E::rms_norm_backward,
                };
                let chunks = Chunks::new(rows, d);
                let (weight, [dweight, dbias]) = (self.views().0, gradient.partials(chunks));
                let (grid, each) = (gradient.grid(chunks), chunks.rows);
                launch(
                    queue, grid, dx.data, x.data, dy.data, weight, dweight, dbias, rows, each, d, x.stride,
                    dy.stride, dx.stride, self.eps,
                )?;
                gradient.add(queue, chunks)
            }
        }
    }

    /// `dy =` the gradient of `y`, given `dx`, that of the sum that [`Norm::add_on`] gave.
    ///
    /// # Errors
    /// What went wrong on the device before.
    ///
    /// # Panics
    /// As [`Norm::backward_on`].
    pub fn add_backward_on<E: Kernels>(
        &self,
        queue: &Queue,
        y: Rows<'_, f32>,
        dx: Rows<'_, f32>,
        dy: Rows<'_, E>,
        gradient: NormGradient<'_>,
    ) -> Result<()> {
        let (rows, d) = check(y, dx, dy);
        self.check(d);
        gradient.check(rows, d);
        match queue.arm() {
            Arm::Host(host) => {
                self.backward_on_host(&host, y, dx, dy, gradient, |dy, back| *dy = E::from_f32(back));
                Ok(())
            }
            #[cfg(kernels)]
            Arm::Kernels => {
                let launch = match self.kind {
                    NormKind::Layer => E::layer_norm_add_backward,
                    NormKind::Rms => E::rms_norm_add_backward,
                };
                let chunks = Chunks::new(rows, d);
                let (weight, [dweight, dbias]) = (self.views().0, gradient.partials(chunks));
                let (grid, each) = (gradient.grid(chunks), chunks.rows);
                launch(
                    queue, grid, dy.data, y.data, dx.data, weight, dweight, dbias, rows, each, d, y.stride,
                    dx.stride, dy.stride, self.eps,
                )?;
                gradient.add(queue, chunks)
            }
        }
    }

    /// Hands `put` the gradient of each value of `x`, with that of `out` in its place.
    fn backward_on_host<G: Element, D: Element>(
        &self,
        host: &Access<'_>,
        x: Rows<'_, f32>,
        dy: Rows<'_, G>,
        out: Rows<'_, D>,
        gradient: NormGradient<'_>,
        put: impl Fn(&mut D, f32) + Copy + Sync,
    ) {
        let chunks = Chunks::new(x.rows, x.width);
        let norm = self.map(|view| host.slice(view));
        let sums = gradient.sums(chunks, |view| host.slice_mut(view));
        let (from, given, to) = (host.read(x), host.read(dy), host.write(out));
        let inputs = from.par_chunks(chunks.rows * x.stride);
        let inputs = inputs.zip(given.par_chunks(chunks.rows * dy.stride));
        let steps = to.par_chunks_mut(chunks.rows * out.stride).zip(inputs);
        sums.each(steps, |work, (to, (from, given))| {
            let inputs = ((from, x.stride), (given, dy.stride));
            norm.rows_backward(inputs, (to, out.stride), work, put);
        });
    }

    /// Within the `columns` of `dy`, in place: the gradient of each head of `d` values of `x`, as they were before
    /// [`Norm::heads_on`], given that of its outputs.
    ///
    /// # Errors
    /// What went wrong on the device before.
    ///
    /// # Panics
    /// As [`Norm::backward_on`], or if the columns are not whole heads within the rows.
    pub fn heads_backward_on<E: Kernels>(
        &self,
        queue: &Queue,
        x: Rows<'_, E>,
        dy: Rows<'_, E>,
        columns: Range<usize>,
        d: usize,
        gradient: NormGradient<'_>,
    ) -> Result<()> {
        let (tokens, width) = check(x, x, dy);
        assert!(columns.end <= width && columns.len().is_multiple_of(d), "{columns:?} in groups of {d}");
        self.check(d);
        let groups = columns.len() / d;
        gradient.check(tokens * groups, d);
        match queue.arm() {
            Arm::Host(host) => {
                self.heads_backward_on_host(&host, (x, dy), columns, d, gradient);
                Ok(())
            }
            #[cfg(kernels)]
            Arm::Kernels => {
                let chunks = Chunks::new(tokens * groups, d);
                let launch = match self.kind {
                    NormKind::Layer => E::layer_norm_heads_backward,
                    NormKind::Rms => E::rms_norm_heads_backward,
                };
                let (weight, [dweight, dbias]) = (self.views().0, gradient.partials(chunks));
                let (grid, each, first) = (gradient.grid(chunks), chunks.rows, columns.start);
                launch(
                    queue, grid, dy.data, x.data, weight, dweight, dbias, tokens, groups, each, d, first,
                    x.stride, dy.stride, self.eps,
                )?;
                gradient.add(queue, chunks)
            }
        }
    }

    fn heads_backward_on_host<E: Element>(
        &self,
        host: &Access<'_>,
        (x, dy): (Rows<'_, E>, Rows<'_, E>),
        columns: Range<usize>,
        d: usize,
        gradient: NormGradient<'_>,
    ) {
        let chunks = Chunks::new(x.rows, d);
        let norm = self.map(|view| host.slice(view));
        let sums = gradient.sums(chunks, |view| host.slice_mut(view));
        let (from, to) = (host.read(x), host.write(dy));
        let steps = to.par_chunks_mut(chunks.rows * dy.stride);
        sums.each(steps.zip(from.par_chunks(chunks.rows * x.stride)), |work, (to, from)| {
            for (dy, x) in to.chunks_mut(dy.stride).zip(from.chunks(x.stride)) {
                norm.heads_backward(&x[columns.clone()], &mut dy[columns.clone()], d, work);
            }
        });
    }
}

/// The shape of three matrices.
fn check<X, Y, Z>(x: Rows<'_, X>, y: Rows<'_, Y>, z: Rows<'_, Z>) -> (usize, usize) {
    let shape = (x.rows, x.width);
    assert_eq!([(y.rows, y.width), (z.rows, z.width)], [shape; 2], "shapes of a norm");
    x.check_aligned();
    y.check_aligned();
    z.check_aligned();
    shape
}
