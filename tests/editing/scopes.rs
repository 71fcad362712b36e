//! Documents of which some tokens are scored: responses behind prompts, or alone.

use std::ops::Range;

use proptest::prelude::*;
use toedit::edit::{EditInput, Editor, IdConstraint, Vocabulary};
use toedit::score::{Scope, Sequence, WindowConfig};
use toedit::{Dtype, ScoreConfig, Scorer, Scores};

use crate::common::Golden;
use crate::common::devices::{devices, load};
use crate::common::editing::{packed, with_rules};
use crate::sharp::{SHARP, VOCABULARY};

/// Runs by the lengths of what lies between them and of themselves, some of them empty.
fn runs(lengths: &[(usize, usize)]) -> (Vec<Range<usize>>, usize) {
    let (mut runs, mut end) = (Vec::new(), 0);
    for (gap, run) in lengths {
        runs.push(end + gap..end + gap + run);
        end += gap + run;
    }
    (runs, end)
}

fn bits(scores: &Scores) -> Vec<u32> {
    scores.logprobs.iter().map(|logprob| logprob.to_bits()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn runs_are_scored_as_in_the_whole_or_alone(
        lengths in prop::collection::vec((0..20usize, 0..20usize), 0..5), tail in 0..10usize,
        context in prop::collection::vec(0..VOCABULARY, 0..2), seed in any::<usize>(),
        max_length in 2..64usize, truncate in any::<bool>(),
    ) {
        let (runs, end) = runs(&lengths);
        let all = SHARP.documents.iter().flatten().copied().cycle();
        let ids: Vec<u32> = all.skip(seed % 90).take(end + tail).collect();
        let windows = WindowConfig::new(max_length, max_length.div_ceil(2).min(max_length - 1)).unwrap().with_truncate(truncate);
        let scorer = Scorer::new(&SHARP.model, ScoreConfig { windows, ..packed(&SHARP.model, 100) }).unwrap();
        let sequence = |scope| Sequence { context: &context, ids: &ids, scope };
        let alone: Vec<_> = runs.iter().map(|run| Sequence::new(&context, &ids[run.clone()])).collect();
        let scopes = [Scope::All, Scope::Within(&runs), Scope::Apart(&runs)];
        let scores = scorer.score_sequences(&scopes.map(sequence)).unwrap();
        let alone = scorer.score_sequences(&alone).unwrap();
        for scores in &scores {
            let positions: usize = scores.runs.iter().map(|run| run.len()).sum();
            prop_assert!(positions == scores.logprobs.len() && scores.runs.iter().all(|run| !run.is_empty()));
        }
        let whole = |position: usize| scores[0].logprobs[position - scores[0].first_scored].to_bits();
        let positions = scores[1].runs.iter().cloned().flatten();
        prop_assert_eq!(bits(&scores[1]), positions.map(whole).collect::<Vec<_>>());
        let covered = windows.covered(context.len() + ids.len()) - context.len().min(windows.covered(context.len() + ids.len()));
        let asked = runs.iter().cloned().flatten().filter(|position| (scores[0].first_scored..covered).contains(position));
        prop_assert_eq!(scores[1].runs.iter().cloned().flatten().collect::<Vec<_>>(), asked.collect::<Vec<_>>());
        prop_assert_eq!(bits(&scores[2]), alone.iter().flat_map(bits).collect::<Vec<_>>());
        prop_assert_eq!(scores[2].windows, alone.iter().map(|scores| scores.windows).sum::<usize>());
    }
}

/// On every device a run is edited as in the whole document, and a generation draws numbers of its own.
#[test]
fn runs_and_generations_on_every_device() {
    let golden = Golden::load("llama");
    let ids = golden.documents()[0];
    #[expect(clippy::single_range_in_vec_init, reason = "a list of runs that has one")]
    let run = [ids.len() / 2..ids.len() - 2];
    for device in devices() {
        let model = load(&golden.folder, Dtype::F32, device);
        let vocabulary = Vocabulary::new(model.config(), None);
        let constraint = IdConstraint::new(&vocabulary, None, ids);
        let input = |scope| EditInput {
            sequence: Sequence { context: &[], ids, scope },
            stream: 3,
            constraint: &constraint,
        };
        let config = || with_rules(&["p<=1:resample"]);
        let editor = |config| Editor::new(&model, ScoreConfig::new(&model).unwrap(), config).unwrap();
        let first = editor(config());
        let inputs = [input(Scope::All), input(Scope::Within(&run))];
        let edited = first.edit(&inputs).unwrap();
        let inside: Vec<_> =
            edited[0].changes.iter().filter(|change| run[0].contains(&change.position)).copied().collect();
        assert_eq!(edited[1].changes, inside, "{device}");
        assert_eq!(edited[1].counts.scored, run[0].len() as u64);

        let second = first.edit_generation(&inputs, 5).unwrap();
        assert_ne!(second, edited, "{device}");
        assert_eq!(second, editor(config().with_generation(5).unwrap()).edit(&inputs).unwrap(), "{device}");
        assert_eq!(first.edit(&inputs).unwrap(), edited, "{device}");
    }
}
