//! Embedding: `x[t] = weight[ids[t]] (+ position[p[t]])`.

use rayon::prelude::*;

use super::elementwise::{BLOCK, add_rows};
#[cfg(kernels)]
use super::elementwise::{block_per_row, blocks, lanes};
use crate::Result;
#[cfg(kernels)]
use crate::device::Grid;
use crate::device::kernels::Kernels;
#[cfg(kernels)]
use crate::device::kernels::embedding_backward;
use crate::device::{Access, Arm, Buffer, Queue, Rows, View};
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

/// The same on a device. An id or a position outside its table gives a row of NaN.
///
/// # Errors
/// What went wrong on the device before.
///
/// # Panics
/// If widths or numbers of rows differ.
pub fn embed_on<E: Kernels>(
    queue: &Queue,
    weight: Rows<'_, E>,
    learned: Option<Rows<'_, f32>>,
    ids: View<'_, u32>,
    positions: View<'_, u32>,
    x: Rows<'_, f32>,
) -> Result<()> {
    let d = weight.width;
    assert_eq!((ids.len(), positions.len(), d), (x.rows, x.rows, x.width), "shapes of an embedding");
    weight.check();
    x.check();
    if let Some(learned) = learned {
        assert_eq!(learned.width, d, "learned positions");
        learned.check();
    }
    match queue.arm() {
        Arm::Host(host) => {
            embed_on_host(&host, weight, learned, [ids, positions], x);
            Ok(())
        }
        #[cfg(kernels)]
        Arm::Kernels => {
            let place = learned.unwrap_or(Rows { data: View::none(), rows: 0, width: d, stride: d });
            let grid = block_per_row(x.rows, d.div_ceil(4));
            let (table, rows, strides) = (weight.data, weight.rows, [x.stride, weight.stride, place.stride]);
            E::embedding_forward(
                queue, grid, x.data, table, place.data, ids, positions, d, rows, place.rows, strides[0],
                strides[1], strides[2],
            )
        }
    }
}

fn embed_on_host<E: Element>(
    host: &Access<'_>,
    weight: Rows<'_, E>,
    learned: Option<Rows<'_, f32>>,
    [ids, positions]: [View<'_, u32>; 2],
    x: Rows<'_, f32>,
) {
    let d = weight.width;
    let (table, ids, positions) = (host.read(weight), host.slice(ids), host.slice(positions));
    let learned = learned.map(|learned| (host.read(learned), learned.stride));
    host.write(x).par_chunks_mut(BLOCK * x.stride).enumerate().for_each(|(block, rows)| {
        for (t, x) in (block * BLOCK..).zip(rows.chunks_mut(x.stride)) {
            let place = learned.map(|(rows, stride)| row(rows, positions[t], stride, d));
            sum_row(row(table, ids[t], weight.stride, d), place, &mut x[..d]);
        }
    });
}

/// A row of a table, if it has that.
fn row<E>(table: &[E], index: u32, stride: usize, d: usize) -> Option<&[E]> {
    let first = index as usize * stride;
    table.get(first..first + d)
}

/// The sum of a token's row and, where positions are learned, its position's; NaN where its table lacks either.
fn sum_row<E: Element>(token: Option<&[E]>, place: Option<Option<&[f32]>>, x: &mut [f32]) {
    match (token, place) {
        (Some(token), None) => x.iter_mut().zip(token).for_each(|(x, token)| *x = token.to_f32()),
        (Some(token), Some(Some(place))) => {
            let sum = x.iter_mut().zip(token).zip(place);
            sum.for_each(|((x, token), place)| *x = token.to_f32() + place);
        }
        _ => x.fill(f32::NAN),
    }
}

/// The rows of a pack sorted by their ids, on a device: those of one id are added up by one thread or block.
pub struct Runs {
    /// [`RUN`] words for each id, ascending: itself, where its run begins in `order`, and the run's length.
    runs: Buffer<u32>,
    /// Rows by id, those of an id ascending.
    order: Buffer<u32>,
    count: usize,
    rows: usize,
}

/// Words of a run.
const RUN: usize = 3;

impl Runs {
    /// Room for up to `tokens` rows, none of them yet.
    ///
    /// # Errors
    /// As [`Queue::alloc`].
    pub fn new(queue: &Queue, tokens: usize) -> Result<Self> {
        let runs = queue.alloc(tokens.saturating_mul(RUN))?;
        Ok(Self { runs, order: queue.alloc(tokens)?, count: 0, rows: 0 })
    }

    /// Replaces them by the rows that have these ids.
    ///
    /// # Errors
    /// As [`Queue::write`].
    ///
    /// # Panics
    /// If there is no room for as many.
    pub fn write(&mut self, queue: &Queue, ids: &[u32]) -> Result<()> {
        let mut order: Vec<u32> = (0..ids.len() as u32).collect();
        let id = |row: &u32| ids[*row as usize];
        order.sort_by_key(id);
        let mut first = 0;
        let run = |rows: &[u32]| {
            let run = [id(&rows[0]), first, rows.len() as u32];
            first += run[2];
            run
        };
        let runs: Vec<[u32; RUN]> = order.chunk_by(|a, b| id(a) == id(b)).map(run).collect();
        queue.write(self.runs.view(), runs.as_flattened())?;
        queue.write(self.order.view(), &order)?;
        self.count = runs.len();
        self.rows = ids.len();
        Ok(())
    }

    /// Adds each run's rows of `dx` to its id's row of `dweight`.
    fn add_on_host(&self, host: &Access<'_>, dx: Rows<'_, f32>, dweight: Rows<'_, f32>) {
        let (d, stride) = (dx.width, dweight.stride);
        let list = host.slice(self.runs.view().slice(0..self.count * RUN));
        let (order, from) = (host.slice(self.order.view()), host.read(dx));
        let (list, _) = list.as_chunks::<RUN>();
        host.write(dweight).par_chunks_mut(BLOCK * stride).enumerate().for_each(|(block, table)| {
            let first = block * BLOCK;
            let start = list.partition_point(|[id, ..]| (*id as usize) < first);
            for [id, begin, len] in list[start..].iter().map(|run| run.map(|word| word as usize)) {
                let Some(out) = table.get_mut((id - first) * stride..) else { break };
                let Some(out) = out.get_mut(..d) else { break };
                let rows = order[begin..begin + len].iter();
                add_rows(out, rows.map(|t| &from[*t as usize * dx.stride..][..d]));
            }
        });
    }
}

/// `dweight[id] += Σ dx[t]` over the rows t that have the id, in order; ids outside the table have no gradient. With
/// positions in the ids' place, the same for learned positions.
///
/// # Errors
/// What went wrong on the device before.
///
/// # Panics
/// If the widths differ, or `runs` has another number of rows.
pub fn embed_backward_on(
    queue: &Queue,
    runs: &Runs,
    dx: Rows<'_, f32>,
    dweight: Rows<'_, f32>,
) -> Result<()> {
    let d = dx.width;
    assert_eq!((runs.rows, d), (dx.rows, dweight.width), "shapes of an embedding");
    dx.check();
    dweight.check();
    match queue.arm() {
        Arm::Host(host) => {
            runs.add_on_host(&host, dx, dweight);
            Ok(())
        }
        #[cfg(kernels)]
        Arm::Kernels => {
            const WARPS: usize = 4;
            let strip = 32 * lanes::<f32>();
            let shared = (WARPS * strip * size_of::<f32>()) as u32;
            let grid = [blocks(runs.count), blocks(d.div_ceil(strip)), 1];
            let grid = Grid { blocks: grid, threads: 32 * WARPS as u32, shared };
            let (list, order) = (runs.runs.view(), runs.order.view());
            let Rows { data: table, rows, stride, .. } = dweight;
            embedding_backward(queue, grid, table, dx.data, list, order, d, rows, dx.stride, stride)
        }
    }
}
