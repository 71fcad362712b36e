//! The largest logits from few tiles: those of whole rows, in the same order and with the same bits.

use half::bf16;
use proptest::prelude::*;
use toedit::ops::draw::largest;
use toedit::ops::head::{self, Scratch, TILE};

use super::head::Case;
use crate::common::arms::Scalar;

/// Fewest tiles for which whole rows are not computed.
fn least_tiles(k: usize) -> usize {
    4 * (k + 1)
}

fn check<E: Scalar>(case: &Case<E>, rows: &[usize], k: usize) -> Result<(), TestCaseError> {
    let mut scratch = Scratch::default();
    case.head().score(&mut scratch);
    let found = case.head().largest(rows, k, &scratch);
    let enough = case.vocabulary().div_ceil(TILE) >= least_tiles(k);
    prop_assert_eq!(found.is_some(), enough && k > 0);
    let Some(found) = found else { return Ok(()) };
    let mut whole = Vec::new();
    let stride = head::logits(case.rows(), case.matrix(), &mut scratch, &mut whole);
    prop_assert_eq!(found.len(), rows.len());
    for (row, found) in rows.iter().zip(&found) {
        let expected = largest(&whole[row * stride..][..case.vocabulary()], k);
        prop_assert_eq!(found, &expected, "row {}", row);
        let bits =
            |of: &[toedit::ops::draw::Candidate]| of.iter().map(|c| c.logit.to_bits()).collect::<Vec<_>>();
        prop_assert_eq!(bits(found), bits(&expected), "row {}", row);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    /// Small whole numbers: most logits have equals, in their own tile and in others.
    #[test]
    fn equal_logits_come_by_their_ids(
        (width, k, rows) in (1usize..4, 0usize..5, 1usize..120),
        vocabulary in 1_800usize..6_600,
        seed: u32,
    ) {
        let whole = |seed: u32, len: usize| -> Vec<f32> {
            crate::common::samples::ids(seed, len, 3).into_iter().map(|id| id as f32 - 1.0).collect()
        };
        let targets = crate::common::samples::ids(!seed, rows, vocabulary);
        let case = Case::<f32>::new(whole(seed, rows * width), whole(seed ^ 1, vocabulary * width), width, targets);
        let some: Vec<usize> = (0..rows).filter(|row| !(row ^ seed as usize).is_multiple_of(3)).collect();
        check(&case, &some, k)?;
    }

    #[test]
    fn they_are_those_of_whole_rows(
        (width, k, rows) in (1usize..70, 1usize..9, 1usize..120),
        vocabulary in 1_800usize..10_000,
        seed: u32,
    ) {
        let rows_backwards: Vec<usize> = (0..rows).rev().collect();
        check(&Case::<f32>::random(seed, rows, vocabulary, width), &rows_backwards, k)?;
        check(&Case::<bf16>::random(seed, rows, vocabulary, width), &rows_backwards, k)?;
    }
}
