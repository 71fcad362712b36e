//! A real model on real text.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};

use flate2::bufread::GzDecoder;
use serde::Deserialize;
use toedit::edit::{Editor, Vocabulary};
use toedit::tokenizer::Tokenizer;
use toedit::{Device, Dtype, Model, ScoreConfig, Scorer, Scores};

use crate::common::devices::{self, devices};
use crate::common::editing::{IdDocument, edit_ids, with_rules};
use crate::common::folders::{shared, smollm2};

const THRESHOLD: f64 = 0.99;
/// Tokens of each document that are enough for what costs another pass.
const PREFIX: usize = 128;

/// A document and what transformers computed for it; positions without a probability are null.
#[derive(Deserialize)]
struct Reference {
    text: String,
    input_ids: Vec<u32>,
    logprobs: Vec<Option<f64>>,
    entropy: Vec<Option<f64>>,
    #[serde(rename = "eligible_0.99")]
    eligible: Vec<usize>,
    /// By position, the most likely ids and their log-probabilities.
    top8: BTreeMap<usize, (Vec<u32>, Vec<f64>)>,
}

impl Reference {
    /// A prefix is scored as the document is: no token sees a later one.
    fn prefix(&self) -> &[u32] {
        &self.input_ids[..self.input_ids.len().min(PREFIX)]
    }

    fn scored(&self) -> impl Iterator<Item = f64> {
        self.logprobs.iter().copied().flatten()
    }
}

/// The reference and the model; none where the environment names neither.
fn load(dtype: Dtype) -> Option<(Vec<Reference>, Model, Tokenizer)> {
    let file = File::open(shared("golden/smollm2/dev.jsonl.gz")?).unwrap();
    let lines = BufReader::new(GzDecoder::new(BufReader::new(file))).lines();
    let references = lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    let folder = smollm2()?;
    let tokenizer = Tokenizer::from_file(folder.join("tokenizer.json")).unwrap();
    Some((references, Model::load(&folder, dtype).unwrap(), tokenizer))
}

fn score(model: &Model, ids: &[&[u32]], config: ScoreConfig) -> Vec<Scores> {
    Scorer::new(model, config).unwrap().score(ids).unwrap()
}

fn whole(references: &[Reference]) -> Vec<&[u32]> {
    references.iter().map(|reference| &reference.input_ids[..]).collect()
}

/// |Δ log p| of all positions, ascending.
fn differences<'a>(pairs: impl Iterator<Item = (&'a Reference, &'a Scores)>) -> Vec<f64> {
    let mut differences = Vec::new();
    for (reference, scores) in pairs {
        assert_eq!(scores.logprobs.len(), reference.scored().count());
        let pairs = scores.logprobs.iter().zip(reference.scored());
        differences.extend(pairs.map(|(ours, theirs)| (f64::from(*ours) - theirs).abs()));
    }
    assert!(differences.iter().all(|difference| difference.is_finite()));
    differences.sort_by(f64::total_cmp);
    differences
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Prints mean, 99th percentile and largest.
fn report(what: &str, values: &[f64]) {
    let (n, last) = (values.len(), values[values.len() - 1]);
    eprintln!(
        "{what}: {n} values, mean {:.2e}, 99 % {:.2e}, max {last:.2e}",
        mean(values),
        values[n * 99 / 100]
    );
}

#[test]
fn f32_is_transformers_f32() {
    let Some((references, model, tokenizer)) = load(Dtype::F32) else { return };
    let config = ScoreConfig { entropy: true, ..ScoreConfig::new(&model).unwrap() };
    let scores = score(&model, &whole(&references), config);
    let differences = differences(references.iter().zip(&scores));
    report("f32 log-probabilities", &differences);
    assert!(differences[differences.len() - 1] <= 2e-3 && mean(&differences) <= 1e-4);
    for (reference, scores) in references.iter().zip(&scores) {
        assert_eq!(tokenizer.encode(&reference.text).unwrap(), reference.input_ids);
        let entropies = reference.entropy.iter().copied().flatten();
        assert!(scores.entropy.iter().zip(entropies).all(|(a, b)| (f64::from(*a) - b).abs() <= 2e-3));
        let found =
            scores.logprobs.iter().zip(1..).filter(|(logprob, _)| f64::from(**logprob).exp() >= THRESHOLD);
        check_eligible(reference, &found.map(|(_, position)| position).collect::<Vec<_>>(), usize::MAX);
    }
    check_top(&model, &references);
    check_editor(&model, &references);
}

/// Kernels on a few prefixes: the real shapes, and heads of 64 that fill their tiles.
#[test]
fn kernels_in_bf16_stay_near_f32() {
    let Some((references, _, _)) = load(Dtype::Bf16) else { return };
    let references = &references[..3];
    for device in devices().into_iter().filter(|device| *device != Device::Cpu) {
        let model = devices::load(&smollm2().unwrap(), Dtype::Bf16, device);
        let prefixes: Vec<_> = references.iter().map(Reference::prefix).collect();
        let scores = score(&model, &prefixes, ScoreConfig::new(&model).unwrap());
        let pairs = references.iter().zip(&scores).flat_map(|(reference, scores)| {
            scores
                .logprobs
                .iter()
                .zip(reference.scored())
                .map(|(ours, theirs)| (f64::from(*ours) - theirs).abs())
        });
        let mut differences: Vec<f64> = pairs.collect();
        differences.sort_by(f64::total_cmp);
        report(&format!("bf16 on {device}"), &differences);
        assert!(mean(&differences) <= 0.03 && differences[differences.len() - 1] <= 1.0);
    }
}

/// The positions below `end` found eligible are the reference's, but for those at the threshold.
fn check_eligible(reference: &Reference, found: &[usize], end: usize) {
    for position in 1..reference.input_ids.len().min(end) {
        let p = reference.logprobs[position].unwrap().exp();
        let agree = found.contains(&position) == reference.eligible.contains(&position);
        assert!(agree || (p - THRESHOLD).abs() <= 1e-4, "token {position}: p = {p}");
    }
}

/// The most likely tokens at eligible positions, neighbours closer than 2e-3 in any order.
fn check_top(model: &Model, references: &[Reference]) {
    let prefixes: Vec<_> = references.iter().map(Reference::prefix).collect();
    let config = ScoreConfig { top_k: 8, ..ScoreConfig::new(model).unwrap() };
    for (reference, scores) in references.iter().zip(score(model, &prefixes, config)) {
        for (position, (ids, logprobs)) in reference.top8.range(..reference.prefix().len()) {
            let ours = &scores.top[(position - 1) * 8..][..8];
            for ((id, ours), theirs) in ours.iter().zip(logprobs) {
                assert!((f64::from(*ours) - theirs).abs() <= 2e-3, "token {position}");
                let place = ids.iter().position(|other| other == id).unwrap_or(7);
                assert!((logprobs[place] - theirs).abs() <= 2e-3, "token {position}: {id}");
            }
        }
    }
}

/// The editor finds the same positions eligible: a rule drops them.
fn check_editor(model: &Model, references: &[Reference]) {
    let config = with_rules(&["p>=0.99:drop"]);
    let editor = Editor::new(model, ScoreConfig::new(model).unwrap(), config).unwrap();
    let documents: Vec<_> =
        references.iter().map(|reference| IdDocument::new(reference.prefix(), 0)).collect();
    let edited = edit_ids(&editor, &Vocabulary::new(model.config(), None), &documents);
    for (reference, edited) in references.iter().zip(&edited) {
        let dropped: Vec<usize> = edited.changes.iter().map(|change| change.position).collect();
        check_eligible(reference, &dropped, PREFIX);
    }
    assert!(edited.iter().map(|edited| edited.changes.len()).sum::<usize>() > 20);
}

#[test]
fn bf16_stays_near_transformers_f32() {
    let Some((references, model, _)) = load(Dtype::Bf16) else { return };
    let scores = score(&model, &whole(&references), ScoreConfig::new(&model).unwrap());
    let long = || references.iter().zip(&scores).filter(|(reference, _)| reference.input_ids.len() >= 100);
    let differences = differences(long());
    report("bf16 log-probabilities", &differences);
    assert!(mean(&differences) <= 0.015, "{}", mean(&differences));

    let (mut flips, mut nll, mut expected) = (0, 0.0, 0.0);
    for (reference, scores) in long() {
        let eligible = |logprob: f64| logprob.exp() >= THRESHOLD;
        let pairs = scores.logprobs.iter().zip(reference.scored());
        flips += pairs.filter(|(a, b)| eligible(f64::from(**a)) != eligible(*b)).count();
        nll += scores.nll();
        expected -= reference.scored().sum::<f64>();
    }
    let ratio = ((nll - expected) / differences.len() as f64).exp();
    eprintln!("bf16: {flips} eligible flips, perplexity times {ratio:.6}");
    assert!(flips <= 8, "{flips}");
    assert!((ratio - 1.0).abs() <= 1e-3, "{ratio}");
}
