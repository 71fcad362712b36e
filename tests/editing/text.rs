//! Editing text by the tokenizers of real models: any set of edits that the constraint allows, without a model.

use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseResult, TestRunner};
use toedit::edit::provenance::{revert_ids, revert_text};
use toedit::edit::text::AlignedText;
use toedit::edit::{Change, Constraint, EditConfig, Edited, TextConstraint, TokenEdit, Vocabulary};
use toedit::model;
use toedit::tokenizer::{Tokenizer, Utf8State};

use crate::common::editing::text;
use crate::common::folders::shared;
use crate::common::root;

/// How many edits of which kind the cases of a tokenizer made.
#[derive(Debug, Default)]
struct Tally {
    changed: Cell<usize>,
    dropped: Cell<usize>,
    /// Tokens that begin or end inside a character.
    split: Cell<usize>,
    /// Tokens of one byte that is no character.
    single_byte: Cell<usize>,
    /// Tokens that begin with the tokenizer's own space, by whether the replacement does.
    phantom: [Cell<usize>; 2],
    not_editable: Cell<usize>,
}

fn count(cell: &Cell<usize>, holds: bool) {
    cell.set(cell.get() + usize::from(holds));
}

/// What to do at a position, if the constraint allows it.
#[derive(Clone, Debug)]
enum Proposal {
    Keep,
    Drop,
    /// The first that may stand there of any ids, parts of characters, and ids of the text itself.
    Replace(Vec<(u8, u32)>),
}

fn proposals() -> impl Strategy<Value = Vec<Proposal>> {
    let proposal = prop_oneof![
        1 => Just(Proposal::Keep),
        1 => Just(Proposal::Drop),
        4 => prop::collection::vec((0..3u8, any::<u32>()), 24).prop_map(Proposal::Replace),
    ];
    prop::collection::vec(proposal, 1..20)
}

/// A tokenizer, with what editing needs besides.
struct Bench {
    tokenizer: Tokenizer,
    vocabulary: Vocabulary,
    ids: Vec<u32>,
    /// Ids of tokens that are not whole characters.
    parts: Vec<u32>,
    tally: Tally,
}

impl Bench {
    fn new(tokenizer: Tokenizer) -> Self {
        let folder = root().join("assets/tiny");
        let config = model::Config::from_file(&folder.join("config.json")).unwrap();
        let config = model::Config { vocab_size: tokenizer.len() + 60, special_ids: Vec::new(), ..config };
        let vocabulary = Vocabulary::new(&config, Some(&tokenizer));
        let ids: Vec<u32> = (0..config.vocab_size as u32).collect();
        let is_part = |id: &u32| {
            let bytes = tokenizer.bytes(*id);
            !bytes.is_empty() && Utf8State::START.run(bytes) != Utf8State::START
        };
        let parts = ids.iter().copied().filter(is_part).collect();
        Self { vocabulary, ids, parts, tokenizer, tally: Tally::default() }
    }

    fn propose(&self, constraint: &TextConstraint, proposals: &[Proposal]) -> Vec<Change> {
        let ids = constraint.ids;
        let change = |position: usize, new_id| Change {
            position,
            old_id: ids[position],
            new_id,
            p_old: 1.0,
            p_new: None,
        };
        let editable = (0..ids.len()).filter(|position| constraint.editable(*position));
        editable
            .filter_map(|position| match &proposals[position % proposals.len()] {
                Proposal::Keep => None,
                Proposal::Drop => constraint.droppable(position).then(|| change(position, None)),
                Proposal::Replace(choices) => choices
                    .iter()
                    .map(|(kind, choice)| {
                        let pool = [&self.ids, &self.parts, ids][usize::from(*kind)];
                        pool[*choice as usize % pool.len()]
                    })
                    .find(|id| *id != ids[position] && constraint.allowed(position, *id))
                    .map(|id| change(position, Some(id))),
            })
            .collect()
    }

    /// Edits `text` as proposed, and checks all that comes out.
    fn check(&self, text: &str, proposals: &[Proposal]) -> TestCaseResult {
        let tokenizer = &self.tokenizer;
        let ids = tokenizer.encode(text).unwrap();
        let alignment = tokenizer.align(text, &ids).unwrap();
        let constraint =
            TextConstraint { vocabulary: &self.vocabulary, tokenizer, ids: &ids, alignment: &alignment };
        let edited = Edited { changes: self.propose(&constraint, proposals), ..Edited::default() };
        let aligned = AlignedText { tokenizer, text, alignment: &alignment };
        self.count(&aligned, &edited.changes);

        let spliced = aligned.splice(&edited.changes).unwrap();
        prop_assert_eq!(spliced.text.as_bytes(), joined(&aligned, &edited.changes));
        let mut patched = text.to_owned();
        for edit in spliced.edits.iter().rev() {
            patched.replace_range(edit.start..edit.end, &edit.new);
        }
        prop_assert_eq!(&patched, &spliced.text);

        let provenance = aligned.provenance(&edited.changes, &spliced, &EditConfig::default());
        let written = serde_json::to_string(&provenance).unwrap();
        let read: Vec<TokenEdit> = serde_json::from_str(&written).unwrap();
        prop_assert_eq!(revert_text(&spliced.text, &read).unwrap(), text);
        prop_assert_eq!(revert_ids(&edited.apply(&ids), &read).unwrap(), ids);
        Ok(())
    }

    fn count(&self, aligned: &AlignedText, changes: &[Change]) {
        let (alignment, tally) = (aligned.alignment, &self.tally);
        let fixed = (0..alignment.len()).filter(|position| !alignment.is_editable(*position)).count();
        tally.not_editable.set(tally.not_editable.get() + fixed);
        for change in changes {
            let range = alignment.range(change.position);
            let Some(new) = change.new_id else {
                count(&tally.dropped, true);
                continue;
            };
            assert!((new as usize) < self.tokenizer.len() && !self.tokenizer.is_special(new));
            assert!(!self.tokenizer.is_special(change.old_id));
            count(&tally.changed, true);
            let whole = [range.start, range.end].iter().all(|at| aligned.text.is_char_boundary(*at));
            count(&tally.split, !whole);
            count(&tally.single_byte, range.len() == 1 && aligned.text.as_bytes()[range.start] >= 0x80);
            let spaced = self.tokenizer.bytes(new).starts_with(b" ");
            count(&tally.phantom[usize::from(spaced)], alignment.has_phantom_space(change.position));
        }
    }

    /// A thousand texts, and sets of proposals for them.
    fn run(self) -> Tally {
        let mut runner =
            TestRunner::new(Config { cases: 1000, failure_persistence: None, ..Config::default() });
        let outcome = runner.run(&(text(), proposals()), |(text, proposals)| self.check(&text, &proposals));
        outcome.unwrap_or_else(|error| panic!("{:?}: {error}", self.tokenizer));
        eprintln!("{:?}: {:?}", self.tokenizer, self.tally);
        self.tally
    }
}

/// The text with the changed tokens' bytes in the places of the old ones, token by token.
fn joined(aligned: &AlignedText, changes: &[Change]) -> Vec<u8> {
    let AlignedText { tokenizer, text, alignment } = *aligned;
    let mut bytes: Vec<u8> = Vec::new();
    let mut changes = changes.iter().peekable();
    for position in 0..alignment.len() {
        match changes.next_if(|change| change.position == position).map(|change| change.new_id) {
            None => bytes.extend(&text.as_bytes()[alignment.range(position)]),
            Some(None) => {}
            Some(Some(id)) => {
                let own = tokenizer.bytes(id);
                let stripped = own.strip_prefix(b" ").filter(|_| alignment.has_phantom_space(position));
                bytes.extend(stripped.unwrap_or(own));
            }
        }
    }
    bytes
}

/// Runs a tokenizer of the shared test data and checks that edits of each kind took place.
fn run(name: &str) -> Option<Tally> {
    let path = shared(&format!("tokenizers/{name}/tokenizer.json"))?;
    let tally = Bench::new(Tokenizer::from_file(path).unwrap()).run();
    assert!(tally.changed.get() > 5000 && tally.dropped.get() > 1000, "{name}: {tally:?}");
    assert!(tally.split.get() > 100 && tally.single_byte.get() > 100, "{name}: {tally:?}");
    Some(tally)
}

#[test]
fn gpt2() {
    let Some(tally) = run("gpt2") else { return };
    assert_eq!(tally.not_editable.get(), 0);
}

#[test]
fn gpt_neox() {
    let Some(tally) = run("gpt-neox") else { return };
    assert!(tally.not_editable.get() > 0, "no text was normalised");
}

#[test]
fn llama2_with_its_own_space() {
    let Some(tally) = run("llama2") else { return };
    assert!(tally.phantom.iter().all(|count| count.get() > 50), "{tally:?}");
}

#[test]
fn llama3() {
    let Some(tally) = run("llama3") else { return };
    assert_eq!(tally.not_editable.get(), 0);
}

#[test]
fn qwen3() {
    let Some(tally) = run("qwen3") else { return };
    assert!(tally.not_editable.get() > 0, "no text was normalised");
}

#[test]
fn tiny() {
    let path = root().join("assets/tiny/tokenizer.json");
    let tally = Bench::new(Tokenizer::from_file(path).unwrap()).run();
    assert!(tally.changed.get() > 5000 && tally.split.get() > 100, "{tally:?}");
}
