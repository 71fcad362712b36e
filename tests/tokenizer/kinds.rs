//! Small tokenizers of each supported kind, and the corners of their added tokens and prefix spaces.

use serde_json::{Value, json};
use toedit::tokenizer::{Alignment, Tokenizer};

use crate::common::{
    added, aligned, byte_level, byte_level_json, fixed_text, load, load_json, metaspace_json,
};

/// Positions with a phantom space.
fn phantoms(alignment: &Alignment) -> Vec<usize> {
    (0..alignment.len()).filter(|&position| alignment.has_phantom_space(position)).collect()
}

fn tokenize<'a>(tokenizer: &Tokenizer, text: &'a str) -> (Vec<&'a str>, Alignment) {
    let alignment = aligned(tokenizer, text).1;
    ((0..alignment.len()).map(|position| &text[alignment.range(position)]).collect(), alignment)
}

fn byte_level_with(path: &str, value: Value) -> Tokenizer {
    let mut json = byte_level_json();
    *json.pointer_mut(path).unwrap() = value;
    load_json(&json)
}

#[test]
fn one_tokenizer_serves_many_threads() {
    let tokenizer = load_json(&byte_level_json());
    let expected = tokenizer.encode("he he").unwrap();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| tokenizer.encode("he he").unwrap())).collect();
        assert!(threads.into_iter().all(|thread| thread.join().unwrap() == expected));
    });
}

#[test]
fn tokens_of_the_byte_alphabet_are_bytes() {
    let tokenizer = load_json(&byte_level_json());
    for byte in 0..=255u8 {
        assert_eq!(tokenizer.bytes(u32::from(byte)), [byte], "{:?}", byte_level(byte));
    }
    assert_eq!((tokenizer.bytes(256), tokenizer.bytes(257)), (&b"he"[..], &b" h"[..]));
    assert_eq!(tokenizer.bytes(258), b"<end>");
    assert!(tokenizer.is_special(258) && !tokenizer.is_special(257) && !tokenizer.is_special(259));
    assert_eq!(tokenizer.bytes(259), b"");
    assert_eq!(tokenizer.len(), 259);
}

#[test]
fn metaspace_tokens_are_spaces_and_fallback_bytes() {
    let tokenizer = load_json(&metaspace_json("never"));
    for byte in 0..=255u8 {
        assert_eq!(tokenizer.bytes(u32::from(byte)), [byte]);
    }
    assert_eq!((tokenizer.bytes(256), tokenizer.bytes(259)), (&b" "[..], &b" h"[..]));
}

#[test]
fn holes_are_never_allowed() {
    let mut json = byte_level_json();
    json["model"]["vocab"]["xy"] = json!(1000);
    let tokenizer = load_json(&json);
    assert_eq!((tokenizer.len(), tokenizer.bytes(1000), tokenizer.bytes(900)), (1001, &b"xy"[..], &b""[..]));
    let alignment = aligned(&tokenizer, "a").1;
    assert!(tokenizer.allowed_replacement(&alignment, 0, 1000));
    assert!(!tokenizer.allowed_replacement(&alignment, 0, 900));
    assert!(!tokenizer.allowed_replacement(&alignment, 0, 0xC3), "half a character");
    assert!(!tokenizer.allowed_replacement(&alignment, 0, 5000));
}

#[test]
fn half_characters_can_be_replaced_by_their_like_only() {
    let tokenizer = load_json(&byte_level_json());
    let alignment = aligned(&tokenizer, "é").1;
    assert_eq!(alignment.len(), 2);
    for (position, same_kind, other) in [(0, 0xC4, 0xE1), (1, 0x80, 0x41)] {
        assert!(tokenizer.allowed_replacement(&alignment, position, same_kind));
        assert!(!tokenizer.allowed_replacement(&alignment, position, other));
        assert!(!alignment.droppable(position));
    }
}

#[test]
fn prefix_space_at_the_start_and_after_added_tokens() {
    let always = load_json(&metaspace_json("always"));
    let (words, alignment) = tokenize(&always, "he<end>h he");
    assert_eq!(words, ["h", "e", "<end>", "h", " h", "e"]);
    assert_eq!(phantoms(&alignment), [0, 3]);
    let (words, alignment) = tokenize(&always, " he<end> h");
    assert_eq!((words, phantoms(&alignment)), (vec![" h", "e", "<end>", " h"], vec![]));
    let first = load_json(&metaspace_json("first"));
    assert_eq!(phantoms(&tokenize(&first, "h<end>h").1), [0]);
    assert_eq!(phantoms(&tokenize(&first, "<end>h").1), [0; 0]);
    let never = load_json(&metaspace_json("never"));
    assert_eq!(phantoms(&tokenize(&never, "h<end>h").1), [0; 0]);
}

#[test]
fn a_phantom_space_may_be_a_token_of_its_own() {
    let tokenizer = load_json(&metaspace_json("always"));
    let (words, alignment) = tokenize(&tokenizer, "e");
    assert_eq!((words, phantoms(&alignment)), (vec!["", "e"], vec![0]));
    assert!(alignment.droppable(0) && alignment.is_editable(0));
    assert_eq!(tokenizer.replacement_bytes(&alignment, 0, 259), b"h");
    assert_eq!(tokenizer.replacement_bytes(&alignment, 1, 259), b" h");
}

#[test]
fn byte_level_prefix_space() {
    let tokenizer = byte_level_with("/pre_tokenizer/add_prefix_space", json!(true));
    assert_eq!(phantoms(&tokenize(&tokenizer, "he<end>he").1), [0, 3]);
    assert_eq!(phantoms(&tokenize(&tokenizer, " he<end> he").1), [0; 0]);
}

#[test]
fn a_literal_metaspace_is_a_changed_space() {
    for scheme in ["always", "first", "never"] {
        let tokenizer = load_json(&metaspace_json(scheme));
        for text in ["▁h", "e▁h e", "▁", "h▁▁<end>▁e", "<end>▁"] {
            let alignment = aligned(&tokenizer, text).1;
            assert!(fixed_text(text, &alignment).concat().contains('▁'), "{scheme} {text}");
        }
    }
}

#[test]
fn added_tokens_that_swallow_white_space_are_not_editable() {
    let mut json = byte_level_json();
    let mut token = added(259, "<mask>", false);
    token["lstrip"] = json!(true);
    token["rstrip"] = json!(true);
    json["added_tokens"].as_array_mut().unwrap().push(token);
    json["normalizer"] = json!({"type": "NFC"});
    let tokenizer = load_json(&json);
    let (words, alignment) = tokenize(&tokenizer, "h \t<mask>\n he<mask>e");
    assert_eq!(words, ["h", " \t<mask>\n ", "he", "<mask>", "e"]);
    assert_eq!(fixed_text("h \t<mask>\n he<mask>e", &alignment), [" \t<mask>\n "]);
    let text = "e\u{301} <mask> \u{301}h";
    let alignment = aligned(&tokenizer, text).1;
    assert_eq!(fixed_text(text, &alignment), ["e\u{301}", "", " <mask> "]);
}

#[test]
fn other_normalizers_are_followed_piece_by_piece() {
    let sequence = json!({"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Lowercase"}]});
    let tokenizer = byte_level_with("/normalizer", sequence);
    for (text, fixed) in [("he Hx he", " H"), ("x ｶﾞ y", "ｶﾞ"), ("ab ﬁ!", "ﬁ"), ("nothing to do", "")]
    {
        let alignment = aligned(&tokenizer, text).1;
        assert_eq!(fixed_text(text, &alignment).concat(), fixed, "{text}");
    }
    let removing = byte_level_with("/normalizer", json!({"type": "StripAccents"}));
    for text in ["\u{301}he", "h\u{301}e\u{301}", "he \u{301}"] {
        let alignment = aligned(&removing, text).1;
        assert!(fixed_text(text, &alignment).concat().contains('\u{301}'), "{text:?}");
    }
}

#[test]
fn texts_that_a_normalizer_changes_as_a_whole_do_not_align() {
    let strip = json!({"type": "Strip", "strip_left": true, "strip_right": true});
    let tokenizer = byte_level_with("/normalizer", strip);
    let ids = tokenizer.encode("  h he").unwrap();
    assert_eq!(tokenizer.align("  h he", &ids), None);
    assert!(tokenizer.align("h he", &ids).is_some());
}

#[test]
fn kinds_without_bytes_are_refused_by_name() {
    let mut json = byte_level_json();
    json["decoder"] = json!({"type": "WordPiece", "prefix": "##", "cleanup": true});
    assert!(load(json.to_string().as_bytes()).unwrap_err().to_string().contains("`WordPiece`"));
    json["decoder"] = json!({"type": "Fuse"});
    json["pre_tokenizer"] = json!({"type": "Whitespace"});
    assert!(load(json.to_string().as_bytes()).unwrap_err().to_string().contains("`Fuse`"));
    json["decoder"] = Value::Null;
    assert!(load(json.to_string().as_bytes()).unwrap_err().to_string().contains("`none`"));
}

#[test]
fn truncation_and_padding_of_the_file_are_off() {
    let mut json = byte_level_json();
    json["truncation"] =
        json!({"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0});
    json["padding"] = json!({"strategy": {"Fixed": 50}, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "!"});
    let tokenizer = load_json(&json);
    assert_eq!(aligned(&tokenizer, "xyzzy").0.len(), 5);
}
