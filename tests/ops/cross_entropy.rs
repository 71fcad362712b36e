//! Cross entropy, alone and fused with the head: losses, gradients, what is left out of them.

use half::bf16;
use proptest::prelude::*;
use toedit::device::{Queue, View};
use toedit::ops::cross_entropy::{ChunkWork, CrossEntropy, HeadGradient, IGNORE};
use toedit::tensor::Element;

use crate::common::arms::{self, Scalar};
use crate::common::oracle::Expected;
use crate::common::{samples, tolerance};

/// Around vectors, lanes and a block's threads, and several rounds of those.
const VOCABULARIES: [usize; 12] = [1, 2, 3, 4, 5, 31, 66, 255, 257, 1023, 1025, 3001];

const PLAIN: CrossEntropy = CrossEntropy { scale: 0.125, truncate_above: None };

/// −log p of a row in f64.
fn loss(logits: &[f64], target: usize) -> f64 {
    let rest = |v: &usize| *v != target;
    (0..logits.len()).filter(rest).map(|v| (logits[v] - logits[target]).exp()).sum::<f64>().ln_1p()
}

/// Its gradient.
fn gradient(logits: &[f64], target: usize) -> Vec<f64> {
    let p = |v: usize| (-loss(logits, v)).exp();
    (0..logits.len()).map(|v| if v == target { (-loss(logits, v)).exp_m1() } else { p(v) }).collect()
}

/// A row's loss and scaled gradient, with errors that count against what an exponential is taken of.
fn expected(logits: &[f64], sizes: f64, target: u32, entropy: &CrossEntropy) -> (Expected, Vec<Expected>) {
    let target = target as usize;
    let skipped = target == IGNORE as usize
        || entropy.truncate_above.is_some_and(|limit| (-loss(logits, target)).exp() > f64::from(limit));
    if skipped {
        return (Expected::default(), vec![Expected::default(); logits.len()]);
    }
    let range = 1.0 + sizes;
    let value = loss(logits, target);
    let scaled = |x: f64| Expected {
        value: x * f64::from(entropy.scale),
        scale: (x * f64::from(entropy.scale)).abs() * range,
    };
    let gradients = gradient(logits, target).into_iter().map(scaled).collect();
    (Expected { value, scale: value * range }, gradients)
}

fn widened(values: &[f32]) -> Vec<f64> {
    values.iter().map(|x| f64::from(*x)).collect()
}

/// The largest difference of two logits.
fn range(logits: &[f32]) -> f64 {
    let largest = logits.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
    let smallest = logits.iter().fold(f32::INFINITY, |a, b| a.min(*b));
    f64::from(largest) - f64::from(smallest)
}

/// Losses and gradients of rows of `v` logits.
fn run<E: Scalar>(
    queue: &Queue,
    entropy: &CrossEntropy,
    v: usize,
    logits: &[f32],
    targets: &[u32],
) -> (Vec<f32>, Vec<f32>) {
    let losses = queue.upload(&vec![f32::NAN; targets.len()]).unwrap();
    let (rows, ids) = (arms::upload::<f32>(queue, v, logits), queue.upload(targets).unwrap());
    let out = arms::output::<E>(queue, targets.len(), v);
    entropy.loss_on(queue, rows.view(), ids.view(), losses.view(), Some(out.view())).unwrap();
    let found = queue.download(losses.view()).unwrap();

    queue.write(losses.view(), &vec![f32::NAN; targets.len()]).unwrap();
    entropy.loss_on::<E>(queue, rows.view(), ids.view(), losses.view(), None).unwrap();
    tolerance::assert_same_bits("without gradients", &queue.download(losses.view()).unwrap(), &found);
    (found, arms::read(queue, &out))
}

fn check<E: Scalar>(queue: &Queue, entropy: &CrossEntropy, v: usize, logits: &[f32], targets: &[u32]) {
    let what = format!("{queue:?} {} {v} {entropy:?}", E::NAME);
    let (losses, gradients) = run::<E>(queue, entropy, v, logits, targets);
    for (row, (logits, target)) in logits.chunks_exact(v).zip(targets).enumerate() {
        let (loss, gradient) = expected(&widened(logits), range(logits), *target, entropy);
        tolerance::assert_within(&what, [losses[row]], &[loss], tolerance::sum(v));
        let found = gradients[row * v..][..v].iter().copied();
        tolerance::assert_within(&what, found, &gradient, tolerance::stored::<E>(v, 1));
    }
}

/// Logits of `rows` rows on (−8, 8).
fn sample(seed: u32, rows: usize, v: usize) -> Vec<f32> {
    samples::values::<f32>(seed, rows * v).iter().map(|x| 8.0 * x).collect()
}

#[test]
fn every_vocabulary_is_the_oracle() {
    for queue in arms::queues() {
        for v in VOCABULARIES {
            let targets = [0, v as u32 - 1, v as u32 / 2, IGNORE, 0];
            let logits = sample(v as u32, targets.len(), v);
            check::<f32>(&queue, &PLAIN, v, &logits, &targets);
            check::<bf16>(&queue, &PLAIN, v, &logits, &targets);
        }
    }
}

/// A target that is all but certain has a loss and a gradient of the right size, not 0.
#[test]
fn near_one_both_are_exact() {
    for queue in arms::queues() {
        for lead in [5.0, 12.0, 20.0, 60.0] {
            let mut logits = vec![1.0; 300];
            logits[77] += lead;
            check::<f32>(&queue, &PLAIN, 300, &logits, &[77]);
            let (losses, gradients) = run::<f32>(&queue, &PLAIN, 300, &logits, &[77]);
            assert!(losses[0] > 0.0 && gradients[77] < 0.0, "{lead}");
        }
    }
}

#[test]
fn truncated_rows_have_neither_loss_nor_gradient() {
    let lead = |p: f32| (p / (1.0 - p)).ln() + 99f32.ln();
    let targets = [5u32; 4];
    let mut logits = vec![0.0; 4 * 100];
    for (row, p) in [0.5, 0.89, 0.91, 0.999].into_iter().enumerate() {
        logits[row * 100 + 5] = lead(p);
    }
    for queue in arms::queues() {
        for (limit, kept) in [(0.9, 2), (0.95, 3), (1.0, 4)] {
            let entropy = CrossEntropy { truncate_above: Some(limit), ..PLAIN };
            check::<f32>(&queue, &entropy, 100, &logits, &targets);
            let (losses, _) = run::<f32>(&queue, &entropy, 100, &logits, &targets);
            assert_eq!(losses.iter().filter(|loss| **loss > 0.0).count(), kept, "{limit}: {losses:?}");
        }
    }
}

/// NaN and targets that the vocabulary does not have show in their row alone.
#[test]
fn what_is_not_a_number_shows() {
    for queue in arms::queues() {
        for at in [0, 70, 129] {
            let mut logits = sample(1, 3, 130);
            logits[130 + at] = f32::NAN;
            let (losses, gradients) = run::<f32>(&queue, &PLAIN, 130, &logits, &[3, 70, 130]);
            assert!(losses[0].is_finite() && losses[1].is_nan() && losses[2].is_nan(), "{at}: {losses:?}");
            assert!(gradients[..130].iter().all(|x| x.is_finite()), "{at}");
            assert!(gradients[130..].chunks(130).all(|row| row.iter().any(|x| x.is_nan())), "{at}");
        }
    }
}

#[test]
fn impossible_tokens_weigh_nothing() {
    let infinite = f32::NEG_INFINITY;
    let logits = [infinite, 2.0, infinite, infinite, 1.0, infinite, 1.0, infinite];
    for queue in arms::queues() {
        let (losses, gradients) = run::<f32>(&queue, &PLAIN, 4, &logits, &[1, 3]);
        assert_eq!(losses, [0.0, f32::INFINITY]);
        assert!(losses[0].is_sign_positive());
        assert_eq!(gradients, [0.0, 0.0, 0.0, 0.0, 0.0625, 0.0, 0.0625, -0.125]);
    }
}

/// `hidden [rows, d]`, `weight [v, d]`.
struct Head {
    d: usize,
    v: usize,
    hidden: Vec<f32>,
    weight: Vec<f32>,
    targets: Vec<u32>,
}

impl Head {
    fn new<E: Element>(rows: usize, d: usize, v: usize) -> Self {
        let mut targets = samples::ids(9, rows, v);
        targets.iter_mut().skip(2).step_by(5).for_each(|target| *target = IGNORE);
        let (hidden, weight) = (samples::values::<E>(1, rows * d), samples::values::<E>(2, v * d));
        Self { d, v, hidden, weight, targets }
    }

    /// Losses, gradient of the hidden states, gradient of the weights added to ones.
    fn run<E: Scalar>(&self, queue: &Queue, chunk: usize) -> [Vec<f32>; 3] {
        let rows = self.targets.len();
        let work = ChunkWork::<E>::new(queue, chunk, self.v).unwrap();
        let (hidden, weight) =
            (arms::upload(queue, self.d, &self.hidden), arms::upload(queue, self.d, &self.weight));
        let (targets, losses) = (queue.upload(&self.targets).unwrap(), queue.alloc(rows).unwrap());
        let dhidden = arms::output::<E>(queue, rows, self.d);
        let dweight = arms::upload::<f32>(queue, self.d, &vec![1.0; self.v * self.d]);
        let gradient = HeadGradient { dhidden: dhidden.view(), dweight: Some(dweight.view()) };
        let [x, w] = [hidden.view(), weight.view()];
        PLAIN.head_on(queue, &work, x, w, targets.view(), losses.view(), Some(gradient)).unwrap();
        let found = queue.download(losses.view()).unwrap();

        let frozen = HeadGradient { dweight: None, ..gradient };
        for gradient in [None, Some(frozen)] {
            queue.fill(losses.view(), 0xFF).unwrap();
            PLAIN.head_on(queue, &work, x, w, targets.view(), losses.view(), gradient).unwrap();
            tolerance::assert_same_bits("frozen", &queue.download(losses.view()).unwrap(), &found);
        }
        [found, arms::read(queue, &dhidden), arms::read(queue, &dweight)]
    }

    fn check<E: Scalar>(&self, queue: &Queue, chunk: usize) {
        let Self { d, v, .. } = *self;
        let what = format!("{queue:?} {} [{}, {d}] by {v}, {chunk} at a time", E::NAME, self.targets.len());
        let [losses, dhidden, dweight] = self.run::<E>(queue, chunk);
        let mut sums = vec![Expected { value: 1.0, scale: 1.0 }; v * d];
        let limit = tolerance::stored::<E>(v.max(d), 2);
        let weight = widened(&self.weight);
        for (row, hidden) in widened(&self.hidden).chunks_exact(d).enumerate() {
            let terms = |w: &[f64]| -> Vec<f64> { w.iter().zip(hidden).map(|(w, h)| w * h).collect() };
            let products: Vec<_> = weight.chunks_exact(d).map(terms).collect();
            let logits: Vec<f64> = products.iter().map(|terms| terms.iter().sum()).collect();
            let sizes =
                products.iter().map(|terms| terms.iter().map(|x| x.abs()).sum::<f64>()).fold(0.0, f64::max);
            let (loss, gradient) = expected(&logits, sizes, self.targets[row], &PLAIN);
            tolerance::assert_within(&what, [losses[row]], &[loss], limit);
            let mut inputs = vec![Expected::default(); d];
            for (index, (g, weight)) in gradient.iter().zip(weight.chunks_exact(d)).enumerate() {
                for i in 0..d {
                    add(&mut inputs[i], g, weight[i]);
                    add(&mut sums[index * d + i], g, hidden[i]);
                }
            }
            tolerance::assert_within(&what, dhidden[row * d..][..d].iter().copied(), &inputs, limit);
        }
        tolerance::assert_within(&what, dweight, &sums, limit);
    }
}

fn add(sum: &mut Expected, g: &Expected, factor: f64) {
    sum.value += g.value * factor;
    sum.scale += g.scale * factor.abs();
}

#[test]
fn the_head_in_chunks_is_the_oracle() {
    for queue in arms::queues() {
        for (rows, d, v, chunk) in [(1, 1, 1, 1), (7, 18, 133, 3), (12, 66, 257, 12), (5, 8, 40, 64)] {
            Head::new::<f32>(rows, d, v).check::<f32>(&queue, chunk);
            Head::new::<bf16>(rows, d, v).check::<bf16>(&queue, chunk);
        }
    }
}

#[test]
fn threads_change_no_bit() {
    let queue = Queue::open(toedit::Device::Cpu).unwrap();
    let head = Head::new::<f32>(70, 300, 700);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| head.run::<f32>(&queue, 33))
    };
    let alone = run(1);
    for threads in [2, 3, 7] {
        for (ours, alone) in run(threads).iter().zip(&alone) {
            tolerance::assert_same_bits("threads", ours, alone);
        }
    }
}

#[test]
#[should_panic(expected = "targets and losses")]
fn targets_that_do_not_fit_panic() {
    let queue = Queue::open(toedit::Device::Cpu).unwrap();
    let logits = arms::upload::<f32>(&queue, 4, &[0.0; 8]);
    let _ = PLAIN.loss_on::<f32>(&queue, logits.view(), View::none(), View::none(), None);
}

proptest! {
    /// The oracle's gradient is the slope of the oracle's loss.
    #[test]
    fn the_oracle_differentiates(seed: u32, v in 1..40usize, target in 0..40usize) {
        let logits = widened(&sample(seed, 1, v));
        let target = target % v;
        for (index, slope) in gradient(&logits, target).into_iter().enumerate() {
            let moved = |by: f64| {
                let mut logits = logits.clone();
                logits[index] += by;
                loss(&logits, target)
            };
            let numeric = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            prop_assert!((numeric - slope).abs() <= 1e-8 + 1e-6 * slope.abs(), "{index}: {numeric} {slope}");
        }
    }

    #[test]
    fn any_row_on_the_host_is_the_oracle(seed: u32, v in 1..500usize, rows in 1..5usize, limit in 0.05f32..1.0) {
        let queue = Queue::open(toedit::Device::Cpu).unwrap();
        let targets = samples::ids(seed, rows, v);
        let entropy = CrossEntropy { scale: 1.0, truncate_above: Some(limit) };
        let logits = sample(seed, rows, v);
        let p = |row: usize| (-loss(&widened(&logits[row * v..][..v]), targets[row] as usize)).exp();
        prop_assume!((0..rows).all(|row| (p(row) - f64::from(limit)).abs() > 1e-6));
        check::<f32>(&queue, &entropy, v, &logits, &targets);
        check::<bf16>(&queue, &entropy, v, &logits, &targets);
    }
}
