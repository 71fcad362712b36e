//! What the head gives on devices alone: masses for the samplers, and logits of chosen rows in chosen tiles.

use half::bf16;
use toedit::device::{Queue, View};
use toedit::ops::head::{Chosen, TILE, logits_on};

use crate::common::arms::{self, Arm, Scalar};
use crate::common::oracle::Expected;
use crate::common::tolerance;
use crate::head::Case;

const VOCABULARY: usize = 700;
const ROWS: usize = 150;

/// `Σ e^{(l − max)/T}` over a tile without the target, of the very logits that the head saw.
fn masses<E: Scalar>(queue: &Queue, temperature: Option<f32>) {
    let case = Case::<E>::random(1, ROWS, VOCABULARY, 40);
    let scores = case.on(queue, temperature).scores;
    let found = queue.download(scores.masses(ROWS)).unwrap();
    let maxima = queue.download(scores.maxima(ROWS)).unwrap();
    let logits = case.logits(&Arm::Device(queue.clone()));
    let inverse = 1.0 / f64::from(temperature.unwrap_or(1.0));
    for (row, (logits, target)) in logits.chunks_exact(VOCABULARY).zip(&case.targets).enumerate() {
        for (tile, columns) in logits.chunks(TILE).enumerate() {
            let others =
                || (tile * TILE..).zip(columns).filter(|(id, _)| *id != *target as usize).map(|(_, l)| *l);
            let max = others().fold(f32::NEG_INFINITY, f32::max);
            let value: f64 = others().map(|l| ((f64::from(l) - f64::from(max)) * inverse).exp()).sum();
            let at = row * scores.tiles() + tile;
            assert_eq!(maxima[at], max, "row {row}, tile {tile}");
            let expected = [Expected { value, scale: value }];
            tolerance::assert_within("mass", [found[at]], &expected, tolerance::sum(TILE));
        }
    }
}

#[test]
fn masses_are_those_of_the_logits() {
    for queue in arms::devices() {
        for temperature in [None, Some(1.5), Some(0.3)] {
            masses::<f32>(&queue, temperature);
            masses::<bf16>(&queue, temperature);
        }
    }
}

/// A tile that nobody wants, one that all want (more than a block's rows), one that some want.
fn wants(row: usize, tile: usize) -> bool {
    tile == 1 || tile == 2 && row.is_multiple_of(3)
}

/// Chosen tiles have the bits of whole rows; what nobody wants is not written.
fn chosen_tiles<E: Scalar>(queue: &Queue) {
    let case = Case::<E>::random(2, ROWS + 10, VOCABULARY, 40);
    let whole = case.logits(&Arm::Device(queue.clone()));
    let on = case.on(queue, None);
    let (slots, tiles) = (2, VOCABULARY.div_ceil(TILE));
    // Rows in an order of their own.
    let rows: Vec<u32> = (0..ROWS as u32).map(|index| (index * 7 + 3) % (ROWS as u32 + 10)).collect();
    let (mut pairs, mut counts) = (vec![u32::MAX; tiles * ROWS], vec![0u32; tiles]);
    let mut places = vec![None; ROWS * slots];
    for index in 0..ROWS {
        for (place, tile) in (0..tiles).filter(|tile| wants(index, *tile)).enumerate() {
            pairs[tile * ROWS + counts[tile] as usize] = (index * slots + place) as u32;
            counts[tile] += 1;
            places[index * slots + place] = Some((rows[index] as usize, tile));
        }
    }
    let [indices, pairs, counts] = [&rows, &pairs, &counts].map(|values| queue.upload(values).unwrap());
    let out = queue.alloc::<f32>(ROWS * slots * TILE).unwrap();
    queue.fill(out.view(), 0xFF).unwrap();
    let chosen = Chosen { rows: indices.view(), pairs: pairs.view(), counts: counts.view(), slots };
    logits_on(queue, on.hidden.view(), on.weight.view(), chosen, out.view()).unwrap();
    for (logits, place) in queue.download(out.view()).unwrap().chunks_exact(TILE).zip(places) {
        let Some((row, tile)) = place else {
            assert!(logits.iter().all(|l| l.is_nan()), "written where nobody wanted it");
            continue;
        };
        let columns = TILE.min(VOCABULARY - tile * TILE);
        let expected = &whole[row * VOCABULARY + tile * TILE..][..columns];
        tolerance::assert_same_bits("logits", &logits[..columns], expected);
        assert!(logits[columns..].iter().all(|l| *l == f32::NEG_INFINITY), "past the vocabulary");
    }
}

#[test]
fn chosen_tiles_have_the_bits_of_whole_rows() {
    for queue in arms::devices() {
        chosen_tiles::<f32>(&queue);
        chosen_tiles::<bf16>(&queue);
    }
}

/// Only the rows that the device counts are computed.
#[test]
fn rows_past_the_count_are_left_alone() {
    for queue in arms::devices() {
        let case = Case::<f32>::random(3, 5, 300, 9);
        let on = case.on(&queue, None);
        let rows = queue.upload(&[4u32, 1, 0, 0]).unwrap();
        let counts = queue.upload(&[2u32]).unwrap();
        let out = queue.alloc::<f32>(4 * 2 * TILE).unwrap();
        queue.fill(out.view(), 0xFF).unwrap();
        let chosen = Chosen { rows: rows.view(), pairs: View::none(), counts: counts.view(), slots: 2 };
        logits_on(&queue, on.hidden.view(), on.weight.view(), chosen, out.view()).unwrap();
        let (out, whole) = (queue.download(out.view()).unwrap(), case.logits(&Arm::Device(queue.clone())));
        for (logits, row) in out.chunks_exact(2 * TILE).zip([4, 1]) {
            tolerance::assert_same_bits("logits", &logits[..300], &whole[row * 300..][..300]);
        }
        assert!(out[4 * TILE..].iter().all(|l| l.is_nan()));
    }
}
