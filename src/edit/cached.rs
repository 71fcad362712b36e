//! Editing by scores that are kept: from a cache without the model, or into one on the way.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::decision::Decider;
use super::records::Prior;
use super::{Action, Counts, EditConfig, EditInput, Edited, Sampler};
use crate::data::Settings;
use crate::score::cache::{CacheReader, CacheWriter, Entry, Key};
use crate::score::{Scorer, Sequence, WindowConfig};
use crate::{Error, Result};

/// Edits by the scores of a cache. The results are those of an [`super::Editor`] on the CPU, bit for bit.
pub struct CachedEditor {
    config: EditConfig,
    windows: WindowConfig,
    reader: Mutex<CacheReader>,
}

impl CachedEditor {
    /// Opens the cache in `folder`. Its scores must have been made with `expected` settings, laid out in `windows`.
    ///
    /// # Errors
    /// As [`CacheReader::open`] and [`CacheReader::expect`]; [`Error::Usage`] if the cache has not what the sampler draws
    /// from.
    pub fn open(
        folder: &Path,
        expected: &Settings,
        windows: WindowConfig,
        config: EditConfig,
    ) -> Result<Self> {
        let reader = CacheReader::open(folder)?;
        reader.expect(expected)?;
        let (needed, held) = (largest(&config)?, reader.top_k());
        if needed > held {
            return Err(Error::Usage(format!(
                "top-k with k = {needed}, but the cache in {} holds the {held} largest logits: choose a smaller k or score again",
                folder.display()
            )));
        }
        Ok(Self { config, windows, reader: Mutex::new(reader) })
    }

    /// What the cache's scores depend on.
    pub fn settings(&self) -> Settings {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner).settings().clone()
    }
}

/// How many of the largest logits the sampler draws from; 0 where nothing is drawn.
///
/// # Errors
/// [`Error::Usage`] for a sampler that a cache does not suffice for.
pub fn largest(config: &EditConfig) -> Result<usize> {
    let resamples = config.rules().iter().any(|rule| rule.action() == Action::Resample);
    match config.sampler() {
        _ if !resamples => Ok(0),
        Sampler::TopK(k) => Ok(*k),
        other => Err(Error::Usage(format!(
            "a score cache holds the largest logits alone, which the sampler {other} does not suffice with: choose top-k, or edit without the cache"
        ))),
    }
}

impl Prior for CachedEditor {
    fn edit(&self, documents: &[EditInput], generation: u32) -> Result<Vec<Edited>> {
        let decider = Decider { config: &self.config, generation };
        let mut edited = Vec::with_capacity(documents.len());
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, document) in documents.iter().enumerate() {
            let positions = document.sequence.scored(&self.windows).iter().map(|run| run.len()).sum();
            let key = Key::new(document.stream, &document.sequence);
            let entry = reader.find(key, positions)?.ok_or_else(|| Error::Document {
                index,
                reason: "not in the score cache: it was made from other documents".to_owned(),
            })?;
            edited.push(decider.edit(document, &entry, &self.windows)?);
        }
        Ok(edited)
    }
}

/// Edits with a model, and keeps its scores in a cache. The results are those of a [`CachedEditor`] with that cache.
pub struct CachingEditor<'m> {
    config: EditConfig,
    windows: WindowConfig,
    scorer: Scorer<'m>,
    /// None once the cache is complete.
    writer: Mutex<Option<CacheWriter>>,
}

impl<'m> CachingEditor<'m> {
    /// Keeps the scores that `scorer` makes, with the `top_k` of its configuration, by `writer`.
    pub fn new(scorer: Scorer<'m>, writer: CacheWriter, windows: WindowConfig, config: EditConfig) -> Self {
        Self { config, windows, scorer, writer: Mutex::new(Some(writer)) }
    }

    /// Completes the cache. What is edited afterwards is not kept.
    ///
    /// # Errors
    /// As [`CacheWriter::finish`].
    pub fn finish(&self) -> Result<()> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        writer.map_or(Ok(()), CacheWriter::finish)
    }
}

impl Prior for CachingEditor<'_> {
    fn edit(&self, documents: &[EditInput], generation: u32) -> Result<Vec<Edited>> {
        let sequences: Vec<Sequence> = documents.iter().map(|document| document.sequence).collect();
        let scored = self.scorer.score_entries(&sequences)?;
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        for (document, (_, entry)) in documents.iter().zip(&scored) {
            if let Some(writer) = &mut *writer {
                writer.push(Key::new(document.stream, &document.sequence), entry)?;
            }
        }
        drop(writer);
        let decider = Decider { config: &self.config, generation };
        let edit =
            |(document, (_, entry)): (&EditInput, &(_, Entry))| decider.edit(document, entry, &self.windows);
        documents.par_iter().zip(&scored).map(edit).collect()
    }
}

impl Decider<'_> {
    /// Edits a document by its scores.
    fn edit(&self, document: &EditInput, entry: &Entry, windows: &WindowConfig) -> Result<Edited> {
        let sequence = document.sequence;
        let (tokens, windows_taken) = (sequence.ids.len() as u64, sequence.windows(windows) as u64);
        let counts = Counts { tokens, windows: windows_taken, ..Counts::default() };
        let mut edited = Edited { counts, changes: Vec::new() };
        let drawn_from = if let Sampler::TopK(k) = *self.config.sampler() { k.min(entry.k) } else { 0 };
        let positions = sequence.scored(windows).into_iter().flatten();
        // Where nothing is drawn there may be no logits.
        let rows = positions.zip(&entry.statistics).enumerate();
        for (row, (position, statistics)) in rows {
            let outcome = match self.decide(document, position, statistics) {
                Some(outcome) => outcome,
                None => {
                    let largest = &entry.largest[row * entry.k..][..drawn_from];
                    self.place(document, position)?.draw_among(largest)
                }
            };
            edited.record(document, position, statistics, outcome);
        }
        Ok(edited)
    }
}
