//! Optimizer steps: batches in parts, adapters.

use toedit::Device;
use toedit::device::{Queue, View};
use toedit::model::layout::{Slot, Tensor};
use toedit::ops::optimizer::AdamW;
use toedit::train::data::{IGNORE, Row};
use toedit::train::{Batch, Extent, Learn, Learner, LearnerConfig, LoraConfig, Origin, StepConfig};

use crate::common::devices::devices;

const LENGTH: usize = 16;
const ROWS: usize = 4;

fn origin() -> Origin {
    Origin::model(crate::common::root().join("tests/data/golden/llama").to_str().unwrap()).unwrap()
}

fn learner(device: Device, lora: Option<LoraConfig>) -> Learner<f32> {
    let origin = origin();
    let extent = Extent { tokens: ROWS * LENGTH, sequence: LENGTH, recompute: false };
    let queue = Queue::open(device).unwrap();
    let mut learner = Learner::new(queue, origin.config(), &LearnerConfig { extent, lora }).unwrap();
    for tensor in learner.layout().tensors.clone() {
        learner.write(&tensor, &origin.values(&tensor.parameter, 0).unwrap()).unwrap();
    }
    learner.ready().unwrap();
    learner
}

/// Made-up numbers between -1 and 1.
fn noise(seed: usize, len: usize) -> Vec<f32> {
    (0..len).map(|index| ((seed * 131 + index * 7 + index * index * 3) % 257) as f32 / 128.0 - 1.0).collect()
}

/// A row of which only the first `counted` targets carry loss.
fn row(seed: u32, counted: usize) -> Row {
    let ids: Vec<u32> = (0..=LENGTH as u32).map(|index| (seed * 37 + index * index) % 257).collect();
    let mut targets = ids[1..].to_vec();
    targets[counted..].fill(IGNORE);
    Row { ids, targets }
}

/// The relative distance of `ours` from `theirs`; NaN where one has NaN.
fn distance(ours: &[f64], theirs: &[f64]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>();
    let error = square(&mut ours.iter().zip(theirs).map(|(a, b)| a - b));
    (error / square(&mut theirs.iter().copied())).sqrt()
}

fn gradients(learner: &Learner<f32>) -> Vec<f64> {
    let tensors = learner.layout().tensors.iter();
    tensors.flat_map(|tensor| learner.read_gradient(tensor).unwrap()).map(f64::from).collect()
}

#[test]
fn a_batch_in_parts_is_the_whole_batch_however_its_losses_lie() {
    let rows = [row(1, LENGTH), row(2, LENGTH - 3), row(3, 1), row(4, 0)];
    for device in devices() {
        let mut learner = learner(device, None);
        let whole = learner.differentiate(&[Batch::new(&rows)], None).unwrap();
        let expected = gradients(&learner);
        for size in [1, 2, 3] {
            let parts: Vec<_> = rows.chunks(size).map(Batch::new).collect();
            let loss = learner.differentiate(&parts, None).unwrap();
            assert!((loss / whole - 1.0).abs() <= 1e-6, "{device}, {size}: {loss} against {whole}");
            let error = distance(&gradients(&learner), &expected);
            assert!(error <= 1e-5, "{device}, {size}: off by {error:e}");
        }
        // The mean of the parts' means is something else.
        let mean = |rows: &[Row]| learner.differentiate(&[Batch::new(rows)], None).unwrap();
        let means: Vec<f64> = rows.chunks(2).map(mean).collect();
        assert!(((means[0] + means[1]) / 2.0 / whole - 1.0).abs() > 1e-3, "{means:?} {whole}");
    }
}

/// One product's adapters: where they lie among all, and their values.
struct Adapter {
    tensor: Tensor,
    slots: [Slot; 2],
    a: Vec<f64>,
    b: Vec<f64>,
}

fn buffer<'a>(learner: &'a dyn Learn, name: &str) -> View<'a, f32> {
    learner.state().into_iter().find(|(found, _)| *found == name).unwrap().1
}

/// Gives all adapters values: their own would leave all gradients of A zero.
fn fill(learner: &dyn Learn, rank: usize) -> Vec<Adapter> {
    let (mut len, mut seed) = (0, 0);
    let mut write = |rows, width| {
        let slot = Slot::after(&mut len, rows, width);
        seed += 1;
        let values: Vec<f32> = noise(seed, rows * width).iter().map(|value| value * 0.1).collect();
        slot.of(buffer(learner, "adapters")).write(learner.queue(), &values).unwrap();
        (slot, values.into_iter().map(f64::from).collect())
    };
    let adapter = |tensor: &Tensor| {
        let ((a_slot, a), (b_slot, b)) = (write(rank, tensor.slot.width), write(tensor.slot.rows, rank));
        Adapter { tensor: tensor.clone(), slots: [a_slot, b_slot], a, b }
    };
    learner.layout().inner_products().map(adapter).collect()
}

/// `x [m, k] · y [k, n]`, each given by its element.
fn product(
    [m, k, n]: [usize; 3],
    x: impl Fn(usize, usize) -> f64,
    y: impl Fn(usize, usize) -> f64,
) -> Vec<f64> {
    let sum = |index: usize| (0..k).map(|inner| x(index / n, inner) * y(inner, index % n)).sum();
    (0..m * n).map(sum).collect()
}

impl Adapter {
    /// `W + s·B·A`
    fn merged(&self, scale: f64, rank: usize) -> Vec<f32> {
        let (rows, width) = (self.tensor.slot.rows, self.tensor.slot.width);
        let added = product([rows, rank, width], |i, j| self.b[i * rank + j], |i, j| self.a[i * width + j]);
        let weight = origin().values(&self.tensor.parameter, 0).unwrap();
        weight.iter().zip(added).map(|(weight, added)| (f64::from(*weight) + scale * added) as f32).collect()
    }

    /// `dA = s·Bᵀ·dW` and `dB = s·dW·Aᵀ`
    fn gradients(&self, dw: &[f32], scale: f64, rank: usize) -> [Vec<f64>; 2] {
        let (rows, width) = (self.tensor.slot.rows, self.tensor.slot.width);
        let dw = |i: usize, j: usize| scale * f64::from(dw[i * width + j]);
        let da = product([rank, rows, width], |i, j| self.b[j * rank + i], dw);
        [da, product([rows, width, rank], dw, |i, j| self.a[j * width + i])]
    }
}

/// From the gradient of a model without adapters, whose weights are the sums, in f64.
#[test]
fn gradients_of_adapters_are_the_oracles() {
    let config = LoraConfig { rank: 3, alpha: 5.0, seed: 0 };
    let (rank, scale) = (config.rank, f64::from(config.alpha) / config.rank as f64);
    let batch = [Batch::new(&[row(1, LENGTH), row(2, LENGTH - 5)])];
    for device in devices() {
        let (mut adapted, mut merged) = (learner(device, Some(config)), learner(device, None));
        let adapters = fill(&adapted, rank);
        for adapter in &adapters {
            merged.write(&adapter.tensor, &adapter.merged(scale, rank)).unwrap();
        }
        adapted.ready().unwrap();
        merged.ready().unwrap();
        let loss = merged.differentiate(&batch, None).unwrap();
        // A step of no length, whose first moment is half of the gradient.
        let optimizer =
            AdamW { learning_rate: 0.0, beta1: 0.5, beta2: 0.5, eps: 1.0, weight_decay: 0.0, step: 1 };
        let found =
            adapted.step(&batch, &StepConfig { optimizer, clip: None, truncate_above: None }).unwrap();
        assert!((found.loss / loss - 1.0).abs() <= 1e-6, "{device}: {found:?}, {loss}");
        let mut squares = 0.0;
        for adapter in &adapters {
            let dw = merged.read_gradient(&adapter.tensor).unwrap();
            for (slot, expected) in adapter.slots.iter().zip(adapter.gradients(&dw, scale, rank)) {
                let half = slot.of(buffer(&adapted, "exp_avg")).read(adapted.queue()).unwrap();
                let ours: Vec<f64> = half.into_iter().map(|half| 2.0 * f64::from(half)).collect();
                let error = distance(&ours, &expected);
                assert!(error <= 1e-5, "{device}, {}, {slot:?}: {error:e}", adapter.tensor.parameter.name);
                squares += expected.iter().map(|value| value * value).sum::<f64>();
            }
        }
        let norm = squares.sqrt();
        assert!((found.gradient_norm / norm - 1.0).abs() <= 1e-5, "{device}: {found:?} against {norm}");
    }
}
