//! The storage types: rounding, and matrices in panels.

use half::bf16;
use toedit::tensor::{Buffer, Element, PANEL, panel_len};

use crate::common::{samples, tolerance};

/// Every bf16, and every place between it and the next: just above, just below and at the middle.
#[test]
fn rounding_to_bf16_is_to_the_nearest_even() {
    for high in 0..=u16::MAX {
        for low in [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
            let value = f32::from_bits(u32::from(high) << 16 | low);
            let (ours, theirs) = (<bf16 as Element>::from_f32(value), bf16::from_f32(value));
            assert_eq!(ours.to_bits(), theirs.to_bits(), "{value}");
            assert_eq!(Element::to_f32(ours).to_bits(), theirs.to_f32().to_bits(), "{value}");
        }
    }
}

/// Rows come back bit for bit, and what lies past the matrix is zero.
fn round_trip<E: Element>(n: usize, k: usize) {
    let weights: Vec<f32> = samples::values::<E>(n as u32, n * k).iter().map(|x| x + x.signum()).collect();
    let matrix = samples::matrix::<E>(&weights, n, k);
    let mut row = vec![f32::NAN; k];
    for (index, weights) in weights.chunks_exact(k).enumerate() {
        matrix.row(index, &mut row);
        let rounded: Vec<f32> = samples::elements::<E>(weights).into_iter().map(E::to_f32).collect();
        tolerance::assert_same_bits("row", &row, &rounded);
    }
    assert_eq!(matrix.panels().len(), n.div_ceil(PANEL) * panel_len::<E>(k));
    let filled = matrix.panels().iter().filter(|weight| weight.to_f32() != 0.0).count();
    assert_eq!(filled, n * k, "{} {n} × {k}: padding", E::NAME);
}

#[test]
fn a_matrix_gives_back_its_rows() {
    for n in [1, 31, 32, 33, 65] {
        for k in [1, 2, 3, 64, 577] {
            round_trip::<f32>(n, k);
            round_trip::<bf16>(n, k);
        }
    }
}

#[test]
fn buffers_are_zero_and_start_on_a_cache_line() {
    for len in [0, 1, 15, 16, 17, 1000] {
        let mut buffer = Buffer::<f32>::zeroed(len);
        assert!(buffer.len() == len && buffer.iter().all(|x| *x == 0.0));
        assert_eq!(buffer.as_ptr().addr() % 64, 0);
        buffer.fill(1.0);
        assert!(buffer.iter().all(|x| *x == 1.0));
    }
}
