//! Changes of tokens as changes of a text, and as provenance.

use super::provenance::{Piece, Pieces, Span, TokenEdit};
use super::splice::{Replacement, Spliced, splice};
use super::{Change, EditConfig};
use crate::Result;
use crate::tokenizer::{Alignment, Tokenizer};

/// A text with its tokens and where their bytes lie.
#[derive(Clone, Copy)]
pub struct AlignedText<'a> {
    /// The tokenizer that made the tokens.
    pub tokenizer: &'a Tokenizer,
    /// The text.
    pub text: &'a str,
    /// Its tokens' byte ranges.
    pub alignment: &'a Alignment,
}

impl<'a> AlignedText<'a> {
    /// The text after `changes`, which ascend.
    ///
    /// # Errors
    /// As [`splice`]: where the changes are not ones that the constraint allows.
    pub fn splice(&self, changes: &[Change]) -> Result<Spliced> {
        let replacements: Vec<_> = changes.iter().map(|change| self.replacement(change)).collect();
        splice(self.text, &replacements)
    }

    fn replacement(&self, change: &Change) -> Replacement<'a> {
        let range = self.alignment.range(change.position);
        let new = |id| self.tokenizer.replacement_bytes(self.alignment, change.position, id);
        Replacement { range, new: change.new_id.map_or(&[], new) }
    }

    /// The changes with the bytes of both texts.
    pub fn provenance(&self, changes: &[Change], spliced: &Spliced, config: &EditConfig) -> Vec<TokenEdit> {
        let edits = changes.iter().zip(&spliced.ranges).map(|(change, out)| {
            let Replacement { range, new } = self.replacement(change);
            let old = Piece(self.text.as_bytes()[range.clone()].to_vec());
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
        span: None,
        old_id: change.old_id,
        new_id: change.new_id,
        pieces: None,
        p_old: change.p_old,
        p_new: change.p_new,
        generation: config.generation(),
    }
}
