//! Human text, parted: what models learn from, and what they are measured on.

use std::collections::{BinaryHeap, HashSet};

use rayon::prelude::*;

use super::config::CollapseConfig;
use super::place::{Place, is_complete};
use super::stages::Event;
use super::texts::{Alphabet, TextWriter};
use crate::data::{Document, Documents, Inputs};
use crate::random::{Purpose, Stream, ids_stream};
use crate::train::data::{Bos, Encoder};
use crate::{Error, Result};

/// Documents that are read and encoded at a time.
const CHUNK: usize = 1024;
/// Apart from the corpora of mixtures, which count from 0.
const SOURCE: u32 = Stream::MAX_GENERATION;

/// Parts human documents, unless that is done already.
pub(super) struct Human<'a> {
    pub config: &'a CollapseConfig,
    pub alphabet: &'a Alphabet,
    pub data: &'a Inputs,
    /// Held-out data of their own.
    pub held_out: Option<&'a Inputs>,
}

impl Human<'_> {
    /// Writes both corpora: first whole documents are held out, then as many of the others as there is room for learnt from,
    /// but no copy of a held-out one.
    pub fn prepare(&self, place: &Place, observe: &mut dyn FnMut(Event) -> Result<()>) -> Result<()> {
        let [train, held_out] = place.human();
        if is_complete(&train) && is_complete(&held_out) {
            return Ok(());
        }
        let mut writer = self.alphabet.writer(&held_out)?;
        let mut known = HashSet::new();
        let mut hold_out = |ids: &[u32]| {
            known.insert(ids_stream(ids, None));
            self.cut(ids, &mut writer)
        };
        let tokens = self.config.human.tokens;
        let sample = match self.held_out {
            Some(inputs) => {
                let all = self.sample(inputs, u64::MAX, observe)?;
                all.into_sorted().iter().try_for_each(|ids| hold_out(ids))?;
                self.sample(self.data, tokens, observe)?.into_sorted()
            }
            None => {
                let share = self.config.human.held_out_share;
                let wanted = part(tokens, share);
                // The last document held out may be longer than what is missing, and have a copy.
                let spare = wanted.saturating_add(2 * self.config.human.document_tokens as u64);
                let limit = tokens.saturating_add(wanted).saturating_add(spare);
                let sample = self.sample(self.data, limit, observe)?;
                let wanted = wanted.min(part(sample.tokens, share / (1.0 + share))).max(1);
                let mut documents = sample.into_sorted();
                let mut missing = wanted;
                let enough = documents.iter().position(|ids| {
                    let is_last = ids.len() as u64 >= missing;
                    missing = missing.saturating_sub(ids.len() as u64);
                    is_last
                });
                let rest = documents.split_off(enough.map_or(0, |last| last + 1));
                documents.iter().try_for_each(|ids| hold_out(ids))?;
                rest
            }
        };
        if known.is_empty() {
            return Err(too_little("no document could be held out"));
        }
        writer.finish()?;
        let mut writer = self.alphabet.writer(&train)?;
        let mut missing = tokens;
        for ids in sample.iter().filter(|ids| !known.contains(&ids_stream(ids, None))) {
            let ids = &ids[..ids.len().min(usize::try_from(missing).unwrap_or(usize::MAX))];
            missing -= ids.len() as u64;
            self.cut(ids, &mut writer)?;
        }
        if missing == tokens {
            return Err(too_little("nothing is left to learn from beside the held-out documents"));
        }
        writer.finish()
    }

    /// Writes a document as texts.
    fn cut(&self, ids: &[u32], writer: &mut TextWriter) -> Result<()> {
        ids.chunks(self.config.text_tokens()).try_for_each(|text| writer.push(text))
    }

    /// Reads all documents and keeps about `limit` tokens of them, chosen at random.
    fn sample(
        &self,
        inputs: &Inputs,
        limit: u64,
        observe: &mut dyn FnMut(Event) -> Result<()>,
    ) -> Result<Sample> {
        let encoder = Encoder::new(&self.alphabet.vocabulary, Bos::Never, None)?;
        let mut documents = inputs.documents(self.config.human.read.clone())?;
        let mut sample = Sample { limit, tokens: 0, kept: BinaryHeap::new() };
        let mut read = 0;
        loop {
            let chunk = self.next_chunk(&mut documents, &mut read, &sample)?;
            if chunk.is_empty() {
                return Ok(sample);
            }
            let encode = |(key, number, document): &(u64, u64, Document)| {
                let mut ids = encoder.encode(document)?.ids;
                ids.truncate(self.config.human.document_tokens);
                Ok((*key, *number, ids))
            };
            // The first error in the documents' order, however the threads ran.
            let encoded: Vec<Result<_>> = chunk.par_iter().map(encode).collect();
            for document in encoded {
                sample.push(document?);
            }
            observe(Event::Reading { documents: read, tokens: sample.tokens })?;
        }
    }

    /// The next documents that may be kept, with the key that they are chosen by and their numbers.
    fn next_chunk(
        &self,
        documents: &mut Documents,
        read: &mut u64,
        sample: &Sample,
    ) -> Result<Vec<(u64, u64, Document)>> {
        let mut chunk = Vec::new();
        while chunk.len() < CHUNK
            && let Some(document) = documents.next().transpose()?
        {
            let [low, high, ..] =
                Stream::new(self.config.seed, *read, Purpose::Mix, SOURCE)?.block(0, 0).map(u64::from);
            let key = high << 32 | low;
            if sample.may_keep(key) {
                chunk.push((key, *read, document));
            }
            *read += 1;
        }
        Ok(chunk)
    }
}

/// The documents with the smallest keys, as many as it takes to have so many tokens: a sample of any corpus in the memory
/// of what is kept.
struct Sample {
    limit: u64,
    tokens: u64,
    kept: BinaryHeap<(u64, u64, Vec<u32>)>,
}

impl Sample {
    fn may_keep(&self, key: u64) -> bool {
        self.tokens < self.limit || self.kept.peek().is_some_and(|(largest, ..)| key < *largest)
    }

    fn push(&mut self, document: (u64, u64, Vec<u32>)) {
        if document.2.is_empty() || !self.may_keep(document.0) {
            return;
        }
        self.tokens += document.2.len() as u64;
        self.kept.push(document);
        while let Some((.., ids)) = self.kept.peek()
            && self.tokens - ids.len() as u64 >= self.limit
        {
            self.tokens -= ids.len() as u64;
            self.kept.pop();
        }
    }

    /// The documents in the order of their keys, which is a random one.
    fn into_sorted(self) -> Vec<Vec<u32>> {
        self.kept.into_sorted_vec().into_iter().map(|(.., ids)| ids).collect()
    }
}

/// A share of a number of tokens.
fn part(tokens: u64, share: f64) -> u64 {
    (tokens as f64 * share).round() as u64
}

fn too_little(reason: &str) -> Error {
    Error::Usage(format!("{reason}: give more --data, or held-out documents as --eval-data"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_what_sorting_all_by_key_would_give() {
        let documents: Vec<_> = (0..500u64)
            .map(|number| {
                (number.wrapping_mul(0x9E37_79B9_7F4A_7C15), number, vec![7; (number % 37) as usize])
            })
            .collect();
        for limit in [0, 1, 36, 1000, 5000, 100_000] {
            let mut sample = Sample { limit, tokens: 0, kept: BinaryHeap::new() };
            documents.iter().for_each(|document| sample.push(document.clone()));
            let mut sorted = documents.clone();
            sorted.retain(|document| !document.2.is_empty());
            sorted.sort();
            let mut tokens = 0;
            let expected: Vec<_> = sorted
                .into_iter()
                .take_while(|document| {
                    let is_needed = tokens < limit;
                    tokens += document.2.len() as u64;
                    is_needed
                })
                .map(|document| document.2)
                .collect();
            assert_eq!(sample.tokens, expected.iter().map(|ids| ids.len() as u64).sum::<u64>());
            assert_eq!(sample.into_sorted(), expected, "{limit}");
        }
    }
}
