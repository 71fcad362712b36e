//! Files that are not a usable `tokenizer.json`: an error that names the file, never a panic.

use proptest::prelude::*;
use serde_json::{Value, json};
use toedit::tokenizer::Tokenizer;

use crate::common::{byte_level_json, load, metaspace_json};

/// Loading must give an error about the file.
fn refused(bytes: &[u8]) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let message = Tokenizer::from_file(file.path()).unwrap_err().to_string();
    assert!(message.contains(file.path().to_str().unwrap()), "{message}");
    message
}

/// A valid tokenizer with one value replaced.
fn with(pointer: &str, value: Value) -> Vec<u8> {
    let mut json = byte_level_json();
    *json.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value;
    json.to_string().into_bytes()
}

#[test]
fn not_a_tokenizer_at_all() {
    for text in [
        "",
        "{}",
        "[]",
        "null",
        "12",
        "\"text\"",
        "{\"model\":{}}",
        "{\"model\":{\"vocab\":7}}",
        "\u{feff}{}",
    ] {
        refused(text.as_bytes());
    }
    refused(b"\xff\xfe{}");
    refused("[".repeat(100_000).as_bytes());
    let mut bytes = byte_level_json().to_string().into_bytes();
    bytes.push(b'x');
    refused(&bytes);
}

#[test]
fn cut_anywhere() {
    let bytes = byte_level_json().to_string().into_bytes();
    for end in (0..bytes.len()).step_by(97) {
        refused(&bytes[..end]);
    }
}

#[test]
fn ids_far_beyond_the_entries() {
    for id in
        [json!(10_000), json!(9_999_999), json!(u32::MAX), json!(u64::MAX), json!(-1), json!(1.5), json!("7")]
    {
        refused(&with("/model/vocab/he", id.clone()));
        refused(&with("/added_tokens/0/id", id));
    }
    assert!(refused(&with("/model/vocab/he", json!(10_000))).contains("id 10000"));
    assert!(load(&with("/model/vocab/he", json!(4_000))).is_ok());
}

/// The crate panics on anything but JSON inside the decoder.
#[test]
fn broken_decoders() {
    let text = byte_level_json().to_string();
    let at = text.find("\"decoder\":{").unwrap() + "\"decoder\":{".len();
    for byte in [0xFF, b'!'] {
        let mut bytes = text.clone().into_bytes();
        bytes[at] = byte;
        refused(&bytes);
    }
}

/// Valid JSON that makes the crate panic, in loading and in encoding.
#[test]
fn panics_become_errors() {
    let template = |piece: Value| {
        json!({"type": "TemplateProcessing", "single": [piece, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [], "special_tokens": {}})
    };
    for bytes in [
        with("/normalizer", json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"})),
        with("/normalizer", json!({"type": "Precompiled"})),
        with("/model/merges", json!(["he he"])),
        with("/post_processor", template(json!({"SpecialToken": {"id": "<end>", "type_id": 0}}))),
        with("/post_processor", template(json!({"Sequence": {"id": "B", "type_id": 0}}))),
    ] {
        let message = refused(&bytes);
        assert!(message.contains("panicked"), "{message}");
    }
}

#[test]
fn parts_that_make_no_sense() {
    refused(&with("/version", json!("9.9")));
    refused(&with("/model/type", json!("Nothing")));
    refused(&with("/model/merges", json!(["h"])));
    refused(&with("/model/merges", json!(["q zz"])));
    refused(&with("/model/vocab", json!({})));
    refused(&with("/decoder", json!({"type": "Nothing"})));
    refused(&with(
        "/pre_tokenizer",
        json!({"type": "Split", "pattern": {"Regex": "(["}, "behavior": "Isolated",
        "invert": false}),
    ));
    refused(&with("/normalizer", json!({"type": "Prepend", "prepend": "x"})));
    assert!(refused(&with("/model/dropout", json!(0.1))).contains("dropout"));
    for field in ["continuing_subword_prefix", "end_of_word_suffix"] {
        assert!(refused(&with(&format!("/model/{field}"), json!("@@"))).contains(field));
    }
}

#[test]
fn post_processors_that_add_unknown_ids_or_lose_the_text() {
    let special = json!({"<end>": {"id": "<end>", "ids": [4_000_000_000u32], "tokens": ["<end>"]}});
    let end = json!({"SpecialToken": {"id": "<end>", "type_id": 0}});
    let text = json!({"Sequence": {"id": "A", "type_id": 0}});
    let template = |single: Value| {
        with(
            "/post_processor",
            json!({"type": "TemplateProcessing", "single": single, "pair": [text, {"Sequence":
            {"id": "B", "type_id": 1}}], "special_tokens": special}),
        )
    };
    assert!(refused(&template(json!([end, text]))).contains("4000000000"));
    refused(&template(json!([end])));
}

#[test]
fn places_that_are_no_file() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Tokenizer::from_file(folder.path()).unwrap_err().to_string().contains("not a regular file"));
    let missing = folder.path().join("tokenizer.json");
    assert!(Tokenizer::from_file(&missing).unwrap_err().to_string().contains("tokenizer.json"));
}

/// Whatever loads must also work.
fn survives(bytes: &[u8]) {
    let Ok(tokenizer) = load(bytes) else { return };
    for text in ["", "he he", "é <end>▁\n"] {
        if let Ok(ids) = tokenizer.encode(text) {
            tokenizer.align(text, &ids);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_bytes(
        metaspace in any::<bool>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..4),
    ) {
        let json = if metaspace { metaspace_json("always") } else { byte_level_json() };
        let mut bytes = json.to_string().into_bytes();
        for (at, byte, printable) in edits {
            let at = at.index(bytes.len());
            bytes[at] = if printable { b"\"{}[],:0129naetrue"[usize::from(byte) % 18] } else { byte };
        }
        survives(&bytes);
    }

    /// One value of the structure becomes another.
    #[test]
    fn mutated_structure(
        metaspace in any::<bool>(),
        place in any::<prop::sample::Index>(),
        value in prop::sample::select(vec![json!(null), json!(0), json!(-1), json!(3_000_000_000u32), json!(""), json!("▁"),
            json!([]), json!({}), json!(true), json!({"type": "NFC"}), json!(["a", "b"])]),
    ) {
        let mut json = if metaspace { metaspace_json("always") } else { byte_level_json() };
        let mut places = Vec::new();
        pointers(&json, String::new(), &mut places);
        *json.pointer_mut(&places[place.index(places.len())]).unwrap() = value;
        survives(json.to_string().as_bytes());
    }
}

/// Places of all values but the vocabulary's, which would crowd out the rest.
fn pointers(value: &Value, at: String, out: &mut Vec<String>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(map) if at != "/model/vocab" => {
            map.iter().map(|(key, value)| (key.clone(), value)).collect()
        }
        Value::Array(array) => {
            array.iter().enumerate().map(|(key, value)| (key.to_string(), value)).collect()
        }
        _ => Vec::new(),
    };
    for (key, child) in children {
        let key = key.replace('~', "~0").replace('/', "~1");
        pointers(child, format!("{at}/{key}"), out);
    }
    out.push(at);
}
