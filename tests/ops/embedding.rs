//! Rows of the embedding table, and their gradients.

use half::bf16;
use proptest::prelude::*;
use toedit::device::Queue;
use toedit::ops::embedding::{Runs, embed, embed_backward_on, embed_on};

use crate::common::arms::{self, Arm, Scalar};
use crate::common::{oracle_rows, samples, tolerance};

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
            Arm::Device(queue) => {
                let weight = arms::upload::<E>(queue, d, tokens);
                let learned = learned.as_ref().map(|learned| arms::upload::<f32>(queue, d, learned));
                let (ids, positions) = (queue.upload(ids).unwrap(), queue.upload(positions).unwrap());
                let x = arms::output(queue, ids.len(), d);
                let (weight, learned) = (weight.view(), learned.as_ref().map(|learned| learned.view()));
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
    for arm in arms::with_host() {
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
    for arm in arms::with_host() {
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
#[test]
fn a_row_past_its_table_is_not_a_number_on_a_device() {
    let tables = Tables::new::<bf16>(33, 9, true);
    for queue in arms::queues() {
        let ids = [33, 32, u32::MAX, 0, 1];
        let positions = [0, 15, 0, 16, u32::MAX];
        let x = tables.embed::<bf16>(&Arm::Device(queue), &ids, &positions);
        let known: Vec<bool> = x.chunks_exact(9).map(|row| row.iter().all(|x| !x.is_nan())).collect();
        assert_eq!(known, [false, true, false, false, false]);
        assert_eq!(x.iter().filter(|x| x.is_nan()).count(), 4 * 9);
    }
}

/// Gradients of a table of `vocabulary` rows, on top of what is there; ids past it have none.
fn check_backward(queue: &Queue, vocabulary: usize, d: usize, ids: &[u32]) -> Vec<f32> {
    let (start, dx) = (samples::values::<f32>(1, vocabulary * d), samples::values::<f32>(2, ids.len() * d));
    let (dweight, dx_on) = (arms::upload::<f32>(queue, d, &start), arms::upload::<f32>(queue, d, &dx));
    let mut runs = Runs::new(queue, ids.len() + 3).unwrap();
    // Earlier runs are replaced.
    runs.write(queue, &vec![0; ids.len() + 3]).unwrap();
    runs.write(queue, ids).unwrap();
    embed_backward_on(queue, &runs, dx_on.view(), dweight.view()).unwrap();
    let found = arms::read(queue, &dweight);
    for (id, (found, start)) in found.chunks_exact(d).zip(start.chunks_exact(d)).enumerate() {
        let rows = (0..ids.len()).filter(|row| ids[*row] as usize == id);
        let count = rows.clone().count();
        let what = format!("{queue:?} {vocabulary} × {d}, id {id}");
        tolerance::assert_within(
            &what,
            found.to_vec(),
            &oracle_rows::sum_rows(start, &dx, rows),
            tolerance::sum(count),
        );
    }
    found
}

/// A table may end within a block of rows, runs may be longer than all warps take at once, ids may be missing.
#[test]
fn gradients_are_sums_over_equal_ids() {
    for queue in arms::queues() {
        for d in [1, 4, 7, 127, 128, 130] {
            for vocabulary in [1, 15, 16, 17, 40] {
                check_backward(&queue, vocabulary, d, &samples::ids(d as u32, 70, vocabulary));
            }
            check_backward(&queue, 33, d, &[32, 32, 33, 40, u32::MAX, 32, 5]);
            check_backward(&queue, 3, d, &[]);
        }
    }
}

#[test]
fn threads_do_not_change_a_bit_of_gradients() {
    let ids = samples::ids(4, 300, 50);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| check_backward(&Queue::open(toedit::Device::Cpu).unwrap(), 50, 33, &ids))
    };
    tolerance::assert_same_bits("threads", &run(1), &run(5));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn gradients_of_random_shapes_are_the_oracle(seed: u32, vocabulary in 1..60usize, d in 1..200usize, len in 0..90usize) {
        arms::queues().iter().for_each(|queue| {
            check_backward(queue, vocabulary, d, &samples::ids(seed, len, vocabulary + 1));
        });
    }
}
