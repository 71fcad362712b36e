//! Editing on devices: the decisions that the CPU takes on the same logits.

use half::bf16;
use toedit::device::{Kernels, Matrix, Queue, View};
use toedit::edit::{Action, EditConfig, Outcome, Rule, Sampler};
use toedit::ops::draw::{Draw, Row, draw};
use toedit::ops::edit::{Batch, Classes, Edit, Origin, ROOM};
use toedit::ops::head::{Chosen, Scores, TILE, logits_on};
use toedit::random::{Purpose, Stream, philox4x32, uniform};
use toedit::score::Statistics;

use crate::common::{arms, samples};

const VOCABULARIES: [usize; 6] = [1, 2, 255, 256, 257, 1200];

/// Rows of hidden states with their targets, and the head's matrix.
#[derive(Clone)]
struct Case {
    hidden: Vec<f32>,
    weights: Vec<f32>,
    c: usize,
    targets: Vec<u32>,
    /// What may stand in a row, by the class that is its index modulo their number.
    classes: Vec<fn(u32) -> bool>,
    room: usize,
}

/// A case on a device, scored.
struct Scored {
    statistics: Vec<Statistics>,
    /// `[rows, V]`
    logits: Vec<f32>,
    outcomes: Vec<Outcome>,
}

impl Case {
    fn new(hidden: Vec<f32>, weights: Vec<f32>, c: usize, targets: Vec<u32>) -> Self {
        Self { hidden, weights, c, targets, classes: vec![|_| true], room: ROOM }
    }

    /// Logits of about ±`spread`.
    fn random<E: Kernels>(seed: u32, rows: usize, vocabulary: usize, spread: f32) -> Self {
        let c = 8;
        let hidden =
            samples::values::<E>(seed, rows * c).iter().map(|x| E::from_f32(spread * x).to_f32()).collect();
        let weights = samples::values::<E>(!seed, vocabulary * c);
        Self::new(hidden, weights, c, samples::ids(seed, rows, vocabulary))
    }

    /// The same logits in every row, exactly these.
    fn repeated(logits: &[f32], rows: usize, targets: Vec<u32>) -> Self {
        Self::new(vec![1.0; rows], logits.to_vec(), 1, targets)
    }

    fn with_classes(self, classes: &[fn(u32) -> bool]) -> Self {
        Self { classes: classes.to_vec(), ..self }
    }

    fn vocabulary(&self) -> usize {
        self.weights.len() / self.c
    }

    fn origins(&self) -> Vec<Origin> {
        let origin = |row: usize| Origin {
            stream: 0x1234_5678_9abc_def0 ^ (row as u64) << 30,
            position: row as u32 * 3,
            class: (row % self.classes.len()) as u32,
            editable: row % 7 != 6,
            droppable: row % 5 != 4,
        };
        (0..self.targets.len()).map(origin).collect()
    }

    fn run<E: Kernels>(&self, queue: &Queue, config: &EditConfig) -> Scored {
        let (rows, vocabulary, tiles) =
            (self.targets.len(), self.vocabulary(), self.vocabulary().div_ceil(TILE));
        let hidden: Matrix<E> = arms::upload(queue, self.c, &self.hidden);
        let weight: Matrix<E> = arms::upload(queue, self.c, &self.weights);
        let targets = queue.upload(&self.targets).unwrap();
        let temperature = (*config.sampler() == Sampler::Rejection).then_some(config.temperature() as f32);
        let scores = Scores::new(queue, rows, vocabulary, false, temperature).unwrap();
        let (hidden, weight, targets) = (hidden.view(), weight.view(), targets.view());
        scores.score(queue, hidden, weight, targets).unwrap();

        let mut classes = Classes::new(queue, vocabulary, self.classes.len()).unwrap();
        for class in &self.classes {
            classes.add(queue, class).unwrap();
        }
        // Room for more rows than there are.
        let edit = Edit::new(queue, config, vocabulary, rows + 3, self.room).unwrap();
        let batch = Batch { hidden, weight, targets, scores: &scores };
        edit.launch::<E>(queue, &batch, &self.origins(), &classes).unwrap();
        let mark = queue.mark().unwrap();
        let outcomes = edit.read(queue, &mark, rows).unwrap();
        let statistics =
            scores.read(queue, &mark, rows).unwrap().iter().map(|scored| scored.statistics).collect();

        let indices = queue.upload(&(0..rows as u32).collect::<Vec<_>>()).unwrap();
        let counts = queue.upload(&[rows as u32]).unwrap();
        let out = queue.alloc(rows * tiles * TILE).unwrap();
        let chosen =
            Chosen { rows: indices.view(), pairs: View::none(), counts: counts.view(), slots: tiles };
        logits_on::<E>(queue, hidden, weight, chosen, out.view()).unwrap();
        let padded = queue.download(out.view()).unwrap();
        let logits = padded.chunks(tiles * TILE).flat_map(|row| &row[..vocabulary]).copied().collect();
        Scored { statistics, logits, outcomes }
    }

    /// What the CPU decides.
    fn expected(&self, config: &EditConfig, scored: &Scored, row: usize) -> Outcome {
        let origin = self.origins()[row];
        let statistics = &scored.statistics[row];
        if !statistics.is_finite() {
            return Outcome::Kept;
        }
        match config.decide(statistics) {
            Action::Keep => Outcome::Kept,
            _ if !origin.editable => Outcome::NotEditable,
            Action::Drop if origin.droppable => Outcome::Dropped,
            Action::Drop => Outcome::NoAlternative,
            Action::Resample => {
                let (original, class) = (self.targets[row], self.classes[origin.class as usize]);
                let allowed = |id| if id == original { !config.exclude_original() } else { class(id) };
                let stream =
                    Stream::new(config.seed(), origin.stream, Purpose::Edit, config.generation()).unwrap();
                let logits = &scored.logits[row * self.vocabulary()..][..self.vocabulary()];
                let row = Row { logits, original, statistics };
                match draw(config.sampler(), config.temperature(), row, allowed, |d| {
                    stream.draw(origin.position, d)
                }) {
                    Draw::Token { id, logit } => Outcome::Drawn { id, logit },
                    Draw::NoAlternative => Outcome::NoAlternative,
                }
            }
        }
    }

    /// Runs on every device and compares each row; returns the outcomes.
    fn check<E: Kernels>(&self, config: &EditConfig) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for queue in arms::devices() {
            let scored = self.run::<E>(&queue, config);
            for (row, outcome) in scored.outcomes.iter().enumerate() {
                let expected = self.expected(config, &scored, row);
                let what = format!("{} of {} ids, {config:?}", E::NAME, self.vocabulary());
                assert_eq!(*outcome, expected, "{}: row {row}, {what}", queue.device());
            }
            outcomes = scored.outcomes;
        }
        outcomes
    }
}

fn resample(sampler: Sampler, temperature: f64) -> EditConfig {
    rules(&["p>=0:resample"]).with_sampler(sampler).unwrap().with_temperature(temperature).unwrap()
}

fn rules(rules: &[&str]) -> EditConfig {
    let rules: Vec<Rule> = rules.iter().map(|rule| rule.parse().unwrap()).collect();
    EditConfig::from_rules(rules).with_seed(77).with_generation(5).unwrap()
}

/// Every way to draw: of few and of many, of less than the vocabulary and of all of it.
fn samplers() -> [Sampler; 9] {
    let top_k = [1, 8, 32, 33, 500].map(Sampler::TopK);
    let [a, b, c, d, e] = top_k;
    [a, b, c, d, e, Sampler::TopP(0.6), Sampler::TopP(0.999), Sampler::Full, Sampler::Rejection]
}

fn drawn(outcomes: &[Outcome]) -> usize {
    outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Drawn { .. })).count()
}

#[test]
fn every_sampler_draws_what_the_cpu_draws() {
    for vocabulary in VOCABULARIES {
        let case = Case::random::<f32>(vocabulary as u32, 5, vocabulary, 4.0);
        let case = case.with_classes(&[|_| true, |id| id % 3 == 0]);
        for sampler in samplers() {
            case.check::<f32>(&resample(sampler, 1.5));
            case.check::<f32>(&resample(sampler, 1.0).with_exclude_original(true));
        }
    }
}

#[test]
fn bf16_draws_what_the_cpu_draws() {
    for sampler in samplers() {
        Case::random::<bf16>(5, 6, 700, 4.0).check::<bf16>(&resample(sampler, 1.5));
    }
}

#[test]
fn a_real_vocabulary_draws_what_the_cpu_draws() {
    let case = Case::random::<f32>(9, 3, 50_257, 6.0).with_classes(&[|id| id % 16 != 3]);
    for sampler in
        [Sampler::TopK(8), Sampler::TopK(100), Sampler::TopP(0.9), Sampler::Full, Sampler::Rejection]
    {
        case.check::<f32>(&resample(sampler, 1.5));
    }
}

#[test]
fn extreme_temperatures_draw_what_the_cpu_draws() {
    let case = Case::random::<f32>(3, 4, 300, 9.0).with_classes(&[|id| id % 2 == 0]);
    for temperature in [f64::from_bits(1), 1e-300, 1e-3, 1e3, 1e300] {
        for sampler in [Sampler::TopK(8), Sampler::TopK(50), Sampler::TopP(0.9), Sampler::Full] {
            case.check::<f32>(&resample(sampler, temperature).with_exclude_original(true));
        }
    }
    for temperature in [1e-3, 0.3, 30.0] {
        case.check::<f32>(&resample(Sampler::Rejection, temperature));
    }
}

/// Ties across tiles go to lower ids, −0 is 0, and −∞ is never drawn.
#[test]
fn ties_and_infinities_draw_what_the_cpu_draws() {
    let infinite = [f32::NEG_INFINITY, 0.0, -0.0, f32::NEG_INFINITY];
    let tied: Vec<f32> =
        (0..600).map(|id| if id % 97 == 5 { 3.0 } else { (id / 150) as f32 / 2.0 }).collect();
    let mixed: Vec<f32> = (0..600).map(|id| infinite[id / 5 % 4]).collect();
    let mostly: Vec<f32> = (0..600).map(|id| if id == 599 { 1.0 } else { f32::NEG_INFINITY }).collect();
    for (logits, targets) in [(tied, [0, 5, 102, 599]), (mixed, [5, 6, 10, 588]), (mostly, [599; 4])] {
        let case = Case::repeated(&logits, 4, targets.to_vec());
        for sampler in samplers() {
            case.check::<f32>(&resample(sampler, 1.5));
            case.check::<f32>(&resample(sampler, 0.7).with_exclude_original(true));
        }
    }
}

/// Nothing allowed, nothing but the original, one id alone.
#[test]
fn what_is_forbidden_is_not_drawn() {
    let case = Case::random::<f32>(21, 8, 300, 1.0);
    let case = case.with_classes(&[|_| false, |id| id == 299, |id| id > 290]);
    for sampler in samplers() {
        let outcomes = case.check::<f32>(&resample(sampler, 1.5).with_exclude_original(true));
        assert_eq!(outcomes[0], Outcome::NoAlternative);
        case.check::<f32>(&resample(sampler, 1.5));
    }
}

#[test]
fn chunks_change_nothing() {
    let case = Case::random::<f32>(31, 50, 513, 4.0);
    for sampler in [Sampler::TopK(2), Sampler::TopP(0.9), Sampler::Full] {
        let config = rules(&["0.001<=p<0.1:resample"]).with_sampler(sampler).unwrap();
        let whole = case.check::<f32>(&config);
        assert!((5..45).contains(&drawn(&whole)), "{} drawn", drawn(&whole));
        for room in [0, 7 * 3 * 1024, 64 * 1024] {
            assert_eq!(Case { room, ..case.clone() }.check::<f32>(&config), whole);
        }
    }
}

/// None, one, every, or some of any number of rows.
#[test]
fn rows_to_resample_are_found() {
    for rows in [1, 31, 32, 33, 1023, 1025, 2500] {
        let case = Case::random::<f32>(rows as u32, rows, 20, 3.0);
        case.check::<f32>(&rules(&["p<0.05:resample"]));
    }
    let case = Case::random::<f32>(1, 70, 20, 3.0);
    assert_eq!(drawn(&case.check::<f32>(&rules(&["p>1:resample"]))), 0);
    assert_eq!(drawn(&case.check::<f32>(&rules(&["p<=1:resample"]))), 60);
    assert_eq!(Case::new(vec![], vec![1.0; 20], 1, vec![]).check::<f32>(&rules(&["p<=1:resample"])), []);
}

#[test]
fn rules_decide_as_on_the_cpu() {
    let conditions = ["p>=", "p>", "p<=", "p<"];
    // Probabilities of 1/2 and of 1 are exact.
    let cases = [
        Case::repeated(&[1.5, 1.5], 9, [0, 1].repeat(5)[..9].to_vec()),
        Case::repeated(&[-2.0], 9, vec![0; 9]),
        Case::random::<f32>(41, 70, 6, 4.0),
    ];
    for case in cases {
        for t in ["-1", "0", "1e-300", "0.1", "0.5", "0.9999999999", "1", "1.5"] {
            for condition in conditions {
                case.check::<f32>(&rules(&[&format!("{condition}{t}:drop")]));
            }
        }
        case.check::<f32>(&rules(&["0.2<=p<0.5:drop", "p>0.9:keep", "p<0.1:resample", "0.5<=p<1:drop"]));
        case.check::<f32>(&rules(&[]));
    }
}

/// A row that is not finite is kept, whatever the rules say, and its neighbours are edited.
#[test]
fn rows_that_are_not_finite_are_kept() {
    let mut case = Case::random::<f32>(51, 9, 300, 2.0);
    case.hidden[4 * case.c] = f32::NAN;
    case.hidden[5 * case.c..][..case.c].fill(f32::MAX);
    let outcomes = case.check::<f32>(&resample(Sampler::TopK(8), 1.5));
    assert_eq!([outcomes[4], outcomes[5]], [Outcome::Kept; 2]);
    assert_eq!(drawn(&outcomes), 6);
}

#[test]
fn classes_are_told_apart() {
    for queue in arms::devices() {
        let mut classes = Classes::new(&queue, 70, 9).unwrap();
        let numbers: Vec<_> = (0..9).map(|n| classes.add(&queue, |id| id % 9 == n).unwrap()).collect();
        assert_eq!(numbers, (0..9).collect::<Vec<_>>());
    }
    let apart: [fn(u32) -> bool; 5] = [|id| id < 9, |id| id % 2 == 0, |id| id > 60, |id| id == 33, |_| true];
    let case = Case::random::<f32>(61, 30, 70, 2.0).with_classes(&apart);
    case.check::<f32>(&resample(Sampler::Full, 3.0).with_exclude_original(true));
}

/// A hundred thousand draws have the distribution that they should, by χ².
#[test]
fn draws_have_their_distribution() {
    const ROWS: usize = 10_000;
    let logits: Vec<f32> =
        (0..20).map(|id| 4.0 * uniform(philox4x32([id, 0, 0, 0], [1, 2])[0]) as f32).collect();
    let case = Case::repeated(&logits, ROWS, vec![3; ROWS]);
    let (k, temperature) = (6, 1.5);
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    let weight = |id: usize| (f64::from(logits[id]) / temperature).exp();
    let total: f64 = order[..k].iter().map(|&id| weight(id)).sum();
    for queue in arms::devices().into_iter().rev().take(1) {
        let mut counts = vec![0u32; logits.len()];
        for seed in 0..10 {
            let config = resample(Sampler::TopK(k), temperature).with_seed(seed);
            for outcome in case.run::<f32>(&queue, &config).outcomes {
                if let Outcome::Drawn { id, .. } = outcome {
                    counts[id as usize] += 1;
                }
            }
        }
        let draws = f64::from(counts.iter().sum::<u32>());
        assert!(draws > 85_000.0, "{draws} draws");
        assert!(order[k..].iter().all(|&id| counts[id] == 0), "drew what is no candidate: {counts:?}");
        let terms = order[..k].iter().map(|&id| {
            let expected = draws * weight(id) / total;
            (f64::from(counts[id]) - expected).powi(2) / expected
        });
        let statistic: f64 = terms.sum();
        // χ² with 5 degrees of freedom exceeds this with a probability of 1e-4.
        assert!(statistic < 25.74, "χ² {statistic}: {counts:?}");
    }
}
