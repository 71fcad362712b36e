//! Every model family against numbers that transformers computed in f32.

use std::path::Path;

use toedit::{Dtype, Model, ScoreConfig, Scorer};

use crate::common::devices::{load, on_every_device};
use crate::common::{FAMILIES, Golden, assert_close};

/// Largest difference of log-probabilities in nats.
pub const LOGPROB: f32 = 1e-4;

#[test]
fn log_probabilities_and_entropies_are_transformers() {
    for (family, device) in on_every_device(&FAMILIES) {
        let golden = Golden::load(family);
        let model = load(&golden.folder, Dtype::F32, device);
        let config = ScoreConfig { entropy: true, rank: true, top_k: 4, ..ScoreConfig::new(&model).unwrap() };
        let scores = Scorer::new(&model, config).unwrap().score(&golden.documents()).unwrap();
        for (row, scores) in scores.iter().enumerate() {
            assert_close(family, &scores.logprobs, golden.row("logprobs", row), LOGPROB);
            assert_close(family, &scores.entropy, golden.row("entropy", row), LOGPROB);
            check_ranks(&golden, row, scores);
        }
    }
}

/// Ranks and most likely tokens, from the reference's logits.
fn check_ranks(golden: &Golden, row: usize, scores: &toedit::Scores) {
    let ids = golden.documents()[row];
    let vocabulary = golden.logits(row, 0).len();
    for position in 1..ids.len() {
        let logits = golden.logits(row, position - 1);
        let mut order: Vec<u32> = (0..vocabulary as u32).collect();
        order.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]));
        let rank = scores.rank[position - 1] as usize;
        // Neighbours in the order may swap where their logits agree to rounding.
        let found = logits[order[rank - 1] as usize];
        assert!((found - logits[ids[position] as usize]).abs() <= LOGPROB);
        for (at, (id, _)) in scores.top[(position - 1) * 4..][..4].iter().enumerate() {
            assert!((logits[*id as usize] - logits[order[at] as usize]).abs() <= LOGPROB);
        }
    }
}

#[test]
fn bf16_stays_near_f32() {
    for (family, device) in on_every_device(&FAMILIES) {
        let golden = Golden::load(family);
        let model = load(&golden.folder, Dtype::Bf16, device);
        let scorer = Scorer::new(&model, ScoreConfig::new(&model).unwrap()).unwrap();
        for (row, scores) in scorer.score(&golden.documents()).unwrap().iter().enumerate() {
            assert_close(
                &format!("{family} on {device}"),
                &scores.logprobs,
                golden.row("logprobs", row),
                0.2,
            );
        }
    }
}

#[test]
fn a_score_does_not_depend_on_its_neighbours() {
    for (family, device) in on_every_device(&FAMILIES) {
        for dtype in [Dtype::F32, Dtype::Bf16] {
            let golden = Golden::load(family);
            let model = load(&golden.folder, dtype, device);
            let config = ScoreConfig::new(&model).unwrap();
            let ids = golden.documents();
            let pieces: Vec<&[u32]> = vec![ids[0], &ids[1][..1], ids[1], &ids[0][..7], &[], &ids[1][..32]];
            let together = Scorer::new(&model, config.clone()).unwrap().score(&pieces).unwrap();
            let small = ScoreConfig { batch_tokens: 1, ..config };
            let scorer = Scorer::new(&model, small).unwrap();
            for (ids, expected) in pieces.iter().zip(&together) {
                assert_eq!(&scorer.score(&[ids]).unwrap()[0], expected, "{family}");
            }
            let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
            let three = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
            for pool in [one, three] {
                let reversed: Vec<&[u32]> = pieces.iter().rev().copied().collect();
                let mut again = pool.install(|| scorer.score(&reversed)).unwrap();
                again.reverse();
                assert_eq!(again, together, "{family}");
            }
        }
    }
}

#[test]
fn ids_outside_the_vocabulary_are_named() {
    let golden = Golden::load("llama");
    let model = Model::load(&golden.folder, Dtype::F32).unwrap();
    let scorer = Scorer::new(&model, ScoreConfig::new(&model).unwrap()).unwrap();
    let error = scorer.score(&[&[1, 2], &[3, 257]]).unwrap_err().to_string();
    assert_eq!(error, "document 1: token id 257 at position 1: the model's vocabulary has 257 ids");
    assert!(Path::new(&golden.folder).is_dir());
}
