//! The rows of one source, in order.

use std::ops::Range;

use super::loader::{DataConfig, LeftOut, Packing};
use super::marks::Marks;
use crate::data::tokens::{TokenShards, first_not};
use crate::{Error, Result};

/// The target of a position that carries no loss.
pub const IGNORE: u32 = u32::MAX;

/// One training sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its tokens: two or more, at most the sequence length.
    pub ids: Vec<u32>,
    /// One less: the token after each, or [`IGNORE`].
    pub targets: Vec<u32>,
}

impl Row {
    /// The tokens after which the next one carries loss: `loss` are the runs of tokens that do.
    fn new(ids: Vec<u32>, loss: &[Range<usize>]) -> Self {
        let mut targets = vec![IGNORE; ids.len().saturating_sub(1)];
        for run in loss {
            // Nothing predicts the first token of a row.
            let run = run.start.max(1)..run.end.min(ids.len()).max(1);
            targets[run.start - 1..run.end - 1].copy_from_slice(&ids[run]);
        }
        Self { ids, targets }
    }
}

/// The shards of one source, cut into rows.
#[derive(Debug)]
pub(super) struct SourceRows {
    shards: TokenShards,
    sequence_length: u64,
    response_only: bool,
    layout: Layout,
    /// Rows in all.
    pub rows: u64,
    /// Their tokens.
    pub tokens: u64,
    pub left_out: LeftOut,
}

/// How documents become rows.
#[derive(Debug)]
enum Layout {
    /// One after the other, with `eos` behind those that are marked.
    Concatenate { eos: u32, marks: Marks },
    /// One a row: those that are marked.
    Documents { marks: Marks },
}

impl SourceRows {
    /// # Errors
    /// [`Error::File`] where nothing is left to train on.
    pub fn new(shards: TokenShards, config: &DataConfig) -> Result<Self> {
        let layout = match config.packing {
            Packing::Concatenate => concatenate(&shards, config.eos),
            Packing::Documents => Layout::Documents {
                marks: Marks::scan(shards.documents(), |document| is_row(&shards, document)),
            },
        };
        let sequence_length = config.sequence_length as u64;
        let (response_only, left_out) = (config.response_only, LeftOut::default());
        let mut source =
            Self { shards, sequence_length, response_only, layout, rows: 0, tokens: 0, left_out };
        source.count();
        if source.rows == 0 {
            let reason = "no two tokens in a row to train on";
            return Err(Error::file(source.shards.folder(), reason));
        }
        Ok(source)
    }

    fn count(&mut self) {
        let length = self.sequence_length;
        match &self.layout {
            Layout::Concatenate { marks, .. } => {
                let total = self.shards.tokens() + marks.total();
                // A single token at the end has nothing to predict.
                self.left_out.tokens = u64::from(total % length == 1);
                self.tokens = total - self.left_out.tokens;
                self.rows = self.tokens.div_ceil(length);
            }
            Layout::Documents { marks } => {
                self.rows = marks.total();
                self.left_out.documents = self.shards.documents() - self.rows;
                let lens = (0..self.shards.documents()).map(|document| len(&self.shards, document));
                self.tokens = lens.filter(|&len| len >= 2).map(|len| len.min(length)).sum();
                self.left_out.tokens = self.shards.tokens() - self.tokens;
            }
        }
    }

    /// Its documents, those that are left out too.
    pub fn documents(&self) -> u64 {
        self.shards.documents()
    }

    /// Row number `index`, which is below `rows`.
    pub fn row(&self, index: u64) -> Result<Row> {
        let mut row = Pieces { ids: Vec::new(), loss: Vec::new(), source: self };
        match &self.layout {
            Layout::Concatenate { eos, marks } => {
                let start = index * self.sequence_length;
                row.fill(*eos, marks, start..(start + self.sequence_length).min(self.tokens))?;
            }
            Layout::Documents { marks } => {
                let document = marks.select(index, |document| is_row(&self.shards, document));
                let document = document.expect("a row for each marked document");
                let range = self.shards.document_range(document);
                row.read(range.start..range.end.min(range.start + self.sequence_length))?;
            }
        }
        if !self.response_only {
            row.loss.push(0..row.ids.len());
        }
        Ok(Row::new(row.ids, &row.loss))
    }
}

/// A row in the making.
struct Pieces<'a> {
    ids: Vec<u32>,
    loss: Vec<Range<usize>>,
    source: &'a SourceRows,
}

impl Pieces<'_> {
    /// Appends a range of the shards' stream.
    fn read(&mut self, range: Range<u64>) -> Result<()> {
        if self.source.response_only {
            self.source.shards.loss(range.clone(), self.ids.len(), &mut self.loss);
        }
        self.source.shards.read(range, &mut self.ids)
    }

    /// Appends a range of the stream that has `eos` behind each marked document.
    fn fill(&mut self, eos: u32, marks: &Marks, range: Range<u64>) -> Result<()> {
        let shards = &self.source.shards;
        let is_marked = |document| needs_separator(shards, document, eos);
        let start = |document| shards.document_range(document).start + marks.rank(document, is_marked);
        // The last document that begins at or before the range; the first begins at 0.
        let mut document = first_not(shards.documents(), |document| start(document) <= range.start) - 1;
        let mut skip = range.start - start(document);
        let wanted = (range.end - range.start) as usize;
        while self.ids.len() < wanted && document < shards.documents() {
            let whole = shards.document_range(document);
            let from = (whole.start + skip).min(whole.end);
            self.read(from..whole.end.min(from + (wanted - self.ids.len()) as u64))?;
            if self.ids.len() < wanted && marks.contains(document, is_marked) {
                self.ids.push(eos);
            }
            (document, skip) = (document + 1, 0);
        }
        Ok(())
    }
}

/// Where an end of text is put in: as the manifest says if that is the same for all documents.
fn concatenate(shards: &TokenShards, eos: Option<u32>) -> Layout {
    let gaps = shards.documents().saturating_sub(1);
    let manifest = shards.manifest();
    let Some(eos) = eos else { return Layout::Concatenate { eos: 0, marks: Marks::none(gaps) } };
    let marks = match manifest.separators {
        0 if manifest.eos_token_id == Some(eos) => Marks::none(gaps),
        count if count == gaps && manifest.eos_token_id == Some(eos) => Marks::all(gaps),
        _ => Marks::scan(gaps, |document| needs_separator(shards, document, eos)),
    };
    Layout::Concatenate { eos, marks }
}

/// Whether neither the document ends with `eos` nor the next one that is not empty begins with it.
fn needs_separator(shards: &TokenShards, document: u64, eos: u32) -> bool {
    let range = shards.document_range(document);
    let is_between = !range.is_empty() && range.end < shards.tokens();
    is_between && shards.id(range.end - 1) != eos && shards.id(range.end) != eos
}

fn len(shards: &TokenShards, document: u64) -> u64 {
    let range = shards.document_range(document);
    range.end - range.start
}

/// Whether a document by itself has something to predict.
fn is_row(shards: &TokenShards, document: u64) -> bool {
    len(shards, document) >= 2
}
