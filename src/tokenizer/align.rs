//! Which bytes of the text belong to which token, found by adding up the tokens' own bytes and comparing.

use std::ops::Range;

use super::bytes::{Added, TokenBytes};
use super::rewrite::{Change, Rewritten};
use super::scheme::PhantomSpace;
use super::utf8::Utf8State;

const EDITABLE: u8 = 1;
const PHANTOM: u8 = 2;

/// For each token of a text its byte range, and what an editor must know to replace it. Ranges tile the text in order;
/// one is empty where the token is only the tokenizer's own space, or where a normalizer left nothing to it.
///
/// Methods that take a position panic where it is not below [`Alignment::len`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alignment {
    /// n + 1 offsets.
    starts: Vec<u32>,
    flags: Vec<u8>,
    /// n + 1 states.
    states: Vec<Utf8State>,
}

impl Alignment {
    fn new(text: &str, spelling: Spelling) -> Self {
        let Spelling { starts, flags } = spelling;
        let states = starts.iter().map(|&start| Utf8State::at(text, start as usize)).collect();
        Self { starts, flags, states }
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.flags.len()
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.flags.is_empty()
    }

    /// The bytes of the text that belong to the token.
    pub fn range(&self, position: usize) -> Range<usize> {
        self.starts[position] as usize..self.starts[position + 1] as usize
    }

    /// Whether the token's bytes stand in the text as they are. They do not where a normalizer changed the text, or
    /// where an added token swallowed white space.
    pub fn is_editable(&self, position: usize) -> bool {
        self.flags[position] & EDITABLE != 0
    }

    /// Whether the token begins with a space that the tokenizer put there: no byte of the text, to be stripped from a
    /// replacement as it is from the token.
    pub fn has_phantom_space(&self, position: usize) -> bool {
        self.flags[position] & PHANTOM != 0
    }

    /// The automaton's state before each token, then that after the last: n + 1 states.
    pub fn states(&self) -> &[Utf8State] {
        &self.states
    }

    /// Whether the text without the token is UTF-8 (the UTF-8 rule), and the token editable.
    pub fn droppable(&self, position: usize) -> bool {
        self.is_editable(position) && self.states[position] == self.states[position + 1]
    }
}

/// Aligns tokens with the text that they came from, or with what the tokenizer made of it.
#[derive(Clone, Copy)]
pub(super) struct Aligner<'a> {
    pub tokens: &'a TokenBytes,
    pub phantom: PhantomSpace,
}

/// Where each token lies in the text that the tokens spell, and its flags.
struct Spelling {
    starts: Vec<u32>,
    flags: Vec<u8>,
}

/// One token found at the front of the text.
struct Found {
    bytes: usize,
    flags: u8,
}

impl Aligner<'_> {
    /// Aligns where the tokens spell the text itself: one comparison per token.
    pub(super) fn exact(&self, text: &str, ids: &[u32]) -> Option<Alignment> {
        Some(Alignment::new(text, self.spell(text, ids)?))
    }

    /// Aligns where they spell what the normalizer made of the text.
    pub(super) fn rewritten(&self, text: &str, rewritten: &Rewritten, ids: &[u32]) -> Option<Alignment> {
        let spelling = self.spell(&rewritten.text, ids)?;
        Some(Alignment::new(text, restore(spelling, &rewritten.changes, text.len())?))
    }

    /// Walks the text token by token. `None` where a token is not what comes next, or text is left over.
    fn spell(&self, text: &str, ids: &[u32]) -> Option<Spelling> {
        // Offsets are u32: a text of 4 GiB or more is passed through.
        u32::try_from(text.len()).ok()?;
        let mut starts = Vec::with_capacity(ids.len() + 1);
        let mut flags = Vec::with_capacity(ids.len());
        let mut at = 0;
        // The next token may have a phantom space: it begins the text or follows an added token.
        let mut fresh = true;
        for &id in ids {
            starts.push(at as u32);
            let added = self.tokens.added(id);
            let found = match added {
                None => self.find_plain(id, &text.as_bytes()[at..], fresh)?,
                Some(added) => self.find_added(id, added, text.get(at..)?, fresh)?,
            };
            fresh = added.is_some_and(|added| self.phantom.follows_added(added.normalized));
            at += found.bytes;
            flags.push(found.flags);
        }
        starts.push(at as u32);
        (at == text.len()).then_some(Spelling { starts, flags })
    }

    fn find_plain(&self, id: u32, rest: &[u8], fresh: bool) -> Option<Found> {
        let own = self.tokens.get(id);
        if fresh && let Some(found) = self.find_phantom(own, rest) {
            return Some(Found { bytes: found, flags: EDITABLE | PHANTOM });
        }
        (!own.is_empty() && rest.starts_with(own)).then_some(Found { bytes: own.len(), flags: EDITABLE })
    }

    /// Length of `own` less its phantom space, where that is what comes next.
    fn find_phantom(&self, own: &[u8], rest: &[u8]) -> Option<usize> {
        let stripped = own.strip_prefix(b" ").filter(|_| self.phantom.precedes(rest))?;
        rest.starts_with(stripped).then_some(stripped.len())
    }

    fn find_added(&self, id: u32, added: &Added, rest: &str, fresh: bool) -> Option<Found> {
        let before = if added.lstrip { rest.len() - rest.trim_start().len() } else { 0 };
        let surface = added.surface.as_bytes();
        let core = &rest.as_bytes()[before..];
        // Cut out before normalisation, a token has nothing put before it.
        let phantom = (fresh && added.normalized).then(|| self.find_phantom(surface, core)).flatten();
        let length = phantom.or_else(|| core.starts_with(surface).then_some(surface.len()))?;
        let mut bytes = before + length;
        if added.rstrip {
            bytes = rest.len() - rest.get(bytes..)?.trim_start().len();
        }
        let own = self.tokens.get(id);
        let kept = if phantom.is_some() { own.strip_prefix(b" ").unwrap_or(own) } else { own };
        let editable = if rest.as_bytes()[..bytes] == *kept { EDITABLE } else { 0 };
        Some(Found { bytes, flags: editable | if phantom.is_some() { PHANTOM } else { 0 } })
    }
}

/// Maps a spelling of the rewritten text back to the original. A boundary inside a changed piece moves to the piece's
/// end, and tokens that touch one are not editable.
fn restore(spelling: Spelling, changes: &[Change], length: usize) -> Option<Spelling> {
    let Spelling { mut starts, mut flags } = spelling;
    let mut next = 0;
    // How far rewritten offsets lie from original ones after the last change passed.
    let (mut passed_original, mut passed_rewritten) = (0, 0);
    for (start, flags) in starts[1..].iter_mut().zip(&mut flags) {
        let at = *start as usize;
        let before = next;
        while let Some(change) = changes.get(next).filter(|change| change.rewritten.end <= at) {
            (passed_original, passed_rewritten) = (change.original.end, change.rewritten.end);
            next += 1;
        }
        let inside = changes.get(next).filter(|change| change.rewritten.start < at);
        let original = match inside {
            Some(change) => change.original.end,
            None => at - passed_rewritten + passed_original,
        };
        if inside.is_some() || next > before {
            *flags &= !EDITABLE;
        }
        *start = u32::try_from(original).ok()?;
    }
    // Text that the normalizer removed whole has no token to belong to.
    (starts.last().copied() == u32::try_from(length).ok()).then_some(Spelling { starts, flags })
}
