//! Row-major operands in the layouts that micro-kernels read, packed as they are used.

use super::{Kernel, Panels, span};
use crate::ops::simd::vectorize;
use crate::tensor::{Element, PANEL, pack_panel, panel_len};

/// Rows of an operand, or some of their columns.
#[derive(Clone, Copy)]
pub(in crate::ops) struct Source<'a, E> {
    /// From the first element of the first row on.
    pub data: &'a [E],
    /// Distance between rows.
    pub stride: usize,
    /// How many.
    pub rows: usize,
    /// Elements of a row.
    pub width: usize,
}

impl<'a, E> Source<'a, E> {
    /// What starts at an element and has this many rows and columns.
    pub fn part(&self, [row, column]: [usize; 2], [rows, width]: [usize; 2]) -> Self {
        assert!(row + rows <= self.rows && column + width <= self.width, "part of an operand");
        let start = row * self.stride + column;
        let data = if rows == 0 { &[] } else { &self.data[start..][..span(rows, self.stride, width)] };
        Self { data, rows, width, ..*self }
    }
}

impl<E: Element> Source<'_, E> {
    /// Packs the rows as outputs of a right operand, whose inputs are the columns.
    pub fn outputs<'s>(&self, kernel: Kernel<E>, scratch: &'s mut [E]) -> Panels<'s, E> {
        let (count, stride) = (self.rows.div_ceil(PANEL), panel_len::<E>(self.width));
        let scratch = &mut scratch[..count * stride];
        for (panel, first) in scratch.chunks_exact_mut(stride.max(1)).zip((0..self.rows).step_by(PANEL)) {
            let outputs = PANEL.min(self.rows - first);
            (kernel.transpose)(self.part([first, 0], [outputs, self.width]), panel);
        }
        Panels { data: scratch, count, stride, segments: 1, segment: stride / PANEL, segment_stride: 0 }
    }

    /// Packs the rows as inputs of a right operand, whose outputs are the columns.
    pub fn inputs<'s>(&self, kernel: Kernel<E>, scratch: &'s mut [E]) -> Panels<'s, E> {
        let (count, stride) = (self.width.div_ceil(PANEL), panel_len::<E>(self.rows));
        let scratch = &mut scratch[..count * stride];
        (kernel.interleave)(*self, PANEL, scratch);
        Panels { data: scratch, count, stride, segments: 1, segment: stride / PANEL, segment_stride: 0 }
    }
}

/// Distance between the groups of a panel of `lanes`, in groups: whole registers of the widest kind.
pub(super) fn pitch(lanes: usize) -> usize {
    lanes.next_multiple_of(16)
}

/// Rows are inputs: cuts their columns into panels of `lanes`, each with its inputs one after the other, in groups
/// [`pitch`] apart; zeros where there is none.
pub(super) fn interleave<E: Element>(from: Source<E>, lanes: usize, out: &mut [E]) {
    let pitch = pitch(lanes);
    let panel = from.rows.next_multiple_of(E::GROUP) * pitch;
    vectorize(
        #[inline(always)]
        || {
            for group in (0..from.rows).step_by(E::GROUP) {
                for (index, column) in (0..from.width).step_by(lanes).enumerate() {
                    let to = &mut out[index * panel + group * pitch..][..lanes * E::GROUP];
                    let count = lanes.min(from.width - column);
                    if count < lanes || group + E::GROUP > from.rows {
                        to.fill(E::from_f32(0.0));
                    }
                    for (part, row) in (group..from.rows.min(group + E::GROUP)).enumerate() {
                        let values = &from.data[row * from.stride + column..][..count];
                        to.iter_mut().skip(part).step_by(E::GROUP).zip(values).for_each(|(to, x)| *to = *x);
                    }
                }
            }
        },
    );
}

/// Rows are up to [`PANEL`] outputs: interleaves them as the columns of one panel; zeros where there is none.
pub(super) fn transpose<E: Element>(from: Source<E>, panel: &mut [E]) {
    if from.rows < PANEL || !from.width.is_multiple_of(E::GROUP) {
        panel.fill(E::from_f32(0.0));
    }
    pack_panel(from.data, from.stride, from.width, 0, panel);
}

/// Copies rows, each padded with zeros to `stride` elements.
pub(super) fn copy<E: Element>(from: Source<E>, stride: usize, out: &mut [E]) {
    for (row, to) in out.chunks_exact_mut(stride).take(from.rows).enumerate() {
        let (values, rest) = to.split_at_mut(from.width);
        values.copy_from_slice(&from.data[row * from.stride..][..from.width]);
        rest.fill(E::from_f32(0.0));
    }
}
