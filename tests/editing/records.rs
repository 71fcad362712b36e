//! Records: prompts and responses, conversations, generations; any edits that the constraint allows, without a model.

use std::fs;
use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;
use toedit::compose::{ComposeConfig, Composer, Record, UNTOLD};
use toedit::data::{Document, Format, Member, Patch};
use toedit::edit::{
    Change, EditConfig, EditInput, Edited, EditedRecord, Editor, Metadata, Prior, RecordEditor, Vocabulary,
    records,
};
use toedit::model::Config;
use toedit::score::{ScoreConfig, Scorer, Sequence};
use toedit::{Dtype, Model, Result};

use crate::common::editing::{text, with_rules};
use crate::common::root;

/// Templates that render contents as they are, trimmed, and thoughts apart from answers.
const TEMPLATES: [&str; 4] = [
    "{% for m in messages %}{{ m.role + ':\n' + m.content + eos_token + '\n' }}{% endfor %}",
    "{% for m in messages %}{{ '[' + m.role + '] ' + m.content | trim + '\n' }}{% endfor %}",
    "{% for m in messages %}{{ eos_token + m.content + m.content }}{% endfor %}",
    "{% for m in messages %}{% if m.role == 'assistant' %}\
     {{ '<think>' + m.content.split('</think>')[0].split('<think>')[-1].strip() + '</think>\n' if '</think>' in m.content }}\
     {{ m.content.split('</think>')[-1].strip() }}{% else %}{{ m.content }}{% endif %}{{ eos_token }}{% endfor %}",
];

/// The model `tiny` with one of the templates, or without.
struct Bench {
    _folder: TempDir,
    composer: Composer,
    vocabulary: Vocabulary,
}

impl Bench {
    fn new(template: Option<&str>, options: ComposeConfig) -> Self {
        let (folder, tiny) = (TempDir::new().unwrap(), root().join("assets/tiny"));
        fs::copy(tiny.join("tokenizer.json"), folder.path().join("tokenizer.json")).unwrap();
        if let Some(template) = template {
            fs::write(folder.path().join("chat_template.jinja"), template).unwrap();
        }
        let config = Config::from_file(&tiny.join("config.json")).unwrap();
        let composer = Composer::open(folder.path(), &config, options).unwrap();
        let vocabulary = Vocabulary::new(&config, composer.tokenizer());
        Self { _folder: folder, composer, vocabulary }
    }

    fn compose(&self, line: &str) -> Record {
        let document = Document::from_json(line, "text").unwrap();
        self.composer.record(document).unwrap()
    }

    fn edit(&self, prior: &dyn Prior, record: Record, first: u32, generations: u32) -> EditedRecord {
        let config = EditConfig::default().with_generation(first).unwrap();
        let editor =
            RecordEditor::new(&self.composer, &self.vocabulary, prior, &config, generations, true).unwrap();
        editor.edit(vec![record]).unwrap().remove(0)
    }
}

fn conversations() -> &'static [Bench; 4] {
    static BENCHES: LazyLock<[Bench; 4]> =
        LazyLock::new(|| TEMPLATES.map(|template| Bench::new(Some(template), ComposeConfig::default())));
    &BENCHES
}

/// Conversations without their prompts, which need no template.
static ALONE: LazyLock<Bench> =
    LazyLock::new(|| Bench::new(None, ComposeConfig { prompt_context: false, ..ComposeConfig::default() }));

/// Prompts under `q`, as context or not.
static PROMPTED: LazyLock<[Bench; 2]> = LazyLock::new(|| {
    [false, true].map(|prompt_context| {
        let prompt_field = Some("q".into());
        Bench::new(None, ComposeConfig { prompt_field, prompt_context, ..ComposeConfig::default() })
    })
});

/// Edits at random what may be edited.
struct Random(u64);

impl Random {
    fn number(&self, document: &EditInput, generation: u32, position: usize) -> u64 {
        let mixed = self.0 ^ document.stream ^ (u64::from(generation) << 40) ^ position as u64;
        mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23).wrapping_mul(0xd6e8_feb8_6659_fd93) >> 8
    }
}

impl Prior for Random {
    fn edit(&self, documents: &[EditInput], generation: u32) -> Result<Vec<Edited>> {
        let windows = toedit::score::WindowConfig::new(1 << 20, 1)?;
        let edit = |document: &EditInput| {
            let mut edited = Edited::default();
            let positions = document.sequence.scored(&windows).into_iter().flatten();
            for position in positions.filter(|position| document.constraint.editable(*position)) {
                let number = self.number(document, generation, position);
                let old_id = document.sequence.ids[position];
                let mut ids = (0..8).map(|try_| (number.rotate_left(try_ * 7) % 4096) as u32);
                let new_id = match number % 5 {
                    0 if document.constraint.droppable(position) => None,
                    1..=3 => match ids.find(|id| *id != old_id && document.constraint.allowed(position, *id))
                    {
                        Some(id) => Some(id),
                        None => continue,
                    },
                    _ => continue,
                };
                edited.counts.changed += u64::from(new_id.is_some());
                edited.counts.dropped += u64::from(new_id.is_none());
                edited.changes.push(Change { position, old_id, new_id, p_old: 0.5, p_new: None });
            }
            edited
        };
        Ok(documents.iter().map(edit).collect())
    }
}

/// The record as it is written, with its provenance.
fn written(edited: &EditedRecord, earlier: Option<&str>) -> String {
    let own = Metadata::of_generations(&edited.generations);
    let edits = Some(edited.token_edits.clone());
    let metadata = match earlier {
        None => Metadata { edits, ..own },
        Some(_) => {
            let earlier = Metadata::of_earlier(edited.record.document.metadata(), 1, true).unwrap();
            earlier.extended(&edited.generations, edits)
        }
    };
    let metadata = serde_json::to_string(&metadata).unwrap();
    let Record { document, ids, .. } = &edited.record;
    let ids = document.ids().map(|_| edited.edited.apply(ids));
    let patch = Patch { metadata: Member::Set(&metadata), ..edited.patch(ids.as_deref()) };
    String::from_utf8(document.render(&patch, Format::JsonLines).unwrap()).unwrap()
}

fn reverted(line: &str) -> String {
    let document = Document::from_json(line, "text").unwrap();
    let metadata: Metadata = serde_json::from_str(document.metadata().unwrap()).unwrap();
    let original = records::revert(&document, &metadata.edits.unwrap()).unwrap();
    let patch = Patch { metadata: Member::Remove, ..Patch::default() };
    let rendered = original.as_ref().unwrap_or(&document).render(&patch, Format::JsonLines);
    String::from_utf8(rendered.unwrap()).unwrap()
}

/// The record without what may be edited.
fn fixed(line: &str) -> Value {
    let mut value: Value = serde_json::from_str(line).unwrap();
    value.as_object_mut().unwrap().remove("toedit");
    for message in value["messages"].as_array_mut().unwrap() {
        if message["role"] == "assistant" {
            message["content"] = Value::Null;
        }
    }
    value
}

fn messages() -> impl Strategy<Value = Vec<Value>> {
    let content = prop_oneof![
        4 => text(),
        1 => (text(), text()).prop_map(|(thought, said)| format!("<think>\n{thought}\n</think>\n\n{said}")),
    ];
    let role = prop::sample::select(vec!["user", "assistant", "assistant", "system"]);
    let message =
        (role, content).prop_map(|(role, content)| json!({"role": role, "content": content, "n": 1.5}));
    prop::collection::vec(message, 0..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn only_what_the_assistant_says_changes_and_all_of_it_comes_back(
        messages in messages(), template in 0..4usize, context in any::<bool>(), seed in any::<u64>(),
    ) {
        let bench = if context { &conversations()[template] } else { &*ALONE };
        let line = json!({"id": 1, "messages": messages, "x": [2]}).to_string();
        let record = bench.compose(&line);
        let editable = record.layout.flaw().is_none();
        let once = bench.edit(&Random(seed), record, 0, 1);
        let out = written(&once, None);
        prop_assert_eq!(fixed(&out), fixed(&line));
        prop_assert_eq!(reverted(&out), &line[..]);
        prop_assert!(editable || once.edited.changes.is_empty());

        // Two generations at once are two runs.
        let twice = written(&bench.edit(&Random(seed), bench.compose(&line), 0, 2), None);
        let second = bench.edit(&Random(seed), bench.compose(&out), 1, 1);
        prop_assert_eq!(&twice, &written(&second, Some(&out)));
        prop_assert_eq!(fixed(&twice), fixed(&line));
        prop_assert_eq!(reverted(&twice), line);
    }

    #[test]
    fn only_the_response_changes(
        prompt in text(), response in text(), context in any::<bool>(), seed in any::<u64>(),
    ) {
        let bench = &PROMPTED[usize::from(context)];
        let line = json!({"q": prompt, "text": response, "z": "é"}).to_string();
        let edited = bench.edit(&Random(seed), bench.compose(&line), 0, 2);
        let out = written(&edited, None);
        let value: Value = serde_json::from_str(&out).unwrap();
        prop_assert_eq!((&value["q"], &value["z"]), (&json!(prompt), &json!("é")));
        prop_assert_eq!(reverted(&out), line);
    }

    #[test]
    fn ids_stay_ids(ids in prop::collection::vec(1u32..4096, 0..30), seed in any::<u64>()) {
        let bench = &*ALONE;
        let line = json!({"input_ids": ids}).to_string();
        let twice = written(&bench.edit(&Random(seed), bench.compose(&line), 0, 2), None);
        let once = written(&bench.edit(&Random(seed), bench.compose(&line), 0, 1), None);
        let second = bench.edit(&Random(seed), bench.compose(&once), 1, 1);
        prop_assert_eq!(&twice, &written(&second, Some(&once)));
        prop_assert_eq!(reverted(&twice), line);
    }
}

/// Most random conversations can be edited under each template, so that the properties say something.
#[test]
fn templates_leave_words_to_edit() {
    let line = json!({"messages": [
        {"role": "user", "content": " Say hi "}, {"role": "assistant", "content": "\n Hello you \n"},
        {"role": "user", "content": "Hello you"}, {"role": "assistant", "content": "<think>\nHm, hm\n</think>\n\nHello you"},
    ]});
    for (index, bench) in conversations().iter().enumerate() {
        let record = bench.compose(&line.to_string());
        if index == 2 {
            // It says everything twice: which of both is edited?
            assert_eq!(record.layout.flaw(), Some(UNTOLD));
            continue;
        }
        let passage = &record.layout.passages()[0];
        let words: Vec<_> =
            passage.parts.iter().map(|part| &passage.text(&record.document)[part.range.clone()]).collect();
        let expected: &[&str] = match index {
            0 => &["\n Hello you \n", "<think>\nHm, hm\n</think>\n\nHello you"],
            1 => &["Hello you", "Hm, hm", "Hello you"],
            _ => &["Hello you", "Hm, hm", "Hello you"],
        };
        assert_eq!(words, expected, "{index}");
        let edited = bench.edit(&Random(7), record, 0, 1);
        assert!(edited.messages.len() == 2 && edited.flaw.is_none());
    }
}

/// The response of a record is edited as ids are behind the prompt's ids as context.
#[test]
fn a_response_is_edited_as_ids_behind_a_context() {
    let model = Model::load(root().join("assets/tiny"), Dtype::F32).unwrap();
    // No random numbers: the most likely token takes the place of others.
    let config = with_rules(&["p<0.5:resample"]).with_sampler(toedit::Sampler::TopK(1)).unwrap();
    let score = ScoreConfig::new(&model).unwrap();
    let editor = Editor::new(&model, score.clone(), config.clone()).unwrap();
    let scorer = Scorer::new(&model, score).unwrap();
    let bench = &PROMPTED[1];
    let (prompt, response) = ("The capital of the country is", " a city of many people and old houses.");
    let record = bench.compose(&json!({"q": prompt, "text": response}).to_string());
    let tokenizer = bench.composer.tokenizer().unwrap();
    let split = tokenizer.encode(prompt).unwrap().len();
    let run = record.layout.runs().next().unwrap();
    assert_eq!((run.clone(), run.start), (split..record.ids.len(), split));

    let context = [tokenizer.prefix(), &record.ids[..split]].concat();
    let ids = record.ids[split..].to_vec();
    let behind = Sequence::new(&context, &ids);
    let expected = scorer.score_sequences(&[behind]).unwrap().remove(0);
    let sequence = bench.composer.sequence(&record.document, &record.ids, &record.layout);
    let scores = scorer.score_sequences(&[sequence]).unwrap().remove(0);
    assert_eq!((scores.logprobs, scores.runs), (expected.logprobs, vec![run]));

    let constraint = toedit::edit::IdConstraint::new(&bench.vocabulary, Some(tokenizer), &ids);
    let input = EditInput { sequence: behind, stream: 0, constraint: &constraint };
    let expected = editor.edit(&[input]).unwrap().remove(0);
    let records = RecordEditor::new(&bench.composer, &bench.vocabulary, &editor, &config, 1, false).unwrap();
    let edited = records.edit(vec![record]).unwrap().remove(0).edited;
    let shifted: Vec<_> =
        expected.changes.iter().map(|c| Change { position: c.position + split, ..*c }).collect();
    assert!(!shifted.is_empty() && edited.counts.scored == expected.counts.scored);
    assert_eq!(edited.changes, shifted);
}
