//! The UTF-8 automaton: which bytes may follow, and what each token does to that.
//!
//! States and transitions are those of table 3-7, "Well-Formed UTF-8 Byte Sequences", of the Unicode Standard.

use super::bytes::TokenBytes;

/// Where in a UTF-8 sequence a byte stream stands: between characters, inside one, or past repair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Utf8State(u8);

impl Utf8State {
    /// Between two characters.
    pub const START: Self = Self(0);
    /// Any one continuation byte completes the character.
    const ONE: Self = Self(1);
    /// Any two continuation bytes.
    const TWO: Self = Self(2);
    /// Any three continuation bytes.
    const THREE: Self = Self(3);
    /// After E0: A0..=BF, so that nothing below U+0800 takes three bytes.
    const AFTER_E0: Self = Self(4);
    /// After ED: 80..=9F, which leaves the surrogates out.
    const AFTER_ED: Self = Self(5);
    /// After F0: 90..=BF, so that nothing below U+10000 takes four bytes.
    const AFTER_F0: Self = Self(6);
    /// After F4: 80..=8F, nothing above U+10FFFF.
    const AFTER_F4: Self = Self(7);
    /// The bytes are no UTF-8, whatever follows.
    pub const REJECT: Self = Self(8);
    /// Number of states from which valid text can still follow: all but [`Utf8State::REJECT`].
    pub const LIVE: usize = 8;

    /// The state's number, 0 to 8, as tables and devices hold it.
    pub const fn code(self) -> u8 {
        self.0
    }

    /// The state after one more byte.
    #[must_use]
    pub const fn step(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::START, 0x00..=0x7F) | (Self::ONE, 0x80..=0xBF) => Self::START,
            (Self::START, 0xC2..=0xDF) => Self::ONE,
            (Self::START, 0xE0) => Self::AFTER_E0,
            (Self::START, 0xED) => Self::AFTER_ED,
            (Self::START, 0xE1..=0xEF) => Self::TWO,
            (Self::START, 0xF0) => Self::AFTER_F0,
            (Self::START, 0xF1..=0xF3) => Self::THREE,
            (Self::START, 0xF4) => Self::AFTER_F4,
            (Self::TWO, 0x80..=0xBF) | (Self::AFTER_E0, 0xA0..=0xBF) | (Self::AFTER_ED, 0x80..=0x9F) => {
                Self::ONE
            }
            (Self::THREE, 0x80..=0xBF) | (Self::AFTER_F0, 0x90..=0xBF) | (Self::AFTER_F4, 0x80..=0x8F) => {
                Self::TWO
            }
            _ => Self::REJECT,
        }
    }

    /// The state after `bytes`.
    #[must_use]
    pub fn run(self, bytes: &[u8]) -> Self {
        bytes.iter().fold(self, |state, &byte| state.step(byte))
    }

    /// The state at byte `offset` of valid text: looks back at most three bytes.
    pub(super) fn at(text: &str, offset: usize) -> Self {
        if text.is_char_boundary(offset) {
            return Self::START;
        }
        let lead = (0..offset).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        Self::START.run(&text.as_bytes()[lead..offset])
    }
}

/// What each token does to each state: (id, state) → state.
#[derive(Debug)]
pub struct Utf8Table {
    next: Vec<u8>,
}

impl Utf8Table {
    pub(super) fn new(tokens: &TokenBytes) -> Self {
        let mut next = Vec::with_capacity(tokens.len() * Utf8State::LIVE);
        for id in 0..tokens.len() {
            let bytes = tokens.get(id as u32);
            next.extend((0..Utf8State::LIVE as u8).map(|state| match bytes {
                // An id without a token must never be produced.
                [] => Utf8State::REJECT.code(),
                bytes => Utf8State(state).run(bytes).code(),
            }));
        }
        Self { next }
    }

    /// The state after token `id`; [`Utf8State::REJECT`] for ids without a token, and from the rejecting state.
    pub fn after(&self, state: Utf8State, id: u32) -> Utf8State {
        if state == Utf8State::REJECT {
            return state;
        }
        let index = id as usize * Utf8State::LIVE + usize::from(state.code());
        self.next.get(index).map_or(Utf8State::REJECT, |&code| Utf8State(code))
    }

    /// The table as a device wants it: the successor's code of `(id, state)` at `id * Utf8State::LIVE + state`,
    /// shape `[ids, 8]`. There is no row for the rejecting state, which nothing leaves.
    pub fn as_slice(&self) -> &[u8] {
        &self.next
    }
}
