//! Keys and values of sequences under way, packed as attention reads them: a sequence goes on, and others begin where it
//! stands, without anything being read again.

use super::config::Config;
use super::forward::Place;
use crate::ops::attention::Attention;
use crate::tensor::{Buffer, Element, PANEL};

/// Room for a number of sequences, each in a slot of its own.
///
/// Of every layer a slot holds whole blocks of [`PANEL`] keys from the sequence's first token on. Keys past a sequence's
/// end are zeros in its last block. Memory is touched as sequences grow.
pub struct Cache<E> {
    attention: Attention,
    /// The blocks of each slot, layer by layer.
    pub(super) layers: Vec<Buffer<E>>,
    lengths: Vec<usize>,
    capacity: usize,
}

impl<E: Element> Cache<E> {
    /// Empty slots for `slots` sequences of up to `capacity` tokens.
    pub fn new(config: &Config, slots: usize, capacity: usize) -> Self {
        let attention = config.attention();
        let len = slots * capacity.div_ceil(PANEL) * attention.block_len();
        let layers = (0..config.num_hidden_layers).map(|_| Buffer::zeroed(len)).collect();
        Self { attention, layers, lengths: vec![0; slots], capacity }
    }

    /// How many sequences there is room for.
    pub fn slots(&self) -> usize {
        self.lengths.len()
    }

    /// Tokens of a sequence at most.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Tokens in a slot.
    ///
    /// # Panics
    /// If there is no such slot.
    pub fn length(&self, slot: usize) -> usize {
        self.lengths[slot]
    }

    /// Forgets all but the first `length` tokens of a slot.
    ///
    /// # Panics
    /// If there are fewer, or there is no such slot.
    pub fn truncate(&mut self, slot: usize, length: usize) {
        assert!(length <= self.lengths[slot], "{length} tokens of {}", self.lengths[slot]);
        self.lengths[slot] = length;
        if !length.is_multiple_of(PANEL) {
            let (block, attention) = (self.first_block(slot) + length / PANEL, self.attention);
            let range = block * attention.block_len()..(block + 1) * attention.block_len();
            for layer in &mut self.layers {
                attention.clear(length % PANEL, &mut layer[range.clone()]);
            }
        }
    }

    /// Replaces the sequence in slot `to` by the first `length` tokens of slot `from`.
    ///
    /// # Panics
    /// As [`Cache::truncate`].
    pub fn fork(&mut self, from: usize, to: usize, length: usize) {
        assert!(length <= self.lengths[from], "{length} tokens of {}", self.lengths[from]);
        if from != to {
            let len = length.div_ceil(PANEL) * self.attention.block_len();
            let [from, to] = [from, to].map(|slot| self.first_block(slot) * self.attention.block_len());
            self.layers.iter_mut().for_each(|layer| layer.copy_within(from..from + len, to));
        }
        self.lengths[to] = self.lengths[from];
        self.truncate(to, length);
    }

    /// Where the sequences of a pack go on.
    pub(super) fn places(&self, slots: &[usize]) -> Vec<Place> {
        slots.iter().map(|&slot| Place { past: self.lengths[slot], block: self.first_block(slot) }).collect()
    }

    /// Notes tokens that were added.
    pub(super) fn advance(&mut self, slot: usize, tokens: usize) {
        self.lengths[slot] += tokens;
    }

    fn first_block(&self, slot: usize) -> usize {
        slot * self.capacity.div_ceil(PANEL)
    }
}
