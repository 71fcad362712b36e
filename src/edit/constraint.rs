//! Which tokens may be edited, and what may stand in their place.

use crate::model::Config;
use crate::tokenizer::{Alignment, Tokenizer};

/// What an editor must respect at each position of one document.
pub trait Constraint: Sync {
    /// Whether the token may be edited at all.
    fn editable(&self, position: usize) -> bool;
    /// Whether the document may lose it.
    fn droppable(&self, position: usize) -> bool;
    /// Whether `id` may replace it.
    fn allowed(&self, position: usize, id: u32) -> bool;
}

/// Ids apart by what they are: special ones are never touched, and only text tokens are drawn.
#[derive(Clone, Debug)]
pub struct Vocabulary {
    special: Vec<bool>,
    drawable: Vec<bool>,
}

impl Vocabulary {
    /// Special are the configuration's bos, eos and pad, and what the tokenizer marks so. Ids without a token, such as
    /// the padding of an embedding, are never drawn.
    pub fn new(config: &Config, tokenizer: Option<&Tokenizer>) -> Self {
        let ids = 0..config.vocab_size as u32;
        let special: Vec<bool> = ids
            .clone()
            .map(|id| config.special_ids.contains(&id) || tokenizer.is_some_and(|t| t.is_special(id)))
            .collect();
        let has_token = |id: u32| tokenizer.is_none_or(|t| !t.bytes(id).is_empty());
        let drawable = ids.map(|id| !special[id as usize] && has_token(id)).collect();
        Self { special, drawable }
    }

    /// Whether the token is never edited.
    pub fn is_special(&self, id: u32) -> bool {
        self.special.get(id as usize).is_none_or(|special| *special)
    }

    /// Whether the token may be drawn.
    pub fn is_drawable(&self, id: u32) -> bool {
        self.drawable.get(id as usize).is_some_and(|drawable| *drawable)
    }
}

/// A document of ids: whatever is not special may come and go.
pub struct IdConstraint<'a> {
    /// The model's ids.
    pub vocabulary: &'a Vocabulary,
    /// The document.
    pub ids: &'a [u32],
}

impl Constraint for IdConstraint<'_> {
    fn editable(&self, position: usize) -> bool {
        !self.vocabulary.is_special(self.ids[position])
    }

    fn droppable(&self, _position: usize) -> bool {
        true
    }

    fn allowed(&self, _position: usize, id: u32) -> bool {
        self.vocabulary.is_drawable(id)
    }
}

/// A document of text: every combination of edits leaves it UTF-8.
pub struct TextConstraint<'a> {
    /// The model's ids.
    pub vocabulary: &'a Vocabulary,
    /// The tokenizer of the text.
    pub tokenizer: &'a Tokenizer,
    /// The text's tokens.
    pub ids: &'a [u32],
    /// Where their bytes lie.
    pub alignment: &'a Alignment,
}

impl Constraint for TextConstraint<'_> {
    fn editable(&self, position: usize) -> bool {
        !self.vocabulary.is_special(self.ids[position]) && self.alignment.is_editable(position)
    }

    fn droppable(&self, position: usize) -> bool {
        self.alignment.droppable(position)
    }

    fn allowed(&self, position: usize, id: u32) -> bool {
        self.vocabulary.is_drawable(id) && self.tokenizer.allowed_replacement(self.alignment, position, id)
    }
}
