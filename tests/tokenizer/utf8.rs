//! The UTF-8 automaton against the standard library.

use proptest::prelude::*;
use toedit::tokenizer::{Tokenizer, Utf8State};

use crate::common::{byte_level_json, load_json, metaspace_json};

/// Bytes near the limits of what is valid come often.
fn byte() -> impl Strategy<Value = u8> {
    let edges = prop::sample::select(
        &[
            0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC,
            0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF,
        ][..],
    );
    prop_oneof![4 => edges, 1 => any::<u8>()]
}

/// What the standard library says of `bytes`: whole, broken off inside a character, or wrong.
fn verdict(bytes: &[u8]) -> (bool, bool) {
    match std::str::from_utf8(bytes) {
        Ok(_) => (true, false),
        Err(error) => (false, error.error_len().is_some()),
    }
}

fn check(state: Utf8State, bytes: &[u8]) {
    let (whole, wrong) = verdict(bytes);
    assert_eq!(state == Utf8State::START, whole, "{bytes:x?}");
    assert_eq!(state == Utf8State::REJECT, wrong, "{bytes:x?}");
}

fn run_tokens(tokenizer: &Tokenizer, ids: &[u32]) -> Utf8State {
    ids.iter().fold(Utf8State::START, |state, &id| tokenizer.utf8().after(state, id))
}

#[test]
fn every_short_byte_string() {
    for first in 0..=255u8 {
        check(Utf8State::START.step(first), &[first]);
        for second in 0..=255u8 {
            check(Utf8State::START.run(&[first, second]), &[first, second]);
            for third in (0..=255u8).step_by(5) {
                check(Utf8State::START.run(&[first, second, third]), &[first, second, third]);
            }
        }
    }
}

#[test]
fn every_character() {
    for character in '\0'..=char::MAX {
        let text = character.to_string();
        assert_eq!(Utf8State::START.run(text.as_bytes()), Utf8State::START, "{character:?}");
    }
}

#[test]
fn the_table_says_what_the_tokens_bytes_do() {
    for tokenizer in [load_json(&byte_level_json()), load_json(&metaspace_json("never"))] {
        let table = tokenizer.utf8();
        assert_eq!(table.as_slice().len(), tokenizer.len() * Utf8State::LIVE);
        for id in 0..tokenizer.len() as u32 {
            let expected = Utf8State::START.run(tokenizer.bytes(id));
            assert_eq!(table.after(Utf8State::START, id), expected);
            assert_eq!(table.as_slice()[id as usize * Utf8State::LIVE], expected.code());
            assert_eq!(table.after(Utf8State::REJECT, id), Utf8State::REJECT);
        }
        assert_eq!(table.after(Utf8State::START, tokenizer.len() as u32), Utf8State::REJECT);
        assert_eq!(table.after(Utf8State::START, u32::MAX), Utf8State::REJECT);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_byte_strings(bytes in prop::collection::vec(byte(), 0..8)) {
        check(Utf8State::START.run(&bytes), &bytes);
    }
}

#[test]
fn random_token_strings() {
    // Ids below 256 are the single bytes.
    for tokenizer in [load_json(&byte_level_json()), load_json(&metaspace_json("never"))] {
        proptest!(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() },
            |(bytes in prop::collection::vec(byte(), 0..8))| {
            let ids: Vec<u32> = bytes.iter().map(|&byte| u32::from(byte)).collect();
            check(run_tokens(&tokenizer, &ids), &bytes);
        });
    }
}
