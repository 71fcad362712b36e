//! Which tokens may be edited, and what may stand in their place.

use crate::compose::{Layout, Passage};
use crate::model::Config;
use crate::tokenizer::{Alignment, Tokenizer, Utf8State, Utf8Table};

/// What an editor must respect at each position of one document.
pub trait Constraint: Sync {
    /// Whether the token may be edited at all.
    fn editable(&self, position: usize) -> bool;
    /// Whether the document may lose it.
    fn droppable(&self, position: usize) -> bool;
    /// Whether `id` may replace it.
    fn allowed(&self, position: usize, id: u32) -> bool;
    /// A number that positions have in common only if the same ids may stand there, in whichever document of the
    /// editor: a device holds one mask of the vocabulary for each.
    fn class(&self, position: usize) -> u32;
}

/// The class of positions where any drawable id may stand.
const ANY: u32 = 1 << 8;

/// The class of positions between two states of the UTF-8 automaton.
fn class_between(before: Utf8State, after: Utf8State) -> u32 {
    u32::from(before.code()) << 4 | u32::from(after.code())
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

/// A document of ids: special tokens stay, and where there is a tokenizer every combination of edits still decodes to
/// UTF-8 wherever the document does.
pub struct IdConstraint<'a> {
    vocabulary: &'a Vocabulary,
    ids: &'a [u32],
    decoded: Option<Decoded<'a>>,
}

/// The UTF-8 automaton along a document of ids.
struct Decoded<'a> {
    table: &'a Utf8Table,
    /// The states before each token and after the last. Behind a token that is no UTF-8 the text begins anew.
    states: Vec<Utf8State>,
    /// Tokens after which the bytes were no UTF-8 to begin with.
    broken: Vec<bool>,
}

impl<'a> IdConstraint<'a> {
    /// Of the document `ids`.
    pub fn new(vocabulary: &'a Vocabulary, tokenizer: Option<&'a Tokenizer>, ids: &'a [u32]) -> Self {
        Self { vocabulary, ids, decoded: tokenizer.map(|tokenizer| Decoded::new(tokenizer, ids)) }
    }
}

impl<'a> Decoded<'a> {
    fn new(tokenizer: &'a Tokenizer, ids: &[u32]) -> Self {
        let table = tokenizer.utf8();
        let mut states = vec![Utf8State::START];
        let mut broken = Vec::with_capacity(ids.len());
        let mut state = Utf8State::START;
        for id in ids {
            state = table.after(state, *id);
            broken.push(state == Utf8State::REJECT);
            if state == Utf8State::REJECT {
                state = Utf8State::START;
            }
            states.push(state);
        }
        Self { table, states, broken }
    }

    fn keeps(&self, position: usize, after: impl FnOnce(Utf8State) -> Utf8State) -> bool {
        self.broken[position] || after(self.states[position]) == self.states[position + 1]
    }
}

impl Constraint for IdConstraint<'_> {
    fn editable(&self, position: usize) -> bool {
        !self.vocabulary.is_special(self.ids[position])
    }

    fn droppable(&self, position: usize) -> bool {
        self.decoded.as_ref().is_none_or(|decoded| decoded.keeps(position, |state| state))
    }

    fn allowed(&self, position: usize, id: u32) -> bool {
        let keeps = |decoded: &Decoded| decoded.keeps(position, |state| decoded.table.after(state, id));
        self.vocabulary.is_drawable(id) && self.decoded.as_ref().is_none_or(keeps)
    }

    fn class(&self, position: usize) -> u32 {
        match &self.decoded {
            Some(Decoded { states, broken, .. }) if !broken[position] => {
                class_between(states[position], states[position + 1])
            }
            _ => ANY,
        }
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

    fn class(&self, position: usize) -> u32 {
        let states = self.alignment.states();
        class_between(states[position], states[position + 1])
    }
}

/// A record of text: what [`TextConstraint`] says of each of its texts, and tokens that have bytes of anything but the
/// strings that may be edited stay.
pub struct RecordConstraint<'a> {
    /// The model's ids.
    pub vocabulary: &'a Vocabulary,
    /// The tokenizer of the texts.
    pub tokenizer: &'a Tokenizer,
    /// The record's tokens.
    pub ids: &'a [u32],
    /// What they are, without a flaw.
    pub layout: &'a Layout,
}

impl<'a> RecordConstraint<'a> {
    /// The text that has the token, and its position there.
    fn text(&self, position: usize) -> Option<(&'a Passage, TextConstraint<'a>, usize)> {
        let Self { vocabulary, tokenizer, ids, layout } = *self;
        let passage = layout.passage_of(position)?;
        let (tokens, alignment) = (passage.tokens.clone(), passage.alignment.as_ref()?);
        let text = TextConstraint { vocabulary, tokenizer, ids: &ids[tokens.clone()], alignment };
        Some((passage, text, position - tokens.start))
    }
}

impl Constraint for RecordConstraint<'_> {
    fn editable(&self, position: usize) -> bool {
        let editable = |(passage, text, place): (&Passage, TextConstraint, usize)| {
            passage.part_of(position).is_some() && text.editable(place)
        };
        self.text(position).is_some_and(editable)
    }

    fn droppable(&self, position: usize) -> bool {
        self.text(position).is_some_and(|(_, text, place)| text.droppable(place))
    }

    fn allowed(&self, position: usize, id: u32) -> bool {
        self.text(position).is_some_and(|(_, text, place)| text.allowed(place, id))
    }

    fn class(&self, position: usize) -> u32 {
        self.text(position).map_or(ANY, |(_, text, place)| text.class(place))
    }
}
