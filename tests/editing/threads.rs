//! One model, many threads.

use std::thread;

use toedit::Scorer;
use toedit::edit::{Editor, Vocabulary};

use crate::common::editing::{IdDocument, edit_ids, packed, pool, with_rules};
use crate::sharp::SHARP;

const THREADS: usize = 16;

#[test]
fn sixteen_threads_score_and_edit_as_one() {
    let model = &SHARP.model;
    let documents: Vec<&[u32]> = SHARP.documents.iter().map(Vec::as_slice).collect();
    let inputs: Vec<_> =
        documents.iter().zip(0..).map(|(ids, stream)| IdDocument::new(ids, stream)).collect();
    let vocabulary = Vocabulary::new(model.config(), None);
    let scorer = Scorer::new(model, packed(model, 128)).unwrap();
    let editor = Editor::new(model, packed(model, 128), with_rules(&["p>=0.5:resample"])).unwrap();
    let expected =
        pool(1).install(|| (scorer.score(&documents).unwrap(), edit_ids(&editor, &vocabulary, &inputs)));
    assert!(expected.1.iter().any(|edited| !edited.changes.is_empty()));
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (scorer, editor, vocabulary, expected) = (&scorer, &editor, &vocabulary, &expected);
            let (documents, inputs) = (&documents, &inputs);
            scope.spawn(move || {
                // Each begins elsewhere, so that different packs run at once.
                for first in [thread * 3, thread] {
                    let (ids, inputs) = (&documents[first..], &inputs[first..]);
                    assert_eq!(scorer.score(ids).unwrap(), expected.0[first..]);
                    assert_eq!(edit_ids(editor, vocabulary, inputs), expected.1[first..]);
                }
            });
        }
    });
}

#[test]
fn a_call_that_is_asked_to_stop_ends_before_the_next_pack() {
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let config = toedit::ScoreConfig { stop: Some(stop.clone()), ..packed(&SHARP.model, 1) };
    let scorer = toedit::Scorer::new(&SHARP.model, config).unwrap();
    let documents: Vec<&[u32]> = SHARP.documents.iter().map(Vec::as_slice).collect();
    assert!(scorer.score(&documents).is_ok());
    stop.store(15, std::sync::atomic::Ordering::Relaxed);
    assert!(matches!(scorer.score(&documents), Err(toedit::Error::Stopped(15))));
}
