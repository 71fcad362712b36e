//! Continuations that go on from what they share.

use std::iter::zip;

use super::{Evaluator, Likelihood, Tagged};
use crate::generate::{Decoder, Extension};
use crate::score::check_stop;
use crate::{Error, Result};

/// Continuations that go on side by side at most: enough rows to read the weights rarely.
const SLOTS: usize = 64;
/// Packs that the keys and values of these may have been read in, unless one item's continuations take more.
const PACKS: usize = 4;

impl Evaluator<'_> {
    /// Every continuation from where it parts from the others of its item; those of an item stand together.
    pub(super) fn score_forked(&self, all: &[Tagged]) -> Result<Vec<Likelihood>> {
        let items = all.chunk_by(|a, b| a.item == b.item);
        // Of an item with more than there are slots, each batch begins anew.
        let forks: Vec<Fork> = items.flat_map(|item| item.chunks(SLOTS)).map(Fork::new).collect();
        let longest = all.iter().map(|tagged| tagged.one.ids.len()).max().map_or(1, |len| (len - 1).max(1));
        let widest = forks.iter().map(|fork| fork.all.len()).max().unwrap_or(1);
        let config = self.engine.config();
        let slots = (config.batch_tokens.saturating_mul(PACKS) / longest).clamp(widest, SLOTS);
        let mut decoder = Decoder::new(self.model, slots, longest)?;
        let mut likelihoods = Vec::with_capacity(all.len());
        let mut left = &forks[..];
        while !left.is_empty() {
            check_stop(config.stop.as_deref())?;
            let (batch, others) = left.split_at(fitting(left, slots));
            score(&mut decoder, batch, &mut likelihoods)?;
            left = others;
        }
        Ok(likelihoods)
    }
}

/// Continuations of one item.
struct Fork<'a> {
    all: &'a [Tagged<'a>],
    /// Tokens at the beginning that they have in common, short of the last one before any that is scored.
    shared: usize,
}

impl<'a> Fork<'a> {
    fn new(all: &'a [Tagged<'a>]) -> Self {
        let ids = all[0].one.ids;
        let common = |tagged: &Tagged| zip(ids, tagged.one.ids).take_while(|(a, b)| a == b).count();
        let shared = all.iter().map(|tagged| common(tagged).min(tagged.one.first() - 1)).min();
        Self { all, shared: shared.unwrap_or(0) }
    }
}

/// How many of the forks there are slots for.
fn fitting(forks: &[Fork], slots: usize) -> usize {
    let ends = forks.iter().scan(0, |end, fork| {
        *end += fork.all.len();
        Some(*end)
    });
    ends.take_while(|end| *end <= slots).count()
}

/// Reads what each fork shares into its first slot, copies it into its others, and lets all go on.
fn score(decoder: &mut Decoder, forks: &[Fork], likelihoods: &mut Vec<Likelihood>) -> Result<()> {
    let (mut starts, mut tails) = (Vec::new(), Vec::new());
    for Fork { all, shared } in forks {
        let slot = tails.len();
        decoder.truncate(slot, 0)?;
        starts.push(Extension { slot, ids: &all[0].one.ids[..*shared] });
        tails.extend(
            zip(slot.., *all).map(|(slot, tagged)| Extension { slot, ids: &tagged.one.ids[*shared..] }),
        );
    }
    decoder.read(&starts)?;
    for (Fork { all, shared }, start) in zip(forks, &starts) {
        (1..all.len()).try_for_each(|other| decoder.fork(start.slot, start.slot + other, *shared))?;
    }
    let done = likelihoods.len();
    let of_all = decoder.score(&tails).map_err(|error| behind(error, done))?;
    let first = |fork: &Fork, tagged: &Tagged| tagged.one.first() - fork.shared - 1;
    let firsts = forks.iter().flat_map(|fork| fork.all.iter().map(move |tagged| first(fork, tagged)));
    likelihoods.extend(zip(firsts, of_all).map(|(first, statistics)| {
        let mut likelihood = Likelihood::default();
        statistics.iter().skip(first).for_each(|statistics| likelihood.push(statistics));
        likelihood
    }));
    Ok(())
}

/// The error of a batch before which `done` continuations were scored.
fn behind(error: Error, done: usize) -> Error {
    match error {
        Error::Document { index, reason } => Error::Document { index: done + index, reason },
        other => other,
    }
}
