//! The embedded model on its sample texts: encoding, aligning, editing, splicing, undoing.

use std::fs;
use std::path::PathBuf;

use toedit::edit::provenance::revert_text;
use toedit::edit::text::AlignedText;
use toedit::edit::{Editor, TextConstraint, Vocabulary};
use toedit::random::text_stream;
use toedit::tokenizer::{Alignment, Tokenizer};
use toedit::{Dtype, Model, ScoreConfig};

use crate::common::editing::{IdDocument, edit_under, with_rules};
use crate::common::root;

fn assets(name: &str) -> PathBuf {
    root().join("assets").join(name)
}

fn texts() -> Vec<String> {
    let records = fs::read_to_string(assets("sample.jsonl")).unwrap();
    let text =
        |line| serde_json::from_str::<serde_json::Value>(line).unwrap()["text"].as_str().unwrap().to_owned();
    let mut texts: Vec<String> = records.lines().map(text).collect();
    // Characters that the vocabulary has only in parts.
    texts.extend(["👩‍👩‍👧‍👦 emoji 🧿🧿🧿🧿", "日本語 日本語 日本語", "שלום عالم e\u{301}\r\n"].map(str::to_owned));
    texts
}

#[test]
fn the_sample_is_edited_and_restored() {
    let model = Model::load(assets("tiny"), Dtype::F32).unwrap();
    let tokenizer = Tokenizer::from_file(assets("tiny/tokenizer.json")).unwrap();
    let vocabulary = Vocabulary::new(model.config(), Some(&tokenizer));
    let texts = texts();
    let prepare = |text: &String| {
        let ids = tokenizer.encode(text).unwrap();
        let alignment = tokenizer.align(text, &ids).unwrap();
        let context = tokenizer.prefix().to_vec();
        (IdDocument { context, ..IdDocument::new(&ids, text_stream(text, None)) }, alignment)
    };
    let (documents, alignments): (Vec<IdDocument>, Vec<Alignment>) = texts.iter().map(prepare).unzip();
    let constraints: Vec<_> = documents
        .iter()
        .zip(&alignments)
        .map(|(document, alignment)| TextConstraint {
            vocabulary: &vocabulary,
            tokenizer: &tokenizer,
            ids: &document.ids,
            alignment,
        })
        .collect();
    for rules in [&["p<=1:resample"][..], &["p>=0.5:resample", "p<0.001:drop"]] {
        let config = with_rules(rules);
        let editor = Editor::new(&model, ScoreConfig::new(&model).unwrap(), config.clone()).unwrap();
        let edited = edit_under(&editor, &constraints, &documents);
        let mut inside_characters = 0;
        for ((text, alignment), edited) in texts.iter().zip(&alignments).zip(&edited) {
            let aligned = AlignedText { tokenizer: &tokenizer, text, alignment };
            let spliced = aligned.splice(&edited.changes).unwrap();
            let provenance = aligned.provenance(&edited.changes, &spliced, &config);
            assert_eq!(&revert_text(&spliced.text, &provenance).unwrap(), text);
            assert!(edited.counts.changed > 0 || rules.len() == 2, "{text:?}");
            let cut =
                |change: &&toedit::edit::Change| !text.is_char_boundary(alignment.range(change.position).end);
            inside_characters += edited.changes.iter().filter(cut).count();
        }
        assert!(inside_characters > 0 || rules.len() == 2);
    }
}
