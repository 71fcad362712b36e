//! Edited texts: a generation's data are its predecessor's, some tokens resampled.

use std::path::Path;

use super::config::CollapseConfig;
use super::table::Edits;
use super::texts::{Alphabet, Texts};
use crate::edit::{EditInput, Editor, IdConstraint, Vocabulary};
use crate::model::Model;
use crate::score::{ScoreConfig, Sequence};
use crate::{Error, Result};

/// Who edits, and how the model's texts begin.
pub(super) struct Hand<'a> {
    pub model: &'a Model,
    pub context: &'a [u32],
    pub seed: u64,
    /// The round of editing, from 0.
    pub round: u32,
}

/// Writes the texts to a folder as `hand` edits them. `watch` is told how many texts and tokens there are.
pub(super) fn edit(
    config: &CollapseConfig,
    alphabet: &Alphabet,
    hand: &Hand,
    texts: &Texts,
    folder: &Path,
    mut watch: impl FnMut(u64, u64) -> Result<()>,
) -> Result<Edits> {
    let score = ScoreConfig { stop: config.stop.clone(), ..ScoreConfig::new(hand.model)? };
    let edit = config.edit.clone().with_seed(hand.seed).with_generation(hand.round)?;
    let editor = Editor::new(hand.model, score, edit)?;
    let tokenizer = alphabet.vocabulary.tokenizer.as_ref();
    let vocabulary = Vocabulary::new(hand.model.config(), tokenizer);
    let mut writer = alphabet.writer(folder)?;
    let (mut edits, mut done, mut tokens) = (Edits::default(), 0, 0);
    for chunk in texts.chunks() {
        let (first, originals) = chunk?;
        let constraint = |ids| IdConstraint::new(&vocabulary, tokenizer, ids);
        let constraints: Vec<_> = originals.iter().map(|ids| constraint(ids)).collect();
        let inputs: Vec<_> = originals
            .iter()
            .zip(&constraints)
            // A text's number: the same in all generations, and different for equal texts.
            .zip(first..)
            .map(|((ids, constraint), stream)| {
                let sequence = Sequence::new(hand.context, ids);
                EditInput { sequence, stream, constraint }
            })
            .collect();
        for (edited, ids) in editor.edit(&inputs)?.iter().zip(&originals) {
            edits.eligible += edited.counts.eligible;
            edits.changed += edited.counts.changed;
            edits.dropped += edited.counts.dropped;
            let ids = edited.apply(ids);
            tokens += ids.len() as u64;
            writer.push(&ids)?;
        }
        done += originals.len() as u64;
        watch(done, tokens)?;
    }
    writer.finish()?;
    Ok(edits)
}

/// Refuses a prior whose ids are not the learner's.
pub(super) fn check_prior(folder: &Path, hash: Option<&str>, alphabet: &Alphabet) -> Result<()> {
    if hash == alphabet.vocabulary.tokenizer_hash.as_deref() {
        return Ok(());
    }
    let name = &alphabet.vocabulary.name;
    let reason = format!(
        "its tokenizer is not the learner's, that of {name}: a prior edits ids; let models learn with the prior's \
         (--tokenizer, and a --config-json of its vocabulary)"
    );
    Err(Error::file(folder, reason))
}
