//! Documents of ids that a tokenizer can decode.

use proptest::prelude::*;
use toedit::edit::{Constraint, IdConstraint, Vocabulary};
use toedit::model::Config;
use toedit::tokenizer::Tokenizer;

use crate::common::editing::text;
use crate::common::root;

fn tiny() -> (Tokenizer, Vocabulary) {
    let folder = root().join("assets/tiny");
    let tokenizer = Tokenizer::from_file(folder.join("tokenizer.json")).unwrap();
    let config = Config::from_file(&folder.join("config.json")).unwrap();
    let vocabulary = Vocabulary::new(&config, Some(&tokenizer));
    (tokenizer, vocabulary)
}

fn decode(tokenizer: &Tokenizer, ids: &[Option<u32>]) -> Vec<u8> {
    ids.iter().flatten().flat_map(|id| tokenizer.bytes(*id)).copied().collect()
}

#[test]
fn every_combination_of_edits_and_drops_decodes_to_utf8() {
    let (tokenizer, vocabulary) = tiny();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(1000));
    let (edited, inside) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let cases = (text(), prop::collection::vec(prop::option::weighted(0.8, 0..4096u32), 64));
    runner
        .run(&cases, |(text, proposals)| {
            let ids = tokenizer.encode(&text).unwrap();
            let constraint = IdConstraint::new(&vocabulary, Some(&tokenizer), &ids);
            let mut after: Vec<_> = ids.iter().copied().map(Some).collect();
            for (position, proposal) in (0..ids.len()).zip(proposals) {
                let allowed = match proposal {
                    Some(id) => constraint.allowed(position, id),
                    None => constraint.droppable(position),
                };
                if constraint.editable(position) && allowed {
                    after[position] = proposal;
                    edited.set(edited.get() + 1);
                    inside.set(
                        inside.get() + i32::from(str::from_utf8(tokenizer.bytes(ids[position])).is_err()),
                    );
                }
            }
            prop_assert!(String::from_utf8(decode(&tokenizer, &after)).is_ok());
            Ok(())
        })
        .unwrap();
    assert!(edited.get() > 1000 && inside.get() > 10, "{edited:?} {inside:?}");
}

#[test]
fn what_was_no_utf8_before_may_become_anything() {
    let (tokenizer, vocabulary) = tiny();
    // The last byte of a character without its beginning.
    let stray = *tokenizer.encode("é").unwrap().last().unwrap();
    let broken = (0..4096).find(|id| tokenizer.bytes(*id).first().is_some_and(|byte| *byte == 0x80));
    let broken = broken.unwrap_or(stray);
    let word = tokenizer.encode("the").unwrap()[0];
    let ids = [word, broken, word];
    let constraint = IdConstraint::new(&vocabulary, Some(&tokenizer), &ids);
    assert!(constraint.allowed(1, word) && constraint.droppable(1));
    assert!(!constraint.allowed(0, broken));
}
