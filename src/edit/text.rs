//! Changes of tokens as changes of a text, and as provenance.

use std::ops::Range;

use super::provenance::{Piece, Pieces, Span, TokenEdit};
use super::splice::{Replacement, Spliced, splice};
use super::{Change, EditConfig};
use crate::tokenizer::{Alignment, Tokenizer};
use crate::{Error, Result};

/// A text with its tokens and where their bytes lie.
#[derive(Clone, Copy, Debug)]
pub struct AlignedText<'a> {
    /// The tokenizer that made the tokens.
    pub tokenizer: &'a Tokenizer,
    /// The text.
    pub text: &'a str,
    /// Its tokens' byte ranges.
    pub alignment: &'a Alignment,
}

/// A part of such a text, whose edits are told apart from those of the rest.
#[derive(Clone, Debug)]
pub struct AlignedPart<'a> {
    text: AlignedText<'a>,
    range: Range<usize>,
}

impl<'a> AlignedText<'a> {
    /// The text after `changes`, which ascend.
    ///
    /// # Errors
    /// As [`splice`]: where the changes are not ones that the constraint allows.
    pub fn splice(&self, changes: &[Change]) -> Result<Spliced> {
        self.part(0..self.text.len()).splice(changes)
    }

    /// The changes with the bytes of both texts.
    pub fn provenance(&self, changes: &[Change], spliced: &Spliced, config: &EditConfig) -> Vec<TokenEdit> {
        self.part(0..self.text.len()).provenance(changes, spliced, config)
    }

    /// The bytes `range` alone.
    ///
    /// # Panics
    /// Those of its methods, where the range does not lie in the text, on character boundaries.
    pub fn part(self, range: Range<usize>) -> AlignedPart<'a> {
        AlignedPart { text: self, range }
    }
}

impl<'a> AlignedPart<'a> {
    /// The part after `changes` of tokens that lie in it, which ascend.
    ///
    /// # Errors
    /// As [`AlignedText::splice`]; for a token outside the part.
    pub fn splice(&self, changes: &[Change]) -> Result<Spliced> {
        let replacements =
            changes.iter().map(|change| self.replacement(change)).collect::<Result<Vec<_>>>()?;
        splice(&self.text.text[self.range.clone()], &replacements)
    }

    /// With its bytes in the part.
    fn replacement(&self, change: &Change) -> Result<Replacement<'a>> {
        let AlignedText { tokenizer, alignment, .. } = self.text;
        let range = alignment.range(change.position);
        let Some(start) = range.start.checked_sub(self.range.start) else {
            let (position, part) = (change.position, &self.range);
            return Err(Error::Usage(format!(
                "token {position} is edited outside bytes {part:?} of the text"
            )));
        };
        let new = |id| tokenizer.replacement_bytes(alignment, change.position, id);
        Ok(Replacement { range: start..start + range.len(), new: change.new_id.map_or(&[], new) })
    }

    /// The changes that `spliced` was made from, with the bytes of the part before and after.
    pub fn provenance(&self, changes: &[Change], spliced: &Spliced, config: &EditConfig) -> Vec<TokenEdit> {
        let before = &self.text.text.as_bytes()[self.range.clone()];
        let replacements = changes.iter().filter_map(|change| Some((change, self.replacement(change).ok()?)));
        let edits = replacements.zip(&spliced.ranges).map(|((change, Replacement { range, new }), out)| {
            let old = Piece(before[range.clone()].to_vec());
            let span = Span {
                byte_start: range.start,
                byte_end: range.end,
                out_byte_start: out.start,
                out_byte_end: out.end,
            };
            let pieces = Pieces { old, new: Piece(new.to_vec()) };
            TokenEdit { span: Some(span), pieces: Some(pieces), ..token_edit(change, config) }
        });
        edits.collect()
    }
}

/// A change of a document of ids.
pub fn token_edit(change: &Change, config: &EditConfig) -> TokenEdit {
    TokenEdit {
        position: change.position,
        message: None,
        span: None,
        old_id: change.old_id,
        new_id: change.new_id,
        pieces: None,
        p_old: change.p_old,
        p_new: change.p_new,
        generation: config.generation(),
    }
}
