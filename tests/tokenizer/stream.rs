//! Tokens as text, one by one: whole characters, and nothing of a stop text.

use proptest::prelude::*;
use toedit::generate::TextStream;
use toedit::tokenizer::Tokenizer;

use crate::common::{REAL, byte_level_json, load_json, metaspace_json, real};

/// What is shown token by token, and the text in the end; whether a stop text ended it.
fn stream(tokenizer: &Tokenizer, stop: &[String], ids: &[u32]) -> (String, String, bool) {
    let mut stream = TextStream::new(tokenizer, stop, true);
    let mut shown = String::new();
    let stopped = ids.iter().any(|id| {
        let stopped = stream.push(*id).is_break();
        shown += &stream.take(false);
        stopped
    });
    shown += &stream.take(true);
    (shown, stream.text(), stopped)
}

/// Up to the first stop text.
fn cut<'a>(text: &'a str, stop: &[String]) -> &'a str {
    &text[..stop.iter().filter_map(|stop| text.find(stop.as_str())).min().unwrap_or(text.len())]
}

fn words() -> impl Strategy<Value = String> {
    prop::collection::vec(prop_oneof![" ?[a-e]{1,3}", "[é漢🙂]", "he", " h", "\n"], 0..12)
        .prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn texts_come_back_and_end_before_a_stop_text(
        text in words(), stop in prop::collection::vec("[ab]{1,2}|h|he h|é漢?|\\n", 0..3),
    ) {
        let prepending = (metaspace_json("first"), true);
        for (json, prepends) in [(byte_level_json(), false), prepending, (metaspace_json("never"), false)] {
            let tokenizer = load_json(&json);
            let (shown, whole, stopped) = stream(&tokenizer, &stop, &tokenizer.encode(&text).unwrap());
            // A tokenizer that puts a space there itself cannot tell it from the text's own.
            let text = text.strip_prefix(' ').filter(|_| prepends).unwrap_or(&text);
            let expected = cut(text, &stop);
            prop_assert_eq!(&whole, expected);
            prop_assert_eq!(&shown, &whole);
            prop_assert_eq!(stopped, expected.len() < text.len());
        }
    }

    /// Whatever a model draws, what was shown stays, and is UTF-8 by its type.
    #[test]
    fn bytes_of_any_order_are_shown_as_they_end_up(ids in prop::collection::vec(0u32..259, 0..40)) {
        let tokenizer = load_json(&byte_level_json());
        let (shown, whole, stopped) = stream(&tokenizer, &["he".to_owned()], &ids);
        prop_assert_eq!(&shown, &whole);
        prop_assert_eq!(stopped, ids.contains(&256) || shown.len() < stream(&tokenizer, &[], &ids).1.len());
    }
}

#[test]
fn nothing_that_may_be_part_of_a_stop_text_is_shown() {
    let tokenizer = load_json(&byte_level_json());
    let stop = ["abc".to_owned(), "bd".to_owned()];
    let mut stream = TextStream::new(&tokenizer, &stop, true);
    let mut show = |text: &str| {
        let stopped = tokenizer.encode(text).unwrap().iter().any(|id| stream.push(*id).is_break());
        (stream.take(false), stopped)
    };
    assert_eq!(show("xa"), ("x".to_owned(), false));
    assert_eq!(show("b"), (String::new(), false));
    assert_eq!(show("a"), ("ab".to_owned(), false));
    assert_eq!(show("bc"), (String::new(), true));
}

#[test]
fn characters_are_shown_when_they_are_whole() {
    let tokenizer = load_json(&byte_level_json());
    let mut stream = TextStream::new(&tokenizer, &[], true);
    let mut show = |id: u32| {
        assert!(stream.push(id).is_continue());
        stream.take(false)
    };
    for (byte, expected) in "é🙂".bytes().zip(["", "é", "", "", "", "🙂"]) {
        assert_eq!(show(u32::from(byte)), expected);
    }
    assert_eq!(show(0xC3), "");
    assert_eq!(show(u32::from(b'x')), "\u{FFFD}x");
    assert_eq!(show(258), "", "a special token has no text");
    assert_eq!(show(0xF0), "");
    assert_eq!(stream.take(true), "\u{FFFD}");
}

#[test]
fn real_tokenizers_give_texts_back() {
    let text = "The café, 漢字 and 🙂:\n\n  two spaces; don't stop.";
    for (path, _) in REAL {
        let Some(tokenizer) = real(path) else { return };
        let (shown, whole, _) = stream(&tokenizer, &[], &tokenizer.encode(text).unwrap());
        assert_eq!((shown.as_str(), whole.as_str()), (text, text), "{path}");
    }
}
