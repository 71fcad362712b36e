//! Alignment by the tokenizers of real models.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use toedit::tokenizer::Tokenizer;

use crate::common::{REAL, aligned, fixed_text, real};

/// Texts that have broken tokenizers and aligners.
const NASTY: &[&str] = &[
    "",
    " ",
    "  leading and trailing  ",
    "a\r\nb\rc\n\n\td",
    "\u{0}\u{1}\u{7f}\u{85}",
    "\u{feff}BOM \u{fffd} inside",
    "👩‍👩‍👧‍👦🏳️‍🌈 👍🏽",
    "שלום עולם مرحبا\u{200f}",
    "e\u{301}cole, na\u{308}ive, q\u{323}\u{307} q\u{307}\u{323}",
    "\u{301}starts with a mark",
    "\u{1112}\u{1161}\u{11ab}\u{1100}\u{1173}\u{11af} 한글",
    "Å K ﬁ ½ ｶﾞ …",
    "a▁b ▁ ▁▁c▁",
    "▁",
    "<|endoftext|>",
    "x <|endoftext|>\u{338} <|endoftext|><|endoftext|> y",
    "<s>",
    "<s> a<s>b <s>c</s>  <s> <unk>",
    "<|im_start|>user\nhi<|im_end|><think>\u{338}</think> <|begin_of_text|>",
    "|||EMAIL_ADDRESS||| and |||IP_ADDRESS|||x",
    "<0x0A> <0xE2> \u{10fffd}\u{e000}",
    "                         twenty-five spaces",
    "日本語のテキスト。ｶﾀｶﾅ ＡＢＣ",
    "ǅ ſ ẛ\u{323} \u{344} \u{f71}\u{f72}\u{f80}",
];

/// Pieces rich in what normalizers, splitters and byte fallback trip over.
fn piece() -> impl Strategy<Value = String> {
    let fixed = prop::sample::select(
        &[
            " ",
            "  ",
            "      ",
            "\n",
            "\r\n",
            "\t",
            "\u{a0}",
            "\u{3000}",
            "\u{200d}",
            "\u{fe0f}",
            "👩",
            "🏽",
            "🇩🇪",
            "\u{301}",
            "\u{338}",
            "\u{323}",
            "\u{3099}",
            "\u{345}",
            "e",
            "a",
            "=",
            "か",
            "ｶ",
            "ﾞ",
            "א",
            "ع",
            "\u{202e}",
            "\u{1100}",
            "\u{1161}",
            "\u{11a8}",
            "각",
            "가",
            "▁",
            "▁▁",
            "<s>",
            "</s>",
            "<unk>",
            "<|endoftext|>",
            "<|im_start|>",
            "<think>",
            "|||EMAIL_ADDRESS|||",
            "<0x41>",
            "\u{0}",
            "\u{7f}",
            "\u{85}",
            "\u{2126}",
            "Å",
            "ﬁ",
            "the",
            " the",
            "'s",
            "123",
        ][..],
    );
    prop_oneof![
        5 => fixed.prop_map(str::to_owned),
        2 => any::<char>().prop_map(String::from),
        1 => "[a-zA-Z ,.]{1,12}",
        1 => "\\PC{0,6}",
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(piece(), 0..24).prop_map(|pieces| pieces.concat())
}

fn on_arbitrary_text(tokenizer: &Tokenizer, normalizes: bool) {
    let mut runner = TestRunner::new(Config { cases: 1000, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&text(), |text| {
        let (_, alignment) = aligned(tokenizer, &text);
        prop_assert!(normalizes || (0..alignment.len()).all(|position| alignment.is_editable(position)));
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{tokenizer:?}: {error}"));
}

#[test]
fn every_byte_of_any_text_has_a_token() {
    for (path, normalizes) in REAL {
        let Some(tokenizer) = real(path) else { return };
        for text in NASTY {
            let (_, alignment) = aligned(&tokenizer, text);
            assert!(normalizes || fixed_text(text, &alignment).is_empty(), "{path} {text:?}");
        }
        on_arbitrary_text(&tokenizer, normalizes);
    }
}

#[test]
fn only_tokens_that_touch_a_changed_piece_are_fixed() {
    let text = "plain words, then cafe\u{301} and plain words again";
    for path in ["tokenizers/gpt-neox/tokenizer.json", "tokenizers/qwen3/tokenizer.json"] {
        let Some(tokenizer) = real(path) else { return };
        let fixed = aligned(&tokenizer, text).1;
        let fixed = fixed_text(text, &fixed).concat();
        assert!(fixed.contains("e\u{301}") && fixed.len() <= " cafe\u{301}".len(), "{path} {fixed:?}");
    }
    let Some(llama) = real("tokenizers/llama2/tokenizer.json") else { return };
    let text = "one▁two three";
    let fixed = aligned(&llama, text).1;
    let fixed = fixed_text(text, &fixed).concat();
    assert!(fixed.contains('▁') && !fixed.contains("three"), "{fixed:?}");
}

#[test]
fn composition_does_not_reach_across_special_tokens() {
    let Some(tokenizer) = real("tokenizers/qwen3/tokenizer.json") else { return };
    // U+0338 would join the `>` if the two met.
    let text = "a <|endoftext|>\u{338}b";
    let (ids, alignment) = aligned(&tokenizer, text);
    assert!(ids.iter().any(|&id| tokenizer.is_special(id)));
    assert_eq!(fixed_text(text, &alignment), [""; 0]);
}

#[test]
fn llama2_puts_a_space_of_its_own_before_the_text() {
    let Some(tokenizer) = real("tokenizers/llama2/tokenizer.json") else { return };
    let (ids, alignment) = aligned(&tokenizer, "Hello world");
    assert_eq!(tokenizer.bytes(ids[0]), b" Hello");
    assert!(alignment.has_phantom_space(0) && !alignment.has_phantom_space(1));
    assert_eq!((alignment.range(0), alignment.range(1)), (0..5, 5..11));
    let other = tokenizer.encode("Good").unwrap()[0];
    assert_eq!(tokenizer.bytes(other), b" Good");
    assert_eq!(tokenizer.replacement_bytes(&alignment, 0, other), b"Good");
    assert_eq!(tokenizer.replacement_bytes(&alignment, 1, other), b" Good");
    assert!(tokenizer.allowed_replacement(&alignment, 0, other) && alignment.droppable(0));
    // Real leading spaces are the text's.
    let (_, alignment) = aligned(&tokenizer, "  Hello");
    assert!(alignment.has_phantom_space(0));
}

#[test]
fn tokens_of_another_text_do_not_align() {
    for (path, _) in REAL {
        let Some(tokenizer) = real(path) else { return };
        let ids = tokenizer.encode("one two").unwrap();
        for other in ["one", "one two three", "one twx", "", "ONE two"] {
            assert_eq!(tokenizer.align(other, &ids), None, "{path} {other:?}");
        }
        assert_eq!(tokenizer.align("one two", &[u32::MAX]), None);
    }
}

#[test]
fn prefixes_are_those_of_the_post_processors() {
    let expected: [&[u32]; 6] = [&[], &[], &[1], &[], &[], &[0]];
    for ((path, _), expected) in REAL.into_iter().zip(expected) {
        let Some(tokenizer) = real(path) else { return };
        assert_eq!(tokenizer.prefix(), expected, "{path}");
        assert!(expected.iter().all(|&id| tokenizer.is_special(id)));
        let len = [50_257, 50_277, 32_003, 128_256, 151_669, 4_096]
            [REAL.iter().position(|real| real.0 == path).unwrap()];
        assert_eq!(tokenizer.len(), len, "{path}");
    }
}

/// Any set of replacements and drops that the rule allows leaves valid UTF-8.
#[test]
fn every_combination_of_allowed_edits_is_utf8() {
    for (path, _) in REAL {
        let Some(tokenizer) = real(path) else { return };
        let mut runner =
            TestRunner::new(Config { cases: 1000, failure_persistence: None, ..Config::default() });
        let len = tokenizer.len() as u32;
        let choices = prop::collection::vec((any::<bool>(), prop::collection::vec(0..len, 8)), 1..16);
        let outcome = runner.run(&(text(), choices), |(text, choices)| {
            let (_, alignment) = aligned(&tokenizer, &text);
            let mut out = Vec::new();
            for position in 0..alignment.len() {
                let (drop, ids) = &choices[position % choices.len()];
                let new = ids.iter().find(|&&id| tokenizer.allowed_replacement(&alignment, position, id));
                match new {
                    _ if *drop && alignment.droppable(position) => {}
                    Some(&id) => out.extend(tokenizer.replacement_bytes(&alignment, position, id)),
                    None => out.extend(&text.as_bytes()[alignment.range(position)]),
                }
            }
            prop_assert!(std::str::from_utf8(&out).is_ok(), "{:?}", out);
            Ok(())
        });
        outcome.unwrap_or_else(|error| panic!("{path}: {error}"));
    }
}
