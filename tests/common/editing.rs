//! Documents of ids for the editor, and texts that trip tokenizers.

use proptest::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use toedit::Model;
use toedit::edit::{Constraint, EditConfig, EditInput, Edited, Editor, IdConstraint, Rule, Vocabulary};
use toedit::score::{ScoreConfig, Sequence};

/// A document of ids.
#[derive(Clone, Debug, PartialEq)]
pub struct IdDocument {
    pub context: Vec<u32>,
    pub ids: Vec<u32>,
    pub stream: u64,
}

impl IdDocument {
    pub fn new(ids: &[u32], stream: u64) -> Self {
        Self { context: Vec::new(), ids: ids.to_vec(), stream }
    }

    pub fn sequence(&self) -> Sequence<'_> {
        Sequence::new(&self.context, &self.ids)
    }
}

/// The defaults with the rules given.
pub fn with_rules(rules: &[&str]) -> EditConfig {
    EditConfig::from_rules(rules.iter().map(|rule| rule.parse::<Rule>().unwrap()).collect())
}

/// The defaults, with packs of `batch_tokens` tokens.
pub fn packed(model: &Model, batch_tokens: usize) -> ScoreConfig {
    ScoreConfig { batch_tokens, ..ScoreConfig::new(model).unwrap() }
}

/// Edits documents that may hold any token but special ones.
pub fn edit_ids(editor: &Editor, vocabulary: &Vocabulary, documents: &[IdDocument]) -> Vec<Edited> {
    let constraints: Vec<_> =
        documents.iter().map(|document| IdConstraint::new(vocabulary, None, &document.ids)).collect();
    edit_under(editor, &constraints, documents)
}

/// Edits documents, each with its own constraint.
pub fn edit_under<C: Constraint>(
    editor: &Editor,
    constraints: &[C],
    documents: &[IdDocument],
) -> Vec<Edited> {
    let inputs: Vec<_> = documents
        .iter()
        .zip(constraints)
        .map(|(document, constraint)| EditInput {
            sequence: document.sequence(),
            stream: document.stream,
            constraint,
        })
        .collect();
    editor.edit(&inputs).unwrap()
}

pub fn pool(threads: usize) -> ThreadPool {
    ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}

/// Pieces of text that normalizers, splitters and byte fallback treat each in its own way.
const PIECES: &[&str] = &[
    " ",
    "   ",
    "\n",
    "\r\n",
    "\t",
    "\u{a0}",
    "\u{3000}",
    "\u{0}",
    "\u{feff}",
    "\u{fffd}", // white space, controls
    "👩‍👩‍👧‍👦",
    "🏳️‍🌈",
    "👍🏽",
    "🇩🇪",
    "🧿",
    "\u{200d}",
    "𝔘𝔫𝔦",
    "𓀀𓁐", // emoji, astral planes
    "cafe\u{301}",
    "na\u{308}ive",
    "q\u{323}\u{307}",
    "\u{301}",
    "\u{1112}\u{1161}\u{11ab}",
    "각",
    "Å",
    "ﬁ", // marks
    "שלום",
    "مرحبا",
    "\u{202e}",
    "हिन्दी",
    "ไทย",
    "日本語",
    "ｶﾞ",
    "ꙮ",
    "ᚠᚢᚦ", // scripts
    "▁",
    "▁▁x",
    "<0x41>",
    "<|endoftext|>",
    "<s>",
    "|||EMAIL_ADDRESS|||", // what tokenizers use themselves
    " the",
    "The",
    " of",
    " naïve",
    "'s",
    " 123",
    "4096",
    "...",
    "fn main() {\n    ",
    "=====",
];

/// Any text, rich in such pieces.
pub fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        6 => prop::sample::select(PIECES).prop_map(str::to_owned),
        2 => any::<char>().prop_map(String::from),
        1 => "[a-zA-Z ,.]{1,12}",
        1 => "\\PC{0,4}",
    ];
    prop::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
}
