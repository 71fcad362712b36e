//! The sums over rows that gradients of parameters are: by chunks, whose sums are added in order.

use rayon::prelude::*;

use super::{Norm, math};
#[cfg(kernels)]
use crate::Result;
use crate::device::View;
#[cfg(kernels)]
use crate::device::{Grid, Queue};
use crate::model::config::NormKind;
use crate::ops::elementwise::add_rows;
#[cfg(kernels)]
use crate::ops::elementwise::{add_sums, blocks};
use crate::ops::simd::vectorize;
use crate::tensor::Element;

/// Values of the longest row that a warp takes.
const WARP_ROW: usize = 512;
/// Warps of a block, where each takes a row.
const WARPS: usize = 8;
/// Values of a thread, where a block takes a row, up to [`LONGEST`].
const VALUES: usize = 16;
/// The longest row whose sums shared memory holds.
const LONGEST: usize = 8192;
/// Threads that the registers of a large GPU have room for.
const THREADS: usize = 132 * 512;
/// Fewest rows of a chunk.
const ROWS: usize = 16;

/// Where the gradients of a norm's parameters are added; those that are none are not computed.
#[derive(Clone, Copy)]
pub struct NormGradient<'a> {
    /// `[d]`
    pub weight: Option<View<'a, f32>>,
    /// `[d]`
    pub bias: Option<View<'a, f32>>,
    /// [`Norm::scratch`] values, undefined before and after.
    pub scratch: View<'a, f32>,
}

/// How rows of `d` values are cut: by the shape alone.
#[derive(Clone, Copy)]
pub(super) struct Chunks {
    pub count: usize,
    pub rows: usize,
    d: usize,
}

impl Chunks {
    pub fn new(rows: usize, d: usize) -> Self {
        let each = rows.div_ceil(most(d)).max(ROWS);
        Self { count: rows.div_ceil(each), rows: each, d }
    }
}

/// Warps of a block that takes rows of `d` values.
fn warps(d: usize) -> usize {
    if d <= WARP_ROW { WARPS } else { d.min(LONGEST).div_ceil(32 * VALUES) }
}

/// Most chunks: blocks that are on a large GPU at the same time.
fn most(d: usize) -> usize {
    THREADS / (32 * warps(d))
}

impl Norm<()> {
    /// Values of [`NormGradient::scratch`] for up to `rows` rows of `d` values; each head counts as a row.
    pub fn scratch(rows: usize, d: usize) -> usize {
        // Sums for two parameters, and a row of work for the host's loops.
        rows.div_ceil(ROWS).min(most(d)) * 3 * d
    }
}

impl<'a> NormGradient<'a> {
    /// Fails where there is too little scratch for `rows` rows of `d` values.
    pub(super) fn check(&self, rows: usize, d: usize) {
        let (len, needed) = (self.scratch.len(), Norm::scratch(rows, d));
        assert!(len >= needed, "scratch of {len} values, {needed} needed");
    }

    /// What the host's loops sum in; `slice` gives its memory.
    pub(super) fn sums<'h>(
        &self,
        chunks: Chunks,
        slice: impl Fn(View<'a, f32>) -> &'h mut [f32],
    ) -> Sums<'h> {
        let scratch = slice(self.scratch.slice(0..chunks.count * 3 * chunks.d));
        let out = [self.weight, self.bias].map(|out| out.map(|out| slice(out.slice(0..chunks.d))));
        Sums { scratch, out, d: chunks.d }
    }

    /// Rows of sums for the weight and the bias, one for each chunk; none for what nobody wants.
    #[cfg(kernels)]
    pub(super) fn partials(&self, chunks: Chunks) -> [View<'a, f32>; 2] {
        let len = chunks.count * chunks.d;
        let part = |wanted: bool, first| {
            if wanted { self.scratch.slice(first..first + len) } else { View::none() }
        };
        [part(self.weight.is_some(), 0), part(self.bias.is_some(), len)]
    }

    /// A block for each chunk, as the kernels read it from the row's length.
    #[cfg(kernels)]
    pub(super) fn grid(&self, chunks: Chunks) -> Grid {
        let (warps, wanted) = (warps(chunks.d), self.weight.iter().chain(&self.bias).count());
        let teams = if chunks.d <= WARP_ROW { warps } else { 1 };
        let sums = if chunks.d <= LONGEST { wanted * teams * chunks.d } else { 0 };
        // Three sums of each warp come first.
        let shared = ((3 * 32 + sums) * size_of::<f32>()) as u32;
        Grid { blocks: [blocks(chunks.count), 1, 1], threads: 32 * warps as u32, shared }
    }

    /// Adds the chunks' sums to the gradients.
    #[cfg(kernels)]
    pub(super) fn add(&self, queue: &Queue, chunks: Chunks) -> Result<()> {
        for (out, sums) in [self.weight, self.bias].into_iter().zip(self.partials(chunks)) {
            if let Some(out) = out {
                add_sums(queue, sums, chunks.count, out.slice(0..chunks.d))?;
            }
        }
        Ok(())
    }
}

/// The host's sums, and the gradients that they are added to.
pub(super) struct Sums<'h> {
    scratch: &'h mut [f32],
    out: [Option<&'h mut [f32]>; 2],
    d: usize,
}

/// The sums of one chunk.
pub(super) struct Work<'h> {
    dweight: Option<&'h mut [f32]>,
    dbias: Option<&'h mut [f32]>,
    /// The gradient of a row.
    row: &'h mut [f32],
}

impl Sums<'_> {
    /// Runs `f` on each chunk, in parallel, and adds up what it sums.
    pub fn each<I: IndexedParallelIterator>(self, chunks: I, f: impl Fn(&mut Work<'_>, I::Item) + Sync) {
        let Self { scratch, out, d } = self;
        let [weight, bias] = out.each_ref().map(Option::is_some);
        scratch.par_chunks_mut(3 * d).zip(chunks).for_each(|(part, chunk)| {
            part.fill(0.0);
            let (dweight, rest) = part.split_at_mut(d);
            let (dbias, row) = rest.split_at_mut(d);
            f(&mut Work { dweight: weight.then_some(dweight), dbias: bias.then_some(dbias), row }, chunk);
        });
        for (index, out) in out.into_iter().enumerate() {
            if let Some(out) = out {
                add_rows(out, scratch.chunks_exact(3 * d).map(|part| &part[index * d..][..d]));
            }
        }
    }
}

/// Rows and the distance from one to the next.
type Strided<R> = (R, usize);

impl Norm<&[f32]> {
    /// Hands `put` the gradient of each row of `x`, value by value with those of `out`.
    pub(super) fn rows_backward<X: Element, G: Element, D>(
        &self,
        ((x, x_stride), (dy, dy_stride)): (Strided<&[X]>, Strided<&[G]>),
        (out, out_stride): Strided<&mut [D]>,
        work: &mut Work<'_>,
        put: impl Fn(&mut D, f32),
    ) {
        vectorize(
            #[inline(always)]
            || {
                let inputs = x.chunks(x_stride).zip(dy.chunks(dy_stride));
                for (out, (x, dy)) in out.chunks_mut(out_stride).zip(inputs) {
                    let d = work.row.len();
                    self.row_backward(&x[..d], &dy[..d], work);
                    for (out, back) in out.iter_mut().zip(&*work.row) {
                        put(out, *back);
                    }
                }
            },
        );
    }

    /// The same for heads of `d` values, in place.
    pub(super) fn heads_backward<E: Element>(&self, x: &[E], dy: &mut [E], d: usize, work: &mut Work<'_>) {
        vectorize(
            #[inline(always)]
            || {
                for (x, dy) in x.chunks_exact(d).zip(dy.chunks_exact_mut(d)) {
                    self.row_backward(x, dy, work);
                    for (dy, back) in dy.iter_mut().zip(&*work.row) {
                        *dy = E::from_f32(*back);
                    }
                }
            },
        );
    }

    /// Leaves the gradient of `x` in `work.row`.
    #[inline(always)]
    fn row_backward<X: Element, G: Element>(&self, x: &[X], dy: &[G], work: &mut Work<'_>) {
        let moments = self.moments(x);
        if let Some(dweight) = &mut work.dweight {
            for ((sum, x), dy) in dweight.iter_mut().zip(x).zip(dy) {
                *sum += dy.to_f32() * normal(x, moments);
            }
        }
        if let Some(dbias) = &mut work.dbias {
            for (sum, dy) in dbias.iter_mut().zip(dy) {
                *sum += dy.to_f32();
            }
        }
        self.each(
            work.row.iter_mut().zip(dy),
            #[inline(always)]
            |(g, dy), weight, _| *g = dy.to_f32() * weight,
        );
        let share = 1.0 / x.len() as f32;
        let along = math::sum_pairs(work.row, x, |g, x| g * normal(&x, moments)) * share;
        let level = match self.kind {
            NormKind::Layer => math::sum(work.row, |g| g) * share,
            NormKind::Rms => 0.0,
        };
        for (g, x) in work.row.iter_mut().zip(x) {
            *g = moments.1 * (*g - level - normal(x, moments) * along);
        }
    }
}

/// `n` of the formula, given the mean and rstd.
#[inline(always)]
fn normal<X: Element>(x: &X, (shift, rstd): (f32, f32)) -> f32 {
    (x.to_f32() - shift) * rstd
}
