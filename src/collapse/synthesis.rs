//! Synthetic texts: one for each human text, of its length.

use std::ops::ControlFlow;
use std::path::Path;

use super::config::CollapseConfig;
use super::texts::{Alphabet, Texts};
use crate::Result;
use crate::generate::{GenerateConfig, Generator, Prompt};
use crate::model::Model;

/// Writes what `model` makes of the beginnings of human texts to a folder. `watch` is told how many texts and tokens there are.
///
/// Texts are of fixed length, so nothing ends them before: a token that ends a text is one like all others.
pub(super) fn synthesise(
    config: &CollapseConfig,
    alphabet: &Alphabet,
    (model, seed): (&Model, u64),
    human: &Texts,
    folder: &Path,
    mut watch: impl FnMut(u64, u64) -> Result<()>,
) -> Result<()> {
    let tokenizer = alphabet.vocabulary.tokenizer.as_ref().expect("an alphabet has one");
    let generator = Generator::new(
        model,
        GenerateConfig {
            max_new_tokens: config.text_tokens(),
            sampling: config.synthesis.sampling,
            seed,
            eos: Vec::new(),
            vocabulary: tokenizer.len(),
            max_length: config.synthesis.prefix_tokens + config.training.sequence_length,
            batch_size: config.synthesis.batch_size,
            logprobs: false,
            stop: config.stop.clone(),
        },
    )?;
    let mut writer = alphabet.writer(folder)?;
    let (mut texts, mut tokens) = (0, 0);
    for chunk in human.chunks() {
        let (first, originals) = chunk?;
        for ids in continuations(&generator, config, alphabet.start, (first, &originals))? {
            tokens += ids.len() as u64;
            writer.push(&ids)?;
        }
        texts += originals.len() as u64;
        watch(texts, tokens)?;
    }
    writer.finish()
}

/// Texts that go on from the beginnings of others, the first of which has this number.
fn continuations(
    generator: &Generator,
    config: &CollapseConfig,
    start: u32,
    (first, originals): (u64, &[Vec<u32>]),
) -> Result<Vec<Vec<u32>>> {
    let beginning = |ids: &Vec<u32>| {
        let prefix = &ids[..ids.len().min(config.synthesis.prefix_tokens)];
        [&[start], prefix].concat()
    };
    let prompts: Vec<_> = originals.iter().map(beginning).collect();
    // Equal beginnings go on differently: numbers tell texts apart.
    let prompt = |(ids, stream): (_, u64)| Prompt { ids, stream, sample: 0 };
    let prompts: Vec<_> = prompts.iter().map(Vec::as_slice).zip(first..).map(prompt).collect();
    let mut missing: Vec<_> = originals.iter().map(Vec::len).collect();
    let generated = generator.generate_with(&prompts, |index, _| {
        missing[index] -= 1;
        if missing[index] == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(generated.into_iter().map(|generated| generated.ids).collect())
}
