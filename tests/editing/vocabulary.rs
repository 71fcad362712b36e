//! Embeddings with more rows than the tokenizer has tokens.

use std::io::Write;

use serde_json::json;
use toedit::edit::{Editor, Sampler, Vocabulary};
use toedit::tokenizer::Tokenizer;

use crate::common::editing::{IdDocument, edit_ids, packed, with_rules};
use crate::sharp::{SHARP, VOCABULARY};

/// Ids below this have a token, but for [`HOLE`].
const TOKENS: u32 = 90;
const HOLE: u32 = 40;
/// Marked special by the tokenizer alone.
const SPECIAL: u32 = 89;

/// A byte-level tokenizer of single printable characters.
fn small_tokenizer() -> Tokenizer {
    let character = |id: u32| char::from(b'!' + id as u8).to_string();
    let mut vocab: serde_json::Map<_, _> =
        (0..SPECIAL).filter(|id| *id != HOLE).map(|id| (character(id), json!(id))).collect();
    vocab.insert("<end>".into(), json!(SPECIAL));
    let byte_level =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let special = json!({"id": SPECIAL, "content": "<end>", "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": false, "special": true});
    let file = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [special], "normalizer": null,
        "pre_tokenizer": byte_level, "post_processor": null, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "vocab": vocab, "merges": []},
    });
    let mut written = tempfile::NamedTempFile::new().unwrap();
    written.write_all(file.to_string().as_bytes()).unwrap();
    Tokenizer::from_file(written.path()).unwrap()
}

/// How often each id is drawn in many documents at a temperature that makes all ids likely.
fn drawn(vocabulary: &Vocabulary, sampler: Sampler) -> Vec<usize> {
    let config = with_rules(&["p<=1:resample"]).with_sampler(sampler).unwrap().with_temperature(1e3).unwrap();
    let editor = Editor::new(&SHARP.model, packed(&SHARP.model, 1024), config).unwrap();
    let documents: Vec<_> = (0..20)
        .flat_map(|stream| SHARP.documents.iter().map(move |ids| IdDocument::new(ids, stream)))
        .collect();
    let mut counts = vec![0; VOCABULARY as usize];
    for change in edit_ids(&editor, vocabulary, &documents).iter().flat_map(|edited| &edited.changes) {
        counts[change.new_id.unwrap() as usize] += 1;
    }
    counts
}

#[test]
fn ids_without_a_token_are_never_drawn() {
    let tokenizer = small_tokenizer();
    assert_eq!(tokenizer.len(), TOKENS as usize);
    let config = SHARP.model.config();
    let (with, without) = (Vocabulary::new(config, Some(&tokenizer)), Vocabulary::new(config, None));
    let has_token = |id: u32| id < SPECIAL && id != HOLE && !config.special_ids.contains(&id);
    for sampler in [Sampler::TopK(100), Sampler::TopP(0.99), Sampler::Full, Sampler::Rejection] {
        let counts = drawn(&with, sampler);
        for id in 0..VOCABULARY {
            assert!(counts[id as usize] == 0 || has_token(id), "{sampler}: {id} was drawn");
            assert_eq!(with.is_drawable(id), has_token(id));
        }
        let beyond: usize = drawn(&without, sampler)[TOKENS as usize..].iter().sum();
        assert!(beyond > 0, "{sampler}: the vocabulary alone keeps no id out");
    }
    let (narrow, wide) = (drawn(&with, Sampler::Full), drawn(&without, Sampler::Full));
    assert!((0..VOCABULARY).filter(|id| has_token(*id)).all(|id| narrow[id as usize] > 0));
    assert!([HOLE, SPECIAL, VOCABULARY - 1].iter().all(|id| wide[*id as usize] > 0));
}

#[test]
fn ids_beyond_the_embedding_are_special() {
    let vocabulary = Vocabulary::new(SHARP.model.config(), None);
    assert!(vocabulary.is_special(VOCABULARY) && !vocabulary.is_drawable(VOCABULARY));
    assert!(vocabulary.is_special(u32::MAX) && !vocabulary.is_drawable(u32::MAX));
}
