//! Losses, gradients and optimizer steps of all families against transformers' numbers.

use half::bf16;
use safetensors::SafeTensors;
use toedit::Device;
use toedit::device::{Kernels, Queue};
use toedit::model::layout::Tensor;
use toedit::ops::optimizer::AdamW;
use toedit::train::{Batch, Extent, Learn, Learner, LearnerConfig, Origin, StepConfig, data::Row};

use crate::common::devices::on_every_device;
use crate::common::{FAMILIES, folders};

/// What transformers computed with one family.
struct Reference {
    origin: Origin,
    bytes: Vec<u8>,
}

impl Reference {
    fn load(family: &str) -> Option<Self> {
        let folder = folders::shared("golden")?.join(family);
        let bytes = std::fs::read(folder.join("expect.safetensors")).unwrap();
        Some(Self { origin: Origin::model(folder.to_str().unwrap()).unwrap(), bytes })
    }

    fn words(&self, name: &str) -> Vec<[u8; 4]> {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let tensor = file.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        tensor.data().chunks_exact(4).map(|word| word.try_into().unwrap()).collect()
    }

    fn values(&self, name: &str) -> Vec<f32> {
        self.words(name).into_iter().map(f32::from_le_bytes).collect()
    }

    fn batch(&self) -> Batch {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let width = file.tensor("input_ids").unwrap().shape()[1];
        let ids: Vec<u32> = self.words("input_ids").into_iter().map(u32::from_le_bytes).collect();
        let row = |ids: &[u32]| Row { ids: ids.to_vec(), targets: ids[1..].to_vec() };
        Batch::new(&ids.chunks_exact(width).map(row).collect::<Vec<_>>())
    }

    fn learner<E: Kernels>(&self, device: Device, recompute: bool) -> Learner<E> {
        let batch = self.batch();
        let extent = Extent { tokens: batch.ids.len(), sequence: 32, recompute };
        let queue = Queue::open(device).unwrap();
        let config = LearnerConfig { extent, lora: None };
        let mut learner = Learner::<E>::new(queue, self.origin.config(), &config).unwrap();
        for tensor in learner.layout().tensors.clone() {
            learner.write(&tensor, &self.origin.values(&tensor.parameter, 0).unwrap()).unwrap();
        }
        learner.ready().unwrap();
        learner
    }
}

fn norm(values: impl IntoIterator<Item = f32>) -> f64 {
    values.into_iter().map(|value| f64::from(value).powi(2)).sum::<f64>().sqrt()
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>().sqrt()
}

/// Relative L2 distance up to 1e-4, or every element within 1e-8: some gradients are zero in theory.
fn check_gradient(what: &str, ours: &[f32], theirs: &[f32]) {
    let error = distance(ours, theirs);
    let tiny = ours.iter().zip(theirs).all(|(a, b)| (a - b).abs() <= 1e-8);
    let relative = error / norm(theirs.iter().copied());
    assert!(relative <= 1e-4 || tiny, "{what}: off by {relative:e} of its norm");
}

#[test]
fn losses_and_gradients_are_those_of_transformers() {
    for (family, device) in on_every_device(&FAMILIES) {
        let Some(reference) = Reference::load(family) else { return };
        let what = format!("{family} on {device}");
        let mut learner = reference.learner::<f32>(device, false);
        let loss = learner.differentiate(&[reference.batch()], None).unwrap();
        let expected = f64::from(reference.values("loss")[0]);
        assert!((loss - expected).abs() <= 1e-5, "{what}: loss {loss} against {expected}");
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for tensor in &learner.layout().tensors {
            let expected = reference.values(&format!("grad.{}", tensor.parameter.name));
            let found = learner.read_gradient(tensor).unwrap();
            check_gradient(&format!("{what}: {}", tensor.parameter.name), &found, &expected);
            ours.extend(found);
            theirs.extend(expected);
        }
        let (ours, theirs) = (norm(ours), norm(theirs));
        assert!((ours / theirs - 1.0).abs() <= 1e-5, "{what}: global norm {ours} against {theirs}");
    }
}

/// Products of bf16 operands: each rounding is off by up to 2⁻⁸ of a value, about thirty of them lie on a gradient's way,
/// and their errors add up as a random walk.
#[test]
fn gradients_in_bf16_are_off_by_its_roundings() {
    for (family, device) in on_every_device(&FAMILIES) {
        let Some(reference) = Reference::load(family) else { return };
        let mut learner = reference.learner::<bf16>(device, false);
        let loss = learner.differentiate(&[reference.batch()], None).unwrap();
        let expected = f64::from(reference.values("loss")[0]);
        let limit = 30f64.sqrt() / 256.0;
        assert!(
            (loss / expected - 1.0).abs() <= limit,
            "{family} on {device}: loss {loss} against {expected}"
        );
        let (mut error, mut all) = (0.0, 0.0);
        for tensor in &learner.layout().tensors {
            let expected = reference.values(&format!("grad.{}", tensor.parameter.name));
            error += distance(&learner.read_gradient(tensor).unwrap(), &expected).powi(2);
            all += norm(expected).powi(2);
        }
        let relative = (error / all).sqrt();
        assert!(relative <= limit, "{family} on {device}: gradients off by {relative} of their norm");
    }
}

fn optimizer(step: u32) -> StepConfig {
    let optimizer =
        AdamW { learning_rate: 1e-3, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, step };
    StepConfig { optimizer, clip: Some(1.0), truncate_above: None }
}

/// How far all weights are from the reference's, against how far those went; and the share that is off by more than 1e-5.
fn compare(reference: &Reference, read: impl Fn(&Tensor) -> Vec<f32>, tensors: &[Tensor]) -> (f64, f64) {
    let (mut error, mut way, mut off, mut count) = (0.0, 0.0, 0, 0);
    for tensor in tensors {
        let expected = reference.values(&format!("step.{}", tensor.parameter.name));
        let (start, found) = (reference.origin.values(&tensor.parameter, 0).unwrap(), read(tensor));
        error += distance(&found, &expected).powi(2);
        way += distance(&start, &expected).powi(2);
        let near = found.iter().zip(&expected).filter(|(a, b)| (*a - *b).abs() <= 1e-5).count();
        off += expected.len() - near;
        count += found.len();
    }
    ((error / way).sqrt(), off as f64 / count as f64)
}

#[test]
fn three_steps_lead_where_transformers_goes() {
    for (family, device) in on_every_device(&FAMILIES) {
        let Some(reference) = Reference::load(family) else { return };
        let what = format!("{family} on {device}");
        let mut learner = reference.learner::<f32>(device, false);
        let batch = [reference.batch()];
        for (step, expected) in (1..).zip(reference.values("step_loss")) {
            let loss = learner.step(&batch, &optimizer(step)).unwrap().loss;
            assert!((loss - f64::from(expected)).abs() <= 1e-4, "{what}, step {step}: {loss}, {expected}");
        }
        let (tensors, read) = (learner.layout().tensors.clone(), |tensor: &_| learner.read(tensor).unwrap());
        let (distance, off) = compare(&reference, read, &tensors);
        assert!(
            distance <= 5e-3 && off <= 5e-3,
            "{what}: off by {distance:e} of the way, {off} of the weights"
        );
    }
}

#[test]
fn recomputed_activations_change_no_bit() {
    for family in FAMILIES {
        let Some(reference) = Reference::load(family) else { return };
        let [kept, again] = [false, true].map(|recompute| {
            let mut learner = reference.learner::<f32>(Device::Cpu, recompute);
            learner.differentiate(&[reference.batch()], None).unwrap();
            let tensors = &learner.layout().tensors;
            tensors.iter().flat_map(|tensor| learner.read_gradient(tensor).unwrap()).collect::<Vec<_>>()
        });
        crate::common::tolerance::assert_same_bits(family, &again, &kept);
    }
}
