//! Rows of a training run by number.

use super::mixture::Mixture;
use super::rows::{Row, SourceRows};
use crate::data::tokens::TokenShards;
use crate::random::permutation::Permutation;
use crate::random::{Purpose, Stream};
use crate::{Error, Result};

/// Shares that weights are rounded to: to within 10⁻¹² of the whole.
const SHARES: f64 = (1u64 << 40) as f64;

/// One corpus of a mixture.
#[derive(Debug)]
pub struct Source {
    /// Its tokens.
    pub shards: TokenShards,
    /// Its share of the tokens, relative to the other sources' weights; without, its size: then every row of all sources
    /// comes once per epoch. Either all sources have one or none.
    pub weight: Option<f64>,
}

/// How documents become rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// One stream of all documents, the end of text between them where it is not there already, cut every
    /// `sequence_length` tokens. The last row is as long as what is left, unless that is a single token.
    Concatenate,
    /// One document a row, nothing added. What exceeds the row is left out, as are documents of fewer than two tokens and,
    /// where only responses carry loss, those without any.
    Documents,
}

/// How rows are cut and ordered.
#[derive(Clone, Debug)]
pub struct DataConfig {
    /// Tokens of a row at most (T); a row of T tokens has T − 1 targets.
    pub sequence_length: usize,
    /// How documents become rows.
    pub packing: Packing,
    /// Whether the rows of each source come in another order in each epoch, or in their own.
    pub shuffle: bool,
    /// Seed of the order.
    pub seed: u64,
    /// Whether only responses carry loss.
    pub response_only: bool,
    /// What to put between concatenated documents; nothing where there is none.
    pub eos: Option<u32>,
}

/// What no row has of the documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Documents that are too short by themselves, or carry no loss.
    pub documents: u64,
    /// Tokens: theirs, those past the end of a row, or a last one alone.
    pub tokens: u64,
}

/// Gives the rows of a run by their number. Shared by threads.
///
/// With several sources, rows take turns by token share, evenly spread; each source begins anew, in a new order, when all
/// of its rows have come.
#[derive(Debug)]
pub struct Loader {
    sources: Vec<SourceRows>,
    mixture: Mixture,
    shuffle: bool,
    seed: u64,
}

impl Loader {
    /// Looks through the indexes of the shards.
    ///
    /// # Errors
    /// [`Error::Usage`] for settings outside their range, weights for some sources only, an end of text past a
    /// vocabulary; [`Error::File`] for a source with nothing to train on, or with no responses where only those count.
    pub fn new(sources: Vec<Source>, config: &DataConfig) -> Result<Self> {
        check(&sources, config)?;
        let weights: Vec<Option<f64>> = sources.iter().map(|source| source.weight).collect();
        let rows = sources.into_iter().map(|source| SourceRows::new(source.shards, config));
        let sources = rows.collect::<Result<Vec<_>>>()?;
        let mixture = Mixture::new(&shares(&sources, &weights));
        Ok(Self { sources, mixture, shuffle: config.shuffle, seed: config.seed })
    }

    /// Row number `index` of the run, from 0 without end.
    ///
    /// # Errors
    /// An id past the vocabulary in the shards.
    pub fn row(&self, index: u64) -> Result<Row> {
        let (number, index) = self.mixture.place(index);
        let source = &self.sources[number];
        let (epoch, mut row) = (index / source.rows, index % source.rows);
        if self.shuffle {
            let stream = Stream::new(self.seed, epoch, Purpose::Shuffle, number as u32)?;
            row = Permutation::new(source.rows, stream).apply(row);
        }
        source.row(row)
    }

    /// Documents of all sources.
    pub fn documents(&self) -> u64 {
        self.sources.iter().map(SourceRows::documents).sum()
    }

    /// Rows of all sources.
    pub fn rows_per_epoch(&self) -> u64 {
        self.sources.iter().map(|source| source.rows).sum()
    }

    /// Tokens of those rows.
    pub fn tokens_per_epoch(&self) -> u64 {
        self.sources.iter().map(|source| source.tokens).sum()
    }

    /// How often as many rows as there are have come before row `index`.
    pub fn epoch(&self, index: u64) -> u64 {
        index / self.rows_per_epoch()
    }

    /// What no row has of the documents of all sources.
    pub fn left_out(&self) -> LeftOut {
        let add = |sum: LeftOut, source: &SourceRows| LeftOut {
            documents: sum.documents + source.left_out.documents,
            tokens: sum.tokens + source.left_out.tokens,
        };
        self.sources.iter().fold(LeftOut::default(), add)
    }
}

fn check(sources: &[Source], config: &DataConfig) -> Result<()> {
    let usage = |reason: String| Err(Error::Usage(reason));
    if config.sequence_length < 2 {
        return usage(format!("sequence length {}: expected at least 2", config.sequence_length));
    }
    if sources.is_empty() {
        return usage("no data: name at least one file or folder".to_owned());
    }
    let weighted = sources.iter().filter(|source| source.weight.is_some()).count();
    if weighted != 0 && weighted != sources.len() {
        return usage(format!("{weighted} weights for {} sources: expected one for each", sources.len()));
    }
    for source in sources {
        if let Some(weight) = source.weight.filter(|weight| !(weight.is_finite() && *weight > 0.0)) {
            return usage(format!("data weight {weight}: expected a finite number above 0"));
        }
        let manifest = source.shards.manifest();
        if let Some(eos) = config.eos.filter(|&eos| eos >= manifest.vocab_size) {
            return usage(format!("end of text {eos}: expected less than {}", manifest.vocab_size));
        }
        if config.response_only && !manifest.response_spans {
            let reason =
                "its documents have no responses: expected records of prompt and response, or of messages";
            return Err(Error::file(source.shards.folder(), reason));
        }
    }
    Ok(())
}

/// Rows of each source in a round. By size, as many as it has; by weight, so many that their tokens have that share.
fn shares(sources: &[SourceRows], weights: &[Option<f64>]) -> Vec<u64> {
    let rows = |source: &SourceRows, weight: &Option<f64>| {
        weight.map(|weight| weight * source.rows as f64 / source.tokens as f64)
    };
    let rates: Option<Vec<f64>> = sources.iter().zip(weights).map(|(s, w)| rows(s, w)).collect();
    let Some(rates) = rates else { return sources.iter().map(|source| source.rows).collect() };
    let largest = rates.iter().copied().fold(0.0, f64::max);
    // Relative to the largest, so that huge weights do not overflow.
    let total: f64 = rates.iter().map(|rate| rate / largest).sum();
    rates.iter().map(|rate| ((rate / largest / total * SHARES).round() as u64).max(1)).collect()
}
