//! Mixtures: exact to one document, the same for the same seed, every document alike.

use proptest::prelude::*;
use toedit::mix::{Choice, Turns, choose};

fn chosen(counts: &[u32], target: u64, seed: u64) -> Option<Choice> {
    choose(counts, target, seed, 0).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn shares_are_exact_to_one_document(
        counts in prop::collection::vec(0u32..500, 0..60), part in 0.0..1.1, seed: u64,
    ) {
        let available: u64 = counts.iter().copied().map(u64::from).sum();
        let target = (available as f64 * part) as u64;
        let choice = chosen(&counts, target, seed);
        prop_assert_eq!(choice.is_some(), target <= available);
        let Some(choice) = choice else { return Ok(()) };
        let picked = || counts.iter().zip(&choice.is_chosen).filter(|(_, is_chosen)| **is_chosen);
        prop_assert_eq!(picked().map(|(count, _)| u64::from(*count)).sum::<u64>(), choice.tokens);
        prop_assert_eq!(picked().count() as u64, choice.documents);
        let longest = counts.iter().copied().max().unwrap_or_default();
        prop_assert!(2 * choice.tokens.abs_diff(target) <= u64::from(longest));
        prop_assert_eq!(chosen(&counts, target, seed), Some(choice));
    }

    /// A larger mixture has all documents of a smaller one, but for the last.
    #[test]
    fn more_tokens_are_more_of_the_same(counts in prop::collection::vec(1u32..500, 1..60), seed: u64) {
        let available: u64 = counts.iter().copied().map(u64::from).sum();
        let small = chosen(&counts, available / 3, seed).unwrap();
        let large = chosen(&counts, available / 2, seed).unwrap();
        let lost = small.is_chosen.iter().zip(&large.is_chosen).filter(|(small, large)| **small && !**large);
        prop_assert!(lost.count() <= 1);
    }

    /// After each document each corpus is within one document of its share.
    #[test]
    fn turns_keep_the_shares_all_along(
        counts in [prop::collection::vec(0u32..200, 0..40), prop::collection::vec(0u32..200, 0..40)],
    ) {
        let totals = counts.each_ref().map(|counts| counts.iter().copied().map(u64::from).sum::<u64>());
        let (mut turns, mut next, mut done) = (Turns::new(totals), [0, 0], [0, 0]);
        loop {
            let has_more = [0, 1].map(|corpus| next[corpus] < counts[corpus].len());
            let tokens = |corpus: usize| u64::from(counts[corpus][next[corpus]]);
            let Some(corpus) = turns.take(has_more, tokens) else { break };
            done[corpus] += u64::from(counts[corpus][next[corpus]]);
            next[corpus] += 1;
            if has_more == [true, true] {
                let due = (done[0] + done[1]) as f64 * totals[0] as f64 / (totals[0] + totals[1]).max(1) as f64;
                prop_assert!((done[0] as f64 - due).abs() <= 200.0);
            }
        }
        prop_assert_eq!(next, counts.each_ref().map(Vec::len));
        prop_assert_eq!(done, totals);
    }
}

/// χ² of how often each of 10 documents of equal length is among 3: 9 degrees of freedom, p = 1e-6 at 45; each draw is
/// without replacement, which only narrows it.
#[test]
fn every_document_is_as_likely_as_the_others() {
    let mut counts = [0u32; 10];
    for seed in 0..10_000 {
        let choice = chosen(&[7; 10], 21, seed).unwrap();
        assert_eq!((choice.documents, choice.tokens), (3, 21));
        counts.iter_mut().zip(choice.is_chosen).for_each(|(count, is_chosen)| *count += u32::from(is_chosen));
    }
    let chi: f64 = counts.iter().map(|count| (f64::from(*count) - 3000.0).powi(2) / 3000.0).sum();
    assert!(chi < 45.0, "{chi}");
}

#[test]
fn corpora_have_orders_of_their_own() {
    let counts = [10; 50];
    let of = |source: u32| choose(&counts, 200, 3, source).unwrap().unwrap();
    assert_ne!(of(0).is_chosen, of(1).is_chosen);
    assert_ne!(chosen(&counts, 200, 3), chosen(&counts, 200, 4));
    assert_eq!(chosen(&[], 0, 0).unwrap().documents, 0);
    assert_eq!(chosen(&[], 1, 0), None);
}
