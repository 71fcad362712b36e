//! Texts on the devices with kernels: transformers' most likely ones, scored as they were drawn, whatever stands beside them.

use half::bf16;
use toedit::generate::{Decoder, Extension, GenerateConfig, Generated, Generator, Prompt, Sampling};
use toedit::{Device, Dtype, Model, ScoreConfig, Scorer};

use crate::common::devices::{devices, load, on_every_device};
use crate::common::oracle::Expected;
use crate::common::{FAMILIES, Golden, assert_close, tolerance};
use crate::scores::LOGPROB;

/// Learned positions and biases; grouped queries and rotary positions; norms of heads; a parallel residual.
const SOME: [&str; 4] = ["gpt2", "llama", "qwen3", "gpt-neox"];
/// Terms of the longest sum, that over a layer's inner values.
const TERMS: usize = 256;
/// In each of two layers scoring rounds attention's weights, which reading a cache does not, and both round its output.
const ROUNDINGS: u32 = 4;

fn with_kernels(families: &[&'static str]) -> impl Iterator<Item = (&'static str, Device)> {
    on_every_device(families).into_iter().filter(|(_, device)| *device != Device::Cpu)
}

/// Texts of up to `tokens` tokens that nothing ends.
fn config(model: &Model, tokens: usize, sampling: Sampling) -> GenerateConfig {
    let all = GenerateConfig::new(model).unwrap();
    GenerateConfig {
        max_new_tokens: tokens,
        max_length: 48,
        eos: Vec::new(),
        sampling,
        logprobs: true,
        ..all
    }
}

fn generate(model: &Model, config: GenerateConfig, prompts: &[Prompt]) -> Vec<Generated> {
    Generator::new(model, config).unwrap().generate(prompts).unwrap()
}

#[test]
fn the_most_likely_texts_on_devices_are_transformers() {
    for (family, device) in with_kernels(&FAMILIES) {
        let golden = Golden::load(family);
        let model = load(&golden.folder, Dtype::F32, device);
        let (ids, expected) = golden.greedy.split_at(8);
        let prompt = Prompt { ids, stream: 0, sample: 0 };
        let generated = generate(&model, config(&model, 16, Sampling::greedy()), &[prompt]);
        assert_eq!(generated[0].ids, expected, "{family} on {device}");
    }
}

#[test]
fn log_probabilities_of_texts_on_devices_are_those_of_scoring() {
    for (family, device) in with_kernels(&SOME) {
        let golden = Golden::load(family);
        let ids = golden.documents();
        let limits = [
            (Dtype::F32, tolerance::stored::<f32>(TERMS, ROUNDINGS)),
            (Dtype::Bf16, tolerance::stored::<bf16>(TERMS, ROUNDINGS)),
        ];
        for (dtype, limit) in limits {
            let model = load(&golden.folder, dtype, device);
            let prompts = [&ids[0][..1], &ids[1][..31]].map(|ids| Prompt { ids, stream: 3, sample: 0 });
            let scorer = Scorer::new(&model, ScoreConfig::new(&model).unwrap()).unwrap();
            let sampling = Sampling { top_p: 0.95, ..Sampling::default() };
            for (prompt, text) in prompts.iter().zip(generate(&model, config(&model, 8, sampling), &prompts))
            {
                let scored = scorer.score(&[&[prompt.ids, &text.ids].concat()]).unwrap();
                let expected = scored[0].logprobs[prompt.ids.len() - 1..].iter().map(of_size);
                let expected: Vec<_> = expected.collect();
                tolerance::assert_within(
                    &format!("{family} {dtype} on {device}"),
                    text.logprobs,
                    &expected,
                    limit,
                );
            }
        }
    }
}

/// A log-probability, which errs by its size, and near 0 by that of the probability.
fn of_size(value: &f32) -> Expected {
    let value = f64::from(*value);
    Expected { value, scale: 1.0 + value.abs() }
}

/// The CPU's draws too: in f32 their roundings do not decide here.
#[test]
fn a_text_on_a_device_depends_on_its_prompt_alone() {
    for (family, device) in with_kernels(&SOME) {
        let golden = Golden::load(family);
        let ids = golden.documents();
        let [cpu, model] = [Device::Cpu, device].map(|device| load(&golden.folder, Dtype::F32, device));
        let prompt = |index: usize| Prompt {
            ids: &ids[index % 2][..1 + index * 5 % 23],
            stream: index as u64 / 2,
            sample: index as u32 % 2,
        };
        let prompts: Vec<_> = (0..5).map(prompt).collect();
        let sampling = Sampling { repetition_penalty: 1.2, min_p: 0.01, ..Sampling::default() };
        let with = |batch_size| GenerateConfig { batch_size, ..config(&model, 6, sampling) };
        let together = generate(&model, with(5), &prompts);
        for batch_size in [1, 2] {
            assert_eq!(generate(&model, with(batch_size), &prompts), together, "{family} on {device}");
        }
        let on_cpu = generate(&cpu, with(5), &prompts);
        let ids = |texts: &[Generated]| texts.iter().map(|text| text.ids.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&on_cpu), ids(&together), "{family} on {device}");
    }
}

#[test]
fn forks_on_devices_go_on_as_the_whole() {
    for device in devices().into_iter().filter(|device| *device != Device::Cpu) {
        let golden = Golden::load("llama");
        let ids = golden.documents();
        let long: Vec<u32> = ids[0].iter().chain(ids[1]).copied().take(40).collect();
        for dtype in [Dtype::F32, Dtype::Bf16] {
            let model = load(&golden.folder, dtype, device);
            let mut decoder = Decoder::new(&model, 3, 48).unwrap();
            decoder.read(&[Extension { slot: 1, ids: &long }]).unwrap();
            for length in [1, 31, 32, 33] {
                // What stood in the slot before plays no part.
                decoder.fork(1, 2, 40).unwrap();
                decoder.fork(1, 2, length).unwrap();
                let tail = [&long[length..length + 1], &ids[1][..6]].concat();
                let scored = decoder.score(&[Extension { slot: 2, ids: &tail }]).unwrap();
                let whole = [&long[..length], &tail].concat();
                decoder.truncate(0, 0).unwrap();
                let expected = decoder.score(&[Extension { slot: 0, ids: &whole }]).unwrap();
                assert_eq!(expected[0][length..], scored[0], "{device} {dtype} {length}");
            }
        }
    }
}

#[test]
fn logits_on_devices_are_transformers() {
    for (family, device) in with_kernels(&SOME) {
        let golden = Golden::load(family);
        let model = load(&golden.folder, Dtype::F32, device);
        let mut decoder = Decoder::new(&model, 2, 40).unwrap();
        for position in 0..8 {
            let of_row =
                |row: usize| Extension { slot: row, ids: &golden.documents()[row][position..=position] };
            let check = |row: usize, logits: &[f32]| {
                assert_close(family, logits, golden.logits(row, position), LOGPROB);
            };
            decoder.logits(&[of_row(0), of_row(1)], check).unwrap();
        }
    }
}
