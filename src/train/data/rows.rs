//! The rows of one source, in order.

use std::ops::Range;

use super::loader::{DataConfig, LeftOut, Packing};
use super::marks::Marks;
use crate::data::tokens::{TokenShards, first_not};
use crate::ops::cross_entropy::IGNORE;
use crate::{Error, Result};

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
    cut: Cut,
    layout: Layout,
    /// Rows in all.
    pub rows: u64,
    /// Their tokens.
    pub tokens: u64,
    pub left_out: LeftOut,
}

/// What a row has of a document, and what must be in it.
#[derive(Clone, Copy, Debug)]
struct Cut {
    sequence_length: u64,
    response_only: bool,
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
        let cut = Cut { sequence_length: config.sequence_length as u64, response_only: config.response_only };
        let layout = match config.packing {
            Packing::Concatenate => concatenate(&shards, config.eos),
            Packing::Documents => Layout::Documents {
                marks: Marks::scan(shards.documents(), |document| cut.is_row(&shards, document)),
            },
        };
        let left_out = LeftOut::default();
        let mut source = Self { shards, cut, layout, rows: 0, tokens: 0, left_out };
        source.count();
        if !source.has_loss()? {
            let reason = if cut.response_only {
                "no row has a token of a response after another token: nothing to train on"
            } else {
                "no two tokens in a row to train on"
            };
            return Err(Error::file(source.shards.folder(), reason));
        }
        Ok(source)
    }

    /// Whether any row carries loss; as a rule the first does.
    fn has_loss(&self) -> Result<bool> {
        for index in 0..self.rows {
            if self.row(index)?.targets.iter().any(|&target| target != IGNORE) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn count(&mut self) {
        let length = self.cut.sequence_length;
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
                let rows =
                    (0..self.shards.documents()).filter(|&document| self.cut.is_row(&self.shards, document));
                self.tokens = rows
                    .map(|document| self.cut.range(&self.shards, document))
                    .map(|r| r.end - r.start)
                    .sum();
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
                let start = index * self.cut.sequence_length;
                row.fill(*eos, marks, start..(start + self.cut.sequence_length).min(self.tokens))?;
            }
            Layout::Documents { marks } => {
                let document = marks.select(index, |document| self.cut.is_row(&self.shards, document));
                let document = document.expect("a row for each marked document");
                row.read(self.cut.range(&self.shards, document))?;
            }
        }
        if !self.cut.response_only {
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
        if self.source.cut.response_only {
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

impl Cut {
    /// What a row of its own has of a document.
    fn range(self, shards: &TokenShards, document: u64) -> Range<u64> {
        let range = shards.document_range(document);
        range.start..range.end.min(range.start + self.sequence_length)
    }

    /// Whether a document by itself has something to predict that carries loss.
    fn is_row(self, shards: &TokenShards, document: u64) -> bool {
        let Range { start, end } = self.range(shards, document);
        end - start >= 2 && (!self.response_only || shards.has_loss(start + 1..end))
    }
}
