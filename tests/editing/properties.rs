//! What holds of every edit, whatever the documents and the settings.

use std::sync::LazyLock;

use proptest::prelude::*;
use rayon::ThreadPool;
use toedit::edit::{Action, Condition, Constraint, EditConfig, Edited, Editor, Rule, Sampler, Vocabulary};
use toedit::score::WindowConfig;
use toedit::{ScoreConfig, Scorer, Scores};

use crate::common::editing::{IdDocument, edit_ids, edit_under, packed, pool};
use crate::sharp::{LENGTH, SHARP, VOCABULARY};

/// Probabilities this near a threshold may count either way.
const MARGIN: f64 = 1e-6;

static VOCABULARY_TABLE: LazyLock<Vocabulary> = LazyLock::new(|| Vocabulary::new(SHARP.model.config(), None));

/// Documents and how they are edited.
#[derive(Clone, Debug)]
struct Case {
    documents: Vec<IdDocument>,
    threshold: f64,
    edit: EditConfig,
    score: ScoreConfig,
}

impl Case {
    fn rule(&self, threshold: f64, action: Action) -> EditConfig {
        let rule = Rule::new(Condition::AtLeast(threshold), action).unwrap();
        EditConfig::from_rules(vec![rule])
            .with_sampler(*self.edit.sampler())
            .and_then(|config| config.with_temperature(self.edit.temperature()))
            .unwrap()
            .with_exclude_original(self.edit.exclude_original())
            .with_seed(self.edit.seed())
    }

    fn editor(&self, config: EditConfig) -> Editor<'static> {
        Editor::new(&SHARP.model, self.score.clone(), config).unwrap()
    }

    fn edit(&self, config: EditConfig) -> Vec<Edited> {
        edit_ids(&self.editor(config), &VOCABULARY_TABLE, &self.documents)
    }

    /// Scores with the whole distribution at each position.
    fn scores(&self) -> Vec<Scores> {
        let score = ScoreConfig { top_k: VOCABULARY as usize, ..self.score.clone() };
        let sequences: Vec<_> = self.documents.iter().map(IdDocument::sequence).collect();
        Scorer::new(&SHARP.model, score).unwrap().score_sequences(&sequences).unwrap()
    }
}

fn document() -> impl Strategy<Value = IdDocument> {
    let context = prop::collection::vec(0..VOCABULARY, 0..3);
    (0..SHARP.documents.len(), 0..=LENGTH, context, 0..4u64).prop_map(|(index, length, context, stream)| {
        IdDocument { context, ..IdDocument::new(&SHARP.documents[index][..length], stream) }
    })
}

fn sampler() -> impl Strategy<Value = Sampler> {
    prop_oneof![
        (1..20usize).prop_map(Sampler::TopK),
        (0.01..=1.0f64).prop_map(Sampler::TopP),
        Just(Sampler::Full),
        Just(Sampler::Rejection),
    ]
}

fn score_config() -> impl Strategy<Value = ScoreConfig> {
    let windows = (2..60usize, 0.0..1.0f64).prop_map(|(max_length, part)| {
        WindowConfig::new(max_length, 1 + (part * (max_length - 1) as f64) as usize).unwrap()
    });
    (windows, 1..100usize)
        .prop_map(|(windows, batch_tokens)| ScoreConfig { windows, ..packed(&SHARP.model, batch_tokens) })
}

fn case() -> impl Strategy<Value = Case> {
    let threshold = prop_oneof![0.0..1.0f64, (-9.0..0.0f64).prop_map(f64::exp), 0.9..1.0f64];
    let documents = prop::collection::vec(document(), 1..5);
    (documents, threshold, sampler(), 0.3..4.0f64, any::<bool>(), any::<u64>(), score_config()).prop_map(
        |(documents, threshold, sampler, temperature, exclude_original, seed, score)| {
            let edit = EditConfig::default()
                .with_sampler(sampler)
                .and_then(|config| config.with_temperature(temperature))
                .unwrap()
                .with_exclude_original(exclude_original)
                .with_seed(seed);
            Case { documents, threshold, edit, score }
        },
    )
}

/// An arbitrary constraint: a third of the positions may not be edited, half of the ids do not fit a position.
struct Arbitrary;

impl Constraint for Arbitrary {
    fn editable(&self, position: usize) -> bool {
        position % 3 != 1
    }

    fn droppable(&self, position: usize) -> bool {
        position % 4 != 2
    }

    fn allowed(&self, position: usize, id: u32) -> bool {
        (id as usize + position).is_multiple_of(2)
    }

    fn class(&self, position: usize) -> u32 {
        (position % 2) as u32
    }
}

/// Checks one document's changes against its scores, and its counts.
fn check_resampling(case: &Case, document: &IdDocument, scores: &Scores, edited: &Edited) {
    let p = |position: usize| f64::from(scores.logprobs[position - scores.first_scored]).exp();
    for change in &edited.changes {
        let position = change.position;
        assert!(position >= scores.first_scored, "the first token has no probability");
        assert_eq!(change.old_id, document.ids[position]);
        assert!(p(position) >= case.threshold - MARGIN && Arbitrary.editable(position));
        let new = change.new_id.unwrap();
        assert!(new != change.old_id && Arbitrary.allowed(position, new));
        let row = (position - scores.first_scored) * VOCABULARY as usize;
        let distribution = &scores.top[row..][..VOCABULARY as usize];
        let rank = distribution.iter().position(|(id, _)| *id == new).unwrap();
        let ahead: f64 = distribution[..rank].iter().map(|(_, logprob)| f64::from(*logprob).exp()).sum();
        match *case.edit.sampler() {
            Sampler::TopK(k) => assert!(rank < k, "rank {rank} of {k}"),
            Sampler::TopP(mass) => assert!(mass == 1.0 || ahead < mass + 1e-5, "{ahead} is ahead"),
            Sampler::Full | Sampler::Rejection => {}
        }
        let p_new = f64::from(distribution[rank].1).exp();
        assert!((f64::from(change.p_old) - p(position)).abs() < 1e-5);
        assert!((f64::from(change.p_new.unwrap()) - p_new).abs() < 1e-5);
    }
    check_counts(case, document, scores, edited);
}

fn check_counts(case: &Case, document: &IdDocument, scores: &Scores, edited: &Edited) {
    let counts = edited.counts;
    let reached = |margin: f64| {
        let reached = |logprob: &&f32| f64::from(**logprob).exp() >= case.threshold + margin;
        scores.logprobs.iter().filter(reached).count() as u64
    };
    assert!((reached(MARGIN)..=reached(-MARGIN)).contains(&counts.eligible));
    assert_eq!(counts.tokens, document.ids.len() as u64);
    assert_eq!(counts.scored, scores.logprobs.len() as u64);
    assert_eq!(counts.changed, edited.changes.len() as u64);
    assert_eq!(counts.windows, scores.windows as u64);
    let not_kept = counts.changed + counts.not_editable + counts.no_alternative;
    let exclude_original = case.edit.exclude_original();
    assert!(if exclude_original { not_kept == counts.eligible } else { not_kept <= counts.eligible });
    assert!(edited.changes.windows(2).all(|pair| pair[0].position < pair[1].position));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn resampling_changes_eligible_tokens_into_candidates(case in case()) {
        let editor = case.editor(case.rule(case.threshold, Action::Resample));
        let constraints: Vec<_> = case.documents.iter().map(|_| Arbitrary).collect();
        let results = edit_under(&editor, &constraints, &case.documents);
        for ((document, scores), edited) in case.documents.iter().zip(case.scores()).zip(&results) {
            check_resampling(&case, document, &scores, edited);
            let after = edited.apply(&document.ids);
            prop_assert_eq!(after.len(), document.ids.len());
            for (position, (old, new)) in document.ids.iter().zip(&after).enumerate() {
                let changed = edited.changes.iter().any(|change| change.position == position);
                prop_assert_eq!(changed, old != new);
            }
        }
    }

    #[test]
    fn dropping_removes_the_eligible_and_droppable(case in case()) {
        let editor = case.editor(case.rule(case.threshold, Action::Drop));
        let constraints: Vec<_> = case.documents.iter().map(|_| Arbitrary).collect();
        let results = edit_under(&editor, &constraints, &case.documents);
        for ((document, scores), edited) in case.documents.iter().zip(case.scores()).zip(&results) {
            let mut kept = Vec::new();
            for (position, id) in document.ids.iter().enumerate() {
                let logprob = position.checked_sub(scores.first_scored).map(|index| scores.logprobs[index]);
                let p = logprob.map_or(-1.0, |logprob| f64::from(logprob).exp());
                prop_assume!((p - case.threshold).abs() > MARGIN);
                if p < case.threshold || !Arbitrary.editable(position) || !Arbitrary.droppable(position) {
                    kept.push(*id);
                }
            }
            prop_assert_eq!(document.ids.len() - kept.len(), edited.counts.dropped as usize);
            prop_assert_eq!(edited.apply(&document.ids), kept);
        }
    }

    #[test]
    fn thresholds_above_one_and_k_of_one_change_nothing(mut case in case(), above in 1.0001f64..9.0, t in 0.51f64..1.0) {
        for edited in case.edit(case.rule(above, Action::Resample)) {
            prop_assert_eq!((edited.counts.eligible, edited.changes.len()), (0, 0));
        }
        case.edit = case.edit.clone().with_sampler(Sampler::TopK(1)).unwrap().with_exclude_original(false);
        for edited in case.edit(case.rule(t, Action::Resample)) {
            prop_assert_eq!(edited.changes, []);
        }
    }

    #[test]
    fn a_higher_threshold_edits_a_subset(case in case(), higher in 0.0f64..1.0) {
        let higher = case.threshold + (1.0 - case.threshold) * higher;
        let [low, high] = [case.threshold, higher].map(|t| case.edit(case.rule(t, Action::Resample)));
        for (low, high) in low.iter().zip(&high) {
            prop_assert!(high.changes.iter().all(|change| low.changes.contains(change)));
            let mut reached = low.changes.iter().filter(|change| f64::from(change.p_old) >= higher + MARGIN);
            prop_assert!(reached.all(|change| high.changes.contains(change)));
        }
    }

    #[test]
    fn an_edit_does_not_depend_on_its_company(case in case(), batch_tokens in 1usize..300) {
        let config = case.rule(case.threshold, Action::Resample);
        let expected = case.edit(config.clone());
        let mut other = case.clone();
        other.score.batch_tokens = batch_tokens;
        other.documents.reverse();
        for pool in POOLS.iter() {
            let mut again = pool.install(|| other.edit(config.clone()));
            again.reverse();
            prop_assert_eq!(&again, &expected);
        }
        for (document, expected) in case.documents.iter().zip(&expected) {
            let alone = Case { documents: vec![document.clone()], ..case.clone() };
            prop_assert_eq!(&alone.edit(config.clone())[0], expected);
        }
    }

    #[test]
    fn equal_documents_are_edited_equally(case in case(), place in 0usize..5) {
        let mut twice = case.clone();
        let copy = twice.documents[0].clone();
        twice.documents.insert(1 + place % twice.documents.len(), copy);
        let edited = twice.edit(case.rule(case.threshold, Action::Resample));
        prop_assert_eq!(&edited[0], &edited[1 + place % case.documents.len()]);
    }
}

static POOLS: LazyLock<[ThreadPool; 2]> = LazyLock::new(|| [pool(1), pool(3)]);

#[test]
fn seeds_streams_and_generations_differ() {
    let config = EditConfig::from_rules(vec!["p<=1:resample".parse().unwrap()]);
    let changes = |config: &EditConfig, stream: u64| {
        let documents: Vec<_> = SHARP.documents.iter().map(|ids| IdDocument::new(ids, stream)).collect();
        let editor = Editor::new(&SHARP.model, packed(&SHARP.model, 1024), config.clone()).unwrap();
        edit_ids(&editor, &VOCABULARY_TABLE, &documents)
    };
    let first = changes(&config, 0);
    assert_eq!(first, changes(&config, 0));
    let later = config.clone().with_generation(1).unwrap();
    for other in [changes(&config.clone().with_seed(1), 0), changes(&config, 1), changes(&later, 0)] {
        let same = first.iter().zip(&other).filter(|(a, b)| a.changes == b.changes).count();
        assert_eq!(same, 0);
    }
}
