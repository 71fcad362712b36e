//! Tokenizers and texts for the tests.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use toedit::Result;
use toedit::tokenizer::{Alignment, Tokenizer};

/// Tokenizers of real models, with whether a normalizer can change the text.
pub const REAL: [(&str, bool); 6] = [
    ("tokenizers/gpt2/tokenizer.json", false),
    ("tokenizers/gpt-neox/tokenizer.json", true),
    ("tokenizers/llama2/tokenizer.json", true),
    ("tokenizers/llama3/tokenizer.json", false),
    ("tokenizers/qwen3/tokenizer.json", true),
    ("models/tiny/tokenizer.json", false),
];

/// A file of the shared test data; `None`, with a note, where there is none.
pub fn shared(path: &str) -> Option<PathBuf> {
    match std::env::var_os("TOEDIT_SHARED") {
        Some(root) => Some(Path::new(&root).join(path)),
        None => {
            eprintln!("TOEDIT_SHARED is not set: skipping {path}");
            None
        }
    }
}

/// A real tokenizer of the shared test data.
pub fn real(path: &str) -> Option<Tokenizer> {
    Some(Tokenizer::from_file(&shared(path)?).unwrap())
}

/// Loads a tokenizer from the bytes of a file.
pub fn load(bytes: &[u8]) -> Result<Tokenizer> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file.flush().unwrap();
    Tokenizer::from_file(file.path())
}

pub fn load_json(json: &Value) -> Tokenizer {
    load(json.to_string().as_bytes()).unwrap()
}

/// The character that GPT-2's alphabet has for a byte.
pub fn byte_level(byte: u8) -> char {
    let printable = |byte: &u8| matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    if printable(&byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|byte| !printable(byte)).count() as u32;
    char::from_u32(0x100 + before).unwrap()
}

/// A byte-level tokenizer: the 256 bytes, `he` and ` h`.
pub fn byte_level_json() -> Value {
    let mut vocab: serde_json::Map<String, Value> =
        (0..=255u8).map(|byte| (byte_level(byte).to_string(), json!(byte))).collect();
    vocab.insert("he".into(), json!(256));
    vocab.insert("Ġh".into(), json!(257));
    let byte_level =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [added(258, "<end>", true)],
        "normalizer": null, "pre_tokenizer": byte_level, "post_processor": null, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "vocab": vocab, "merges": ["h e", "Ġ h"]},
    })
}

/// A metaspace tokenizer with byte fallback: the 256 bytes, `▁`, `h`, `e` and `▁h`.
pub fn metaspace_json(prepend_scheme: &str) -> Value {
    let mut vocab: serde_json::Map<String, Value> =
        (0..=255u8).map(|byte| (format!("<0x{byte:02X}>"), json!(byte))).collect();
    for (id, token) in ["▁", "h", "e", "▁h"].into_iter().enumerate() {
        vocab.insert(token.into(), json!(256 + id));
    }
    let metaspace =
        json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": prepend_scheme, "split": false});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [added(260, "<end>", true)],
        "normalizer": null, "pre_tokenizer": metaspace, "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [metaspace, {"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": true, "vocab": vocab, "merges": ["▁ h"]},
    })
}

/// An entry of `added_tokens`.
pub fn added(id: u32, content: &str, special: bool) -> Value {
    json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": special})
}

/// Encodes and aligns, and checks what holds of every alignment.
pub fn aligned(tokenizer: &Tokenizer, text: &str) -> (Vec<u32>, Alignment) {
    let ids = tokenizer.encode(text).unwrap();
    let alignment = tokenizer.align(text, &ids).unwrap_or_else(|| panic!("no alignment of {text:?} {ids:?}"));
    check(tokenizer, text, &ids, &alignment);
    (ids, alignment)
}

fn check(tokenizer: &Tokenizer, text: &str, ids: &[u32], alignment: &Alignment) {
    assert_eq!(alignment.len(), ids.len());
    assert_eq!(alignment.states().len(), ids.len() + 1);
    let mut end = 0;
    for (position, &id) in ids.iter().enumerate() {
        let range = alignment.range(position);
        assert_eq!(range.start, end, "gap or overlap at {position} of {text:?}");
        end = range.end;
        let states = alignment.states();
        let old = &text.as_bytes()[range];
        assert_eq!(states[position].run(old), states[position + 1], "state at {position} of {text:?}");
        if alignment.is_editable(position) {
            assert_eq!(tokenizer.replacement_bytes(alignment, position, id), old, "{position} of {text:?}");
            assert!(tokenizer.allowed_replacement(alignment, position, id), "{position} of {text:?}");
        } else {
            assert!(!tokenizer.allowed_replacement(alignment, position, id));
            assert!(!alignment.droppable(position));
        }
    }
    assert_eq!(end, text.len(), "{text:?}");
}

/// The text of the tokens that are not editable.
pub fn fixed_text<'a>(text: &'a str, alignment: &Alignment) -> Vec<&'a str> {
    let fixed = (0..alignment.len()).filter(|&position| !alignment.is_editable(position));
    fixed.map(|position| &text[alignment.range(position)]).collect()
}
