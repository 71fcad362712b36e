//! Every family's texts: the most likely ones are transformers', and all of them are scored as they were drawn.

use toedit::generate::{Decoder, Extension, Finish, GenerateConfig, Generated, Generator, Prompt, Sampling};
use toedit::{Dtype, Model, ScoreConfig, Scorer};

use crate::common::editing::pool;
use crate::common::{FAMILIES, Golden, assert_close};
use crate::scores::LOGPROB;

const PROMPT: usize = 8;

/// Texts of up to 16 tokens that nothing ends.
fn config(model: &Model) -> GenerateConfig {
    GenerateConfig { max_new_tokens: 16, eos: Vec::new(), ..GenerateConfig::new(model).unwrap() }
}

fn generate(model: &Model, config: GenerateConfig, prompts: &[Prompt]) -> Vec<Generated> {
    Generator::new(model, config).unwrap().generate(prompts).unwrap()
}

#[test]
fn the_most_likely_texts_are_transformers() {
    for family in FAMILIES {
        let golden = Golden::load(family);
        let model = Model::load(&golden.folder, Dtype::F32).unwrap();
        let (ids, expected) = golden.greedy.split_at(PROMPT);
        let config = GenerateConfig { sampling: Sampling::greedy(), ..config(&model) };
        let generated = generate(&model, config, &[Prompt { ids, stream: 0, sample: 0 }]);
        assert_eq!(generated[0].ids, expected, "{family}");
        assert_eq!(generated[0].finish, Finish::Length, "{family}");
    }
}

#[test]
fn log_probabilities_of_texts_are_those_of_scoring() {
    for family in FAMILIES {
        let golden = Golden::load(family);
        for dtype in [Dtype::F32, Dtype::Bf16] {
            let model = Model::load(&golden.folder, dtype).unwrap();
            let ids = golden.documents();
            let prompts = [&ids[0][..1], &ids[0][..31], &ids[1][..33], &ids[1][..7]];
            let prompts = prompts.map(|ids| Prompt { ids, stream: 3, sample: 0 });
            let config = GenerateConfig { max_new_tokens: 31, logprobs: true, ..config(&model) };
            let scorer = Scorer::new(&model, ScoreConfig::new(&model).unwrap()).unwrap();
            for (prompt, generated) in prompts.iter().zip(generate(&model, config, &prompts)) {
                let whole = [prompt.ids, &generated.ids].concat();
                let scores = scorer.score(&[&whole]).unwrap();
                assert_eq!(generated.ids.len(), 31);
                // Not only near: every sum is the same chain.
                assert_eq!(
                    scores[0].logprobs[prompt.ids.len() - 1..],
                    generated.logprobs,
                    "{family} {dtype}"
                );
            }
        }
    }
}

#[test]
fn a_text_does_not_depend_on_its_neighbours() {
    for family in FAMILIES {
        let golden = Golden::load(family);
        let ids = golden.documents();
        for dtype in [Dtype::F32, Dtype::Bf16] {
            let model = Model::load(&golden.folder, dtype).unwrap();
            let sampling = Sampling { repetition_penalty: 1.2, min_p: 0.01, ..Sampling::default() };
            let config = GenerateConfig { max_new_tokens: 60, sampling, logprobs: true, ..config(&model) };
            // Ends that come early and late, so that prompts begin beside texts in every state.
            let config = GenerateConfig { eos: (0..6).collect(), ..config };
            let prompt = |index: usize| Prompt {
                ids: &ids[index % 2][..1 + index * 5 % 33],
                stream: index as u64 / 2,
                sample: index as u32 % 2,
            };
            let prompts: Vec<_> = (0..64).map(prompt).collect();
            let with = |batch_size| GenerateConfig { batch_size, ..config.clone() };
            let together = generate(&model, with(64), &prompts);
            assert!(together.iter().any(|text| text.finish == Finish::Eos), "{family}");
            assert_eq!(generate(&model, with(1), &prompts), together, "{family} {dtype}");
            let others = pool(3).install(|| generate(&model, with(5), &prompts));
            assert_eq!(others, together, "{family} {dtype}");
        }
    }
}

#[test]
fn sequences_go_on_from_one_prefix_as_if_each_had_been_read() {
    for family in FAMILIES {
        let golden = Golden::load(family);
        let [first, second] = golden.documents()[..] else { panic!("two documents") };
        let long: Vec<u32> = first.iter().chain(second).copied().take(45).collect();
        for dtype in [Dtype::F32, Dtype::Bf16] {
            let model = Model::load(&golden.folder, dtype).unwrap();
            let mut decoder = Decoder::new(&model, 4, 64).unwrap();
            decoder.read(&[Extension { slot: 2, ids: &long }]).unwrap();
            for length in [1, 31, 32, 33, 40, 44] {
                // What stood in the slot before plays no part.
                decoder.fork(2, 1, 45).unwrap();
                decoder.fork(2, 1, length).unwrap();
                decoder.fork(1, 3, length).unwrap();
                assert_eq!(decoder.length(3), length);
                let tail = [&long[length..length + 1], &second[..19]].concat();
                let forked = [1, 3].map(|slot| Extension { slot, ids: &tail });
                let scored = decoder.score(&forked).unwrap();
                assert_eq!(scored[0], scored[1], "{family} {dtype} {length}");
                let whole = [&long[..length], &tail].concat();
                decoder.truncate(0, 0).unwrap();
                let expected = decoder.score(&[Extension { slot: 0, ids: &whole }]).unwrap();
                assert_eq!(expected[0][length..], scored[0], "{family} {dtype} {length}");
                let scorer = Scorer::new(&model, ScoreConfig::new(&model).unwrap()).unwrap();
                let logprobs: Vec<_> = expected[0].iter().map(|row| row.log_probability()).collect();
                assert_eq!(scorer.score(&[&whole]).unwrap()[0].logprobs, logprobs, "{family} {dtype}");
            }
        }
    }
}

#[test]
fn logits_behind_a_sequence_are_transformers() {
    for family in FAMILIES {
        let golden = Golden::load(family);
        let model = Model::load(&golden.folder, Dtype::F32).unwrap();
        let mut decoder = Decoder::new(&model, 2, 40).unwrap();
        for position in 0..golden.documents()[0].len() {
            let of_row =
                |row: usize| Extension { slot: row, ids: &golden.documents()[row][position..=position] };
            let check = |row: usize, logits: &[f32]| {
                assert_close(family, logits, golden.logits(row, position), LOGPROB);
            };
            decoder.logits(&[of_row(0), of_row(1)], check).unwrap();
        }
    }
}

#[test]
fn prompts_that_no_text_can_go_on_from_are_named() {
    let golden = Golden::load("llama");
    let model = Model::load(&golden.folder, Dtype::F32).unwrap();
    let config = GenerateConfig { max_length: 12, ..config(&model) };
    let generator = Generator::new(&model, config).unwrap();
    let long = [5; 12];
    for (ids, expected) in [
        (&[][..], "document 1: an empty prompt: expected at least a token that begins a sequence"),
        (
            &long,
            "document 1: a prompt of 12 tokens leaves no room for new ones: prompt and text have up to 12 together",
        ),
        (&[999], "document 1: token id 999 at position 0: the model's vocabulary has 257 ids"),
    ] {
        let prompts = [&[5][..], ids].map(|ids| Prompt { ids, stream: 0, sample: 0 });
        assert_eq!(generator.generate(&prompts).unwrap_err().to_string(), expected);
    }
    let full = generator.generate(&[Prompt { ids: &long[..11], stream: 0, sample: 0 }]).unwrap();
    assert_eq!((full[0].ids.len(), full[0].finish), (1, Finish::Length));
}
