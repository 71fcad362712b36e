//! Where the tokens of a record come from.

use std::ops::Range;

use super::UNALIGNED;
use crate::data::Document;
use crate::score::Scope;
use crate::tokenizer::{Alignment, Words};

/// What a record's tokens are.
#[derive(Debug)]
pub struct Layout {
    scoped: Scoped,
    /// Texts, in the order of their tokens; none for a document of ids.
    passages: Vec<Passage>,
    /// The parts' runs that have a token, where not all tokens are scored.
    runs: Vec<Range<usize>>,
    stream: u64,
    flaw: Option<&'static str>,
}

/// Which tokens are scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scoped {
    All,
    /// The parts, behind all that stands before them.
    Within,
    /// Each passage by itself.
    Apart,
}

/// A text that the model reads, or one of several.
#[derive(Debug)]
pub struct Passage {
    /// `None` where it is the document's own.
    text: Option<String>,
    /// Its tokens in the record.
    pub tokens: Range<usize>,
    /// Where their bytes lie; `None` where that cannot be told or was not asked for.
    pub alignment: Option<Alignment>,
    /// What of it stands in strings of the record that may be edited, ascending and apart.
    pub parts: Vec<Part>,
}

/// A piece of a string of the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its bytes in the passage.
    pub range: Range<usize>,
    /// The tokens that have a byte of it, in the record.
    pub tokens: Range<usize>,
    /// The message of a conversation whose content it is, from 0; `None` for the document's text.
    pub message: Option<usize>,
    /// How many bytes of the string stand before it.
    pub offset: usize,
}

impl From<Words> for Part {
    /// Its tokens are still to be found.
    fn from(words: Words) -> Self {
        let Words { message, offset, range } = words;
        Self { range, tokens: 0..0, message: Some(message), offset }
    }
}

impl Passage {
    /// The text of a document itself.
    pub(super) fn whole(tokens: usize, bytes: usize, alignment: Option<Alignment>) -> Self {
        let part = Part { range: 0..bytes, tokens: 0..tokens, message: None, offset: 0 };
        Self { text: None, tokens: 0..tokens, alignment, parts: vec![part] }
    }

    pub(super) fn new(
        text: String,
        tokens: Range<usize>,
        alignment: Option<Alignment>,
        parts: Vec<Part>,
    ) -> Self {
        Self { text: Some(text), tokens, alignment, parts }
    }

    /// Whether it is the document's own text, all of which may be edited.
    pub fn is_document(&self) -> bool {
        self.text.is_none()
    }

    /// The text, in a record of `document`.
    pub fn text<'a>(&'a self, document: &'a Document) -> &'a str {
        self.text.as_deref().or(document.text()).unwrap_or_default()
    }

    /// The part that has all the bytes of the token at `position` of the record, one of its own; `None` where another text
    /// has some of them.
    pub fn part_of(&self, position: usize) -> Option<&Part> {
        let alignment = self.alignment.as_ref()?;
        let part = self.parts.get(self.parts.partition_point(|part| part.tokens.end <= position))?;
        let range = alignment.range(position - self.tokens.start);
        let inside =
            part.tokens.contains(&position) && part.range.start <= range.start && range.end <= part.range.end;
        inside.then_some(part)
    }
}

impl Layout {
    /// Of a document of ids.
    pub(super) fn ids(stream: u64) -> Self {
        Self::new(Scoped::All, Vec::new(), stream)
    }

    pub(super) fn new(scoped: Scoped, passages: Vec<Passage>, stream: u64) -> Self {
        let parts = passages.iter().flat_map(|passage| &passage.parts);
        let runs = match scoped {
            Scoped::All => Vec::new(),
            Scoped::Within => parts.map(|part| part.tokens.clone()).collect(),
            Scoped::Apart => passages.iter().map(|passage| passage.tokens.clone()).collect(),
        };
        let runs = runs.into_iter().filter(|run: &Range<usize>| !run.is_empty()).collect();
        Self { scoped, passages, runs, stream, flaw: None }
    }

    /// Notes texts that cannot be edited.
    pub(super) fn checked(self) -> Self {
        let aligned = self.passages.iter().all(|passage| passage.alignment.is_some());
        if aligned || self.flaw.is_some() { self } else { self.flawed(UNALIGNED) }
    }

    /// With the random numbers of another text.
    pub(super) fn with_stream(self, stream: u64) -> Self {
        Self { stream, ..self }
    }

    pub(super) fn flawed(self, flaw: &'static str) -> Self {
        Self { flaw: Some(flaw), ..self }
    }

    /// Texts, in the order of their tokens; none for a document of ids.
    pub fn passages(&self) -> &[Passage] {
        &self.passages
    }

    /// The stream of the record's random numbers: that of a text, of prompt and response as one text, of a conversation
    /// ([`crate::data::stream_key`]), or of ids; whether prompts are context plays no part.
    pub fn stream(&self) -> u64 {
        self.stream
    }

    /// Why the record cannot be edited.
    pub fn flaw(&self) -> Option<&'static str> {
        self.flaw
    }

    /// The runs of tokens that responses have.
    pub fn runs(&self) -> impl Iterator<Item = Range<usize>> {
        self.runs.iter().cloned()
    }

    /// Which tokens are scored.
    pub(super) fn scope(&self) -> Scope<'_> {
        match self.scoped {
            Scoped::All => Scope::All,
            Scoped::Within => Scope::Within(&self.runs),
            Scoped::Apart => Scope::Apart(&self.runs),
        }
    }

    /// The passage that has the token at `position`.
    pub fn passage_of(&self, position: usize) -> Option<&Passage> {
        let passage = self.passages.get(self.passages.partition_point(|p| p.tokens.end <= position))?;
        passage.tokens.contains(&position).then_some(passage)
    }
}
