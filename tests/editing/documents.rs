//! Documents of any length: each token is scored and edited once, by the window that the method says.

use proptest::prelude::*;
use toedit::edit::{Editor, Vocabulary};
use toedit::score::{Sequence, WindowConfig};
use toedit::{ScoreConfig, Scorer, Scores};

use crate::common::editing::{IdDocument, edit_ids, packed, with_rules};
use crate::sharp::{SHARP, VOCABULARY};

/// The ids of several documents on end.
fn long_ids(length: usize) -> Vec<u32> {
    SHARP.documents.iter().flatten().copied().cycle().skip(length % 7).take(length).collect()
}

fn config(max_length: usize, overlap: usize) -> ScoreConfig {
    ScoreConfig { windows: WindowConfig::new(max_length, overlap).unwrap(), ..packed(&SHARP.model, 200) }
}

fn score(config: ScoreConfig, context: &[u32], ids: &[u32]) -> Scores {
    let scorer = Scorer::new(&SHARP.model, config).unwrap();
    scorer.score_sequences(&[Sequence::new(context, ids)]).unwrap().remove(0)
}

/// Each window scored as a document of its own, from the definition: the log-probabilities of the document's tokens.
fn by_hand(context: &[u32], ids: &[u32], max_length: usize, overlap: usize, truncate: bool) -> Vec<f32> {
    let sequence = [context, ids].concat();
    let mut logprobs: Vec<f32> = Vec::new();
    let mut scored = 1;
    let mut start = 0;
    while scored < sequence.len() && (start == 0 || !truncate) {
        let end = (start + max_length).min(sequence.len());
        let window = score(config(128, 64), &[], &sequence[start..end]);
        logprobs.extend(&window.logprobs[scored - start - 1..]);
        scored = end;
        start += max_length - overlap;
    }
    logprobs.split_off(logprobs.len().min(context.len().saturating_sub(1)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn each_token_is_scored_once_in_its_window(
        length in 0usize..260, max_length in 2usize..=128, part in 0.0f64..1.0,
        context in prop::collection::vec(0..VOCABULARY, 0..3), truncate in any::<bool>(),
    ) {
        let overlap = 1 + (part * (max_length - 1) as f64) as usize;
        // Many windows of few new tokens each would only take time.
        let length = length.min(max_length + 12 * (max_length - overlap));
        let ids = long_ids(length);
        let mut config = config(max_length, overlap);
        config.windows = config.windows.with_truncate(truncate);
        let scores = score(config.clone(), &context, &ids);
        let bits = |logprobs: &[f32]| logprobs.iter().map(|logprob| logprob.to_bits()).collect::<Vec<_>>();
        let expected = by_hand(&context, &ids, max_length, overlap, truncate);
        prop_assert_eq!(bits(&scores.logprobs), bits(&expected));
        let covered = if truncate { length.min(max_length.saturating_sub(context.len())) } else { length };
        prop_assert_eq!(scores.logprobs.len(), covered.saturating_sub(scores.first_scored));
        prop_assert_eq!((scores.tokens, scores.first_scored), (length, usize::from(context.is_empty())));

        let editor = Editor::new(&SHARP.model, config, with_rules(&["p<=1:drop"])).unwrap();
        let mut vocabulary = SHARP.model.config().clone();
        vocabulary.special_ids.clear();
        let document = IdDocument { context, ..IdDocument::new(&ids, 0) };
        let edited = edit_ids(&editor, &Vocabulary::new(&vocabulary, None), &[document]).remove(0);
        let dropped = edited.changes.iter().map(|change| change.position);
        prop_assert!(dropped.eq(scores.first_scored..covered.max(scores.first_scored)));
        prop_assert_eq!(edited.counts.windows, scores.windows as u64);
    }
}

#[test]
fn the_first_window_is_the_prefix_of_a_long_pass() {
    let ids = long_ids(120);
    let whole = score(config(128, 64), &[1], &ids);
    let cut = score(config(50, 20), &[1], &ids);
    assert_eq!((whole.windows, cut.windows), (1, 4));
    assert_eq!(whole.logprobs[..49], cut.logprobs[..49], "49 tokens after the context");
    assert_ne!(whole.logprobs[49..], cut.logprobs[49..], "later windows forget what lies before them");
}

#[test]
fn a_document_within_the_window_does_not_feel_the_overlap() {
    let ids = long_ids(50);
    let expected = score(config(128, 64), &[], &ids);
    for (max_length, overlap) in [(50, 1), (50, 49), (51, 25), (100, 99)] {
        assert_eq!(score(config(max_length, overlap), &[], &ids), expected);
    }
    assert_eq!(expected.windows, 1);
}

#[test]
fn the_tail_beyond_a_truncated_window_is_passed_through() {
    let ids = long_ids(90);
    let mut cut = config(30, 10);
    cut.windows = cut.windows.with_truncate(true);
    let editor = Editor::new(&SHARP.model, cut, with_rules(&["p<=1:resample"])).unwrap();
    let vocabulary = Vocabulary::new(SHARP.model.config(), None);
    let edited = edit_ids(&editor, &vocabulary, &[IdDocument::new(&ids, 5)]).remove(0);
    assert_eq!((edited.counts.tokens, edited.counts.scored, edited.counts.windows), (90, 29, 1));
    assert!(edited.counts.changed > 0);
    assert_eq!(edited.apply(&ids)[30..], ids[30..]);
}

#[test]
fn empty_and_one_token_documents() {
    let vocabulary = Vocabulary::new(SHARP.model.config(), None);
    let editor = Editor::new(&SHARP.model, config(8, 4), with_rules(&["p<=1:drop"])).unwrap();
    for (context, ids, scored) in [(&[][..], &[][..], 0), (&[], &[7], 0), (&[1], &[], 0), (&[1], &[7], 1)] {
        let scores = score(config(8, 4), context, ids);
        assert_eq!((scores.tokens, scores.logprobs.len()), (ids.len(), scored));
        assert_eq!(scores.perplexity().is_some(), scored > 0);
        let document = IdDocument { context: context.to_vec(), ..IdDocument::new(ids, 0) };
        let edited = edit_ids(&editor, &vocabulary, &[document]).remove(0);
        assert_eq!((edited.counts.scored, edited.counts.dropped), (scored as u64, scored as u64));
    }
}

#[test]
fn windows_longer_than_the_positions_are_refused() {
    let error = Scorer::new(&SHARP.model, config(129, 64)).err().unwrap();
    assert_eq!(error.exit_status(), 2);
    assert!(error.to_string().contains("max_position_embeddings is 128"), "{error}");
}
