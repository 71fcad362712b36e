use std::ops::Range;

use proptest::prelude::*;
use toedit::data::TextEdit;
use toedit::edit::splice::{Replacement, splice};

/// Applies character edits one by one, from the last, as a JSON writer would.
fn apply(text: &str, edits: &[TextEdit]) -> String {
    let mut text = text.to_owned();
    edits.iter().rev().for_each(|edit| text.replace_range(edit.start..edit.end, &edit.new));
    text
}

/// A text as tokens of whole characters or of parts of them, with a replacement or none for each.
fn tokens() -> impl Strategy<Value = Vec<(Vec<u8>, Option<Vec<u8>>)>> {
    let word = "[a-c é€🙂]{0,3}".prop_map(String::into_bytes);
    let whole = (word.clone(), prop::option::of(word)).prop_map(|token| vec![token]);
    // Tokens that cut a three-byte character, and replacements that leave the decoder in the same states.
    let cut = (any::<[bool; 2]>(), "[a-cé€]{0,2}").prop_map(|(replace, word)| {
        let first = [word.as_bytes(), b"\xe1\x84"].concat();
        let second = [b"\x80", word.as_bytes()].concat();
        vec![
            (b"\xe2\x82".to_vec(), replace[0].then_some(first)),
            (b"\xac".to_vec(), replace[1].then_some(second)),
        ]
    });
    prop::collection::vec(prop_oneof![whole, cut], 0..12).prop_map(|tokens| tokens.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn only_replaced_bytes_change(tokens in tokens()) {
        let text = String::from_utf8(tokens.iter().flat_map(|(old, _)| old.clone()).collect()).unwrap();
        let expected: Vec<u8> = tokens.iter().flat_map(|(old, new)| new.as_ref().unwrap_or(old).clone()).collect();
        let (mut start, mut replacements) = (0, Vec::new());
        for (old, new) in &tokens {
            let range = start..start + old.len();
            start = range.end;
            replacements.extend(new.as_ref().map(|new| Replacement { range, new }));
        }
        let spliced = splice(&text, &replacements).unwrap();
        prop_assert_eq!(spliced.text.as_bytes(), &expected);
        prop_assert_eq!(apply(&text, &spliced.edits), spliced.text.as_str());
        for (range, replacement) in spliced.ranges.iter().zip(&replacements) {
            prop_assert_eq!(&spliced.text.as_bytes()[range.clone()], replacement.new);
        }
        prop_assert!(spliced.edits.windows(2).all(|pair| pair[0].end <= pair[1].start));
    }

    #[test]
    fn ranges_of_any_kind_give_a_text_or_an_error(
        text in "[a€]{0,6}", ranges in prop::collection::vec((0usize..20, 0usize..20), 0..4), new in prop::collection::vec(any::<u8>(), 0..3),
    ) {
        let replacements: Vec<_> =
            ranges.iter().map(|&(start, end)| Replacement { range: start..end, new: &new }).collect();
        if let Ok(spliced) = splice(&text, &replacements) {
            prop_assert_eq!(apply(&text, &spliced.edits), spliced.text);
        }
    }
}

fn edit(range: Range<usize>, new: &str) -> TextEdit {
    TextEdit { start: range.start, end: range.end, new: new.into() }
}

#[test]
fn edits_inside_one_character_are_merged() {
    // € is e2 82 ac: its first two bytes become those of another character, its last byte and an x that of a third.
    let replacements =
        [Replacement { range: 1..3, new: b"\xe1\x84" }, Replacement { range: 3..4, new: b"\x80x" }];
    let both = splice("a€b", &replacements).unwrap();
    assert_eq!((both.text.as_str(), &both.ranges[..]), ("a\u{1100}xb", &[1..3, 3..5][..]));
    assert_eq!(both.edits, [edit(1..4, "\u{1100}x")]);
    let one = splice("a€b", &replacements[..1]).unwrap();
    assert_eq!(one.edits, [edit(1..4, "\u{112c}")], "widened to the whole character");
}

#[test]
fn edits_that_only_touch_stay_apart() {
    let spliced =
        splice("abc", &[Replacement { range: 0..1, new: b"" }, Replacement { range: 1..2, new: b"yz" }])
            .unwrap();
    assert_eq!(spliced.text, "yzc");
    assert_eq!(spliced.edits, [edit(0..1, ""), edit(1..2, "yz")]);
    assert_eq!(spliced.ranges, [0..0, 0..2]);
}

#[test]
fn misplaced_and_broken_edits_are_errors() {
    let replace = |ranges: &[(usize, usize)], new: &[u8]| {
        let replacements: Vec<_> =
            ranges.iter().map(|&(start, end)| Replacement { range: start..end, new }).collect();
        splice("a€b", &replacements).map_err(|error| error.to_string())
    };
    for ranges in [&[(2, 1)][..], &[(0, 2), (1, 3)], &[(1, 9)], &[(9, 9)], &[(3, 4), (0, 1)]] {
        assert!(replace(ranges, b"x").unwrap_err().contains("expected a range from byte"), "{ranges:?}");
    }
    assert!(replace(&[(0, 1)], b"\xff").unwrap_err().contains("break a character at byte 0"));
    assert!(replace(&[(1, 2)], b"").unwrap_err().contains("break a character"));
}
