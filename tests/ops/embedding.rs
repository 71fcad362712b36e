//! Rows of the embedding table.

use half::bf16;
use toedit::ops::embedding::embed;
#[cfg(kernels)]
use toedit::ops::embedding::embed_on;

use crate::common::arms::{self, Arm, Scalar};
use crate::common::{samples, tolerance};

/// A vocabulary's rows of `d` values, and those of learned positions.
struct Tables {
    d: usize,
    tokens: Vec<f32>,
    learned: Option<Vec<f32>>,
}

impl Tables {
    fn new<E: Scalar>(vocabulary: usize, d: usize, learned: bool) -> Self {
        let tokens = samples::values::<E>(vocabulary as u32, vocabulary * d);
        Self { d, tokens, learned: learned.then(|| samples::values::<f32>(9, 16 * d)) }
    }

    fn embed<E: Scalar>(&self, arm: &Arm, ids: &[u32], positions: &[u32]) -> Vec<f32> {
        let Self { d, ref tokens, ref learned } = *self;
        match arm {
            Arm::Cpu => {
                let weight = samples::matrix::<E>(tokens, tokens.len() / d, d);
                let mut x = vec![f32::NAN; ids.len() * d];
                embed(&weight, learned.as_deref(), ids, positions, &mut x);
                x
            }
            #[cfg(kernels)]
            Arm::Device(queue) => {
                let weight = arms::upload::<E>(queue, d, tokens);
                let padded = learned.as_ref().map(|learned| arms::padded::<f32>(d, learned));
                let learned = padded.map(|padded| queue.upload(&padded).unwrap());
                let (ids, positions) = (queue.upload(ids).unwrap(), queue.upload(positions).unwrap());
                let x = arms::output(queue, ids.len(), d);
                let (weight, learned) = (weight.view(), learned.as_ref());
                embed_on(queue, weight, learned, ids.view(), positions.view(), x.view()).unwrap();
                arms::read(queue, &x)
            }
        }
    }
}

/// Looks tokens up and compares bits: copies and one addition are exact to the last bit.
fn check<E: Scalar>(arm: &Arm, vocabulary: usize, d: usize, learned: bool) {
    let tables = Tables::new::<E>(vocabulary, d, learned);
    let mut ids = samples::ids(d as u32, 40, vocabulary);
    ids.extend([0, vocabulary as u32 - 1]);
    let positions = samples::ids(3, ids.len(), 16);
    let x = tables.embed::<E>(arm, &ids, &positions);
    for ((x, id), position) in x.chunks_exact(d).zip(&ids).zip(&positions) {
        let mut row = tables.tokens[*id as usize * d..][..d].to_vec();
        if let Some(learned) = &tables.learned {
            let at = &learned[*position as usize * d..][..d];
            row.iter_mut().zip(at).for_each(|(x, p)| *x += p);
        }
        tolerance::assert_same_bits(&format!("{arm} {} {vocabulary} × {d}", E::NAME), x, &row);
    }
}

#[test]
fn every_shape_is_the_table() {
    for arm in arms::all() {
        for vocabulary in [1, 2, 31, 32, 33, 255, 256, 257, 50_257] {
            for d in [1, 2, 7, 8, 33, 36] {
                for learned in [false, true] {
                    check::<f32>(&arm, vocabulary, d, learned);
                    check::<bf16>(&arm, vocabulary, d, learned);
                }
            }
        }
    }
}

#[test]
fn a_row_may_be_longer_than_a_block_of_threads_takes_at_once() {
    for arm in arms::all() {
        for d in [1023, 1024, 1025, 4099] {
            check::<f32>(&arm, 5, d, true);
            check::<bf16>(&arm, 5, d, true);
        }
    }
}

/// Ids between the vocabulary and the next whole panel must not read the padding.
#[test]
#[should_panic]
fn an_id_past_the_vocabulary_panics() {
    Tables::new::<f32>(33, 1, false).embed::<f32>(&Arm::Cpu, &[33], &[0]);
}

#[test]
#[should_panic]
fn a_position_past_the_table_panics() {
    Tables::new::<f32>(4, 1, true).embed::<f32>(&Arm::Cpu, &[3], &[16]);
}

/// A device cannot say so before it is too late; the row shows it.
#[cfg(kernels)]
#[test]
fn a_row_past_its_table_is_not_a_number_on_a_device() {
    let tables = Tables::new::<bf16>(33, 9, true);
    for queue in arms::devices() {
        let ids = [33, 32, u32::MAX, 0, 1];
        let positions = [0, 15, 0, 16, u32::MAX];
        let x = tables.embed::<bf16>(&Arm::Device(queue), &ids, &positions);
        let known: Vec<bool> = x.chunks_exact(9).map(|row| row.iter().all(|x| !x.is_nan())).collect();
        assert_eq!(known, [false, true, false, false, false]);
        assert_eq!(x.iter().filter(|x| x.is_nan()).count(), 4 * 9);
    }
}
