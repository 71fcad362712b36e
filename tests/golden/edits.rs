//! Every family edited by every sampler.

use toedit::edit::{Edited, Editor, Sampler, Vocabulary};
use toedit::random::{Purpose, Stream};
use toedit::score::WindowConfig;
use toedit::{Dtype, Model, ScoreConfig};

use crate::common::devices::{load, on_every_device};
use crate::common::editing::{IdDocument, edit_ids, packed, pool, with_rules};
use crate::common::{FAMILIES, Golden};
use crate::redraw::Redraw;

const SAMPLERS: [Sampler; 4] = [Sampler::TopK(8), Sampler::TopP(0.9), Sampler::Full, Sampler::Rejection];
const SEED: u64 = 11;
const TEMPERATURE: f64 = 1.3;
/// Every position is eligible.
const ALL: &str = "p<=1:resample";

/// The model's own special tokens and every fifth id, so that they are often in the text and often drawn.
fn many_specials(model: &Model) -> Vocabulary {
    let mut config = model.config().clone();
    config.special_ids.extend((0..config.vocab_size as u32).step_by(5));
    Vocabulary::new(&config, None)
}

fn documents(golden: &Golden) -> Vec<IdDocument> {
    golden.documents().iter().zip(70..).map(|(ids, stream)| IdDocument::new(ids, stream)).collect()
}

fn editor(model: &Model, score: ScoreConfig, sampler: Sampler) -> Editor<'_> {
    let config = with_rules(&[ALL]).with_sampler(sampler).unwrap().with_seed(SEED);
    Editor::new(model, score, config.with_temperature(TEMPERATURE).unwrap()).unwrap()
}

#[test]
fn the_tokens_drawn_are_those_of_transformers_logits() {
    for (family, device) in on_every_device(&FAMILIES) {
        let golden = Golden::load(family);
        let model = load(&golden.folder, Dtype::F32, device);
        let vocabulary = many_specials(&model);
        let documents = documents(&golden);
        for sampler in SAMPLERS {
            let edited = edit_ids(&editor(&model, packed(&model, 256), sampler), &vocabulary, &documents);
            let (mut decided, mut positions) = (0, 0);
            for (row, (document, edited)) in documents.iter().zip(&edited).enumerate() {
                let what = format!("{family} {sampler} {row} on {device}");
                check_changes(&what, &golden, row, edited);
                decided += check_draws(&what, &golden, row, (document, edited), (&sampler, &vocabulary));
                positions += document.ids.len() - 1;
                assert!(edited.counts.changed > 0, "{what}: nothing changed");
                assert_eq!(edited.counts.eligible as usize, document.ids.len() - 1, "{what}");
            }
            assert!(decided * 5 > positions * 4, "{family} {sampler}: {decided} of {positions}");
        }
    }
}

/// Positions, ids and probabilities of the changes.
fn check_changes(what: &str, golden: &Golden, row: usize, edited: &Edited) {
    let ids = golden.documents()[row];
    assert_eq!(edited.apply(ids).len(), ids.len(), "{what}");
    assert_eq!(edited.counts.changed as usize, edited.changes.len(), "{what}");
    for change in &edited.changes {
        assert!(change.position > 0, "{what}: the first token has no probability");
        assert_eq!(change.old_id, ids[change.position], "{what}");
        let logits = golden.logits(row, change.position - 1);
        let sum: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
        let p_new = f64::from(logits[change.new_id.unwrap() as usize]).exp() / sum;
        let p_old = f64::from(golden.row("logprobs", row)[change.position - 1]).exp();
        assert!((f64::from(change.p_old) - p_old).abs() <= 1e-4, "{what}: {change:?} against {p_old}");
        assert!(
            (f64::from(change.p_new.unwrap()) - p_new).abs() <= 1e-4,
            "{what}: {change:?} against {p_new}"
        );
    }
}

/// Compares every position's token with the one that the reference's logits give; returns how many are decided.
fn check_draws(
    what: &str,
    golden: &Golden,
    row: usize,
    (document, edited): (&IdDocument, &Edited),
    (sampler, vocabulary): (&Sampler, &Vocabulary),
) -> usize {
    let stream = Stream::new(SEED, document.stream, Purpose::Edit, 0).unwrap();
    let after = edited.apply(&document.ids);
    let mut decided = 0;
    for (position, (&original, &after)) in document.ids.iter().zip(&after).enumerate().skip(1) {
        if vocabulary.is_special(original) {
            assert_eq!(after, original, "{what}: a special token was edited");
            decided += 1;
            continue;
        }
        assert!(!vocabulary.is_special(after), "{what}: a special token was drawn");
        let redraw = Redraw {
            sampler,
            temperature: TEMPERATURE,
            logits: golden.logits(row, position - 1),
            original,
            is_allowed: &|id| !vocabulary.is_special(id),
        };
        if let Some(expected) = redraw.token(|draw| stream.draw(position as u32, draw)) {
            assert_eq!(after, expected, "{what}: token {position}");
            decided += 1;
        }
    }
    decided
}

#[test]
fn the_configurations_special_tokens_are_neither_edited_nor_drawn() {
    for (family, special) in
        [("llama", &[1, 2][..]), ("olmo", &[1, 2]), ("gpt-neox", &[0, 2]), ("qwen3", &[])]
    {
        let golden = Golden::load(family);
        let model = Model::load(&golden.folder, Dtype::F32).unwrap();
        let vocabulary = Vocabulary::new(model.config(), None);
        let found: Vec<u32> = (0..257).filter(|id| vocabulary.is_special(*id)).collect();
        assert_eq!(found, special, "{family}");
        let ids: Vec<u32> = (0..60).map(|i| [0, 1, 2, 9][i % 4]).collect();
        let hot = with_rules(&[ALL]).with_sampler(Sampler::Full).unwrap().with_temperature(50.0).unwrap();
        let editor = Editor::new(&model, packed(&model, 256), hot).unwrap();
        let documents: Vec<_> = (0..40).map(|stream| IdDocument::new(&ids, stream)).collect();
        let mut drawn = [0; 3];
        for change in edit_ids(&editor, &vocabulary, &documents).iter().flat_map(|edited| &edited.changes) {
            let new = change.new_id.unwrap();
            assert!(!special.contains(&change.old_id) && !special.contains(&new), "{family}");
            if let Some(count) = drawn.get_mut(new as usize) {
                *count += 1;
            }
        }
        assert!((0..3).all(|id| (drawn[id as usize] > 0) != special.contains(&id)), "{family}: {drawn:?}");
    }
}

/// The same documents in packs of their own, in packs together, in another order, with other threads.
fn assert_independent(
    model: &Model,
    score: &ScoreConfig,
    sampler: Sampler,
    documents: &[IdDocument],
    others: &[(usize, usize)],
) {
    let vocabulary = many_specials(model);
    let together = edit_ids(&editor(model, score.clone(), sampler), &vocabulary, documents);
    assert!(together.iter().any(|edited| !edited.changes.is_empty()));
    let small = editor(model, ScoreConfig { batch_tokens: 1, ..score.clone() }, sampler);
    for (document, expected) in documents.iter().zip(&together) {
        assert_eq!(&edit_ids(&small, &vocabulary, std::slice::from_ref(document))[0], expected);
    }
    let reversed: Vec<_> = documents.iter().rev().cloned().collect();
    for &(threads, batch_tokens) in others {
        let other = editor(model, ScoreConfig { batch_tokens, ..score.clone() }, sampler);
        let mut again = pool(threads).install(|| edit_ids(&other, &vocabulary, &reversed));
        again.reverse();
        assert_eq!(again, together, "{threads} threads, packs of {batch_tokens}");
    }
}

#[test]
fn an_edit_does_not_depend_on_its_neighbours() {
    for family in FAMILIES {
        let golden = Golden::load(family);
        let ids = golden.documents();
        let pieces = [ids[0], &ids[1][..1], ids[1], &ids[0][..7], &[], &ids[1][..32], ids[0]];
        let documents: Vec<_> = pieces.iter().zip(0..).map(|(ids, i)| IdDocument::new(ids, i / 2)).collect();
        for dtype in [Dtype::F32, Dtype::Bf16] {
            let model = Model::load(&golden.folder, dtype).unwrap();
            for sampler in SAMPLERS {
                let whole = ScoreConfig::new(&model).unwrap();
                let cut = ScoreConfig { windows: WindowConfig::new(12, 5).unwrap(), ..whole.clone() };
                let others = [(1, 1), (3, 50), (1, 4096), (3, 4096)];
                assert_independent(&model, &whole, sampler, &documents, &others);
                assert_independent(&model, &cut, sampler, &documents, &others);
            }
        }
    }
}

/// As above for the kernels: head sizes on and off 16 bytes, norms before and after, one and several packs under way.
#[test]
fn an_edit_on_a_device_does_not_depend_on_its_neighbours() {
    for (family, device) in on_every_device(&["qwen3", "olmo2"]) {
        let golden = Golden::load(family);
        let ids = golden.documents();
        let pieces = [ids[0], &ids[1][..1], &ids[0][..7], &[], &ids[1][..32]];
        let documents: Vec<_> = pieces.iter().zip(0..).map(|(ids, i)| IdDocument::new(ids, i)).collect();
        for dtype in [Dtype::F32, Dtype::Bf16] {
            let model = load(&golden.folder, dtype, device);
            for sampler in SAMPLERS {
                let windows = WindowConfig::new(48, 24).unwrap();
                let score = ScoreConfig { windows, ..ScoreConfig::new(&model).unwrap() };
                assert_independent(&model, &score, sampler, &documents, &[(1, 60)]);
            }
        }
    }
}
