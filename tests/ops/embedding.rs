//! Rows of the embedding table.

use half::bf16;
use toedit::ops::embedding::embed;
use toedit::tensor::Element;

use crate::common::{samples, tolerance};

/// Looks tokens up and compares bits: copies and one addition are exact to the last bit.
fn check<E: Element>(vocabulary: usize, d: usize, learned: bool) {
    let table = samples::values::<E>(vocabulary as u32, vocabulary * d);
    let positions_table = samples::values::<f32>(9, 16 * d);
    let mut ids = samples::ids(d as u32, 40, vocabulary);
    ids.extend([0, vocabulary as u32 - 1]);
    let positions = samples::ids(3, ids.len(), 16);
    let mut x = vec![f32::NAN; ids.len() * d];
    let weight = samples::matrix::<E>(&table, vocabulary, d);
    embed(&weight, learned.then_some(&positions_table[..]), &ids, &positions, &mut x);
    for ((x, id), position) in x.chunks_exact(d).zip(&ids).zip(&positions) {
        let mut row = table[*id as usize * d..][..d].to_vec();
        if learned {
            let at = &positions_table[*position as usize * d..][..d];
            row.iter_mut().zip(at).for_each(|(x, p)| *x += p);
        }
        tolerance::assert_same_bits(&format!("{} {vocabulary} × {d}", E::NAME), x, &row);
    }
}

#[test]
fn every_shape_is_the_table() {
    for vocabulary in [1, 2, 31, 32, 33, 255, 256, 257, 50_257] {
        for d in [1, 2, 7, 33] {
            for learned in [false, true] {
                check::<f32>(vocabulary, d, learned);
                check::<bf16>(vocabulary, d, learned);
            }
        }
    }
}

/// Ids between the vocabulary and the next whole panel must not read the padding.
#[test]
#[should_panic]
fn an_id_past_the_vocabulary_panics() {
    let weight = samples::matrix::<f32>(&[1.0; 33], 33, 1);
    embed(&weight, None, &[33], &[0], &mut [0.0]);
}

#[test]
#[should_panic]
fn a_position_past_the_table_panics() {
    let weight = samples::matrix::<f32>(&[1.0; 4], 4, 1);
    embed(&weight, Some(&[0.5; 8]), &[3], &[8], &mut [0.0]);
}
