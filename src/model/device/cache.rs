//! The keys and values of sequences that go on, on a device.

use bytemuck::Pod;

use super::super::config::Config;
use crate::Result;
use crate::device::{Matrix, Queue, Rows};
use crate::ops::decode::{Place, Places};

/// Sequences in slots. A slot has room for the rows of a whole sequence, in every layer.
pub(crate) struct Cache<T> {
    queue: Queue,
    /// Keys and values of each layer `[slots · capacity, 2K]`.
    layers: Vec<Matrix<T>>,
    lengths: Vec<usize>,
    capacity: usize,
    /// Where the rows of the pack at work go.
    pub(super) places: Places,
}

impl<T: Pod> Cache<T> {
    /// Empty slots for `slots` sequences of up to `capacity` tokens, and packs of up to `tokens`.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    pub fn new(queue: &Queue, config: &Config, slots: usize, capacity: usize, tokens: usize) -> Result<Self> {
        let (rows, width) = (slots.saturating_mul(capacity), 2 * config.attention().kv_len());
        let layers = (0..config.num_hidden_layers).map(|_| Matrix::new(queue, rows, width));
        Ok(Self {
            queue: queue.clone(),
            layers: layers.collect::<Result<_>>()?,
            lengths: vec![0; slots],
            capacity,
            places: Places::new(queue, tokens)?,
        })
    }

    /// Tokens in a slot.
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
    }

    /// Replaces the sequence in slot `to` by the first `length` tokens of slot `from`.
    ///
    /// # Errors
    /// What went wrong on the device before.
    ///
    /// # Panics
    /// As [`Cache::truncate`].
    pub fn fork(&mut self, from: usize, to: usize, length: usize) -> Result<()> {
        assert!(length <= self.lengths[from], "{length} tokens of {}", self.lengths[from]);
        if from != to {
            for layer in &self.layers {
                let [from, to] = [from, to].map(|slot| {
                    let Rows { data, stride, .. } = layer.view();
                    let first = slot * self.capacity * stride;
                    data.slice(first..first + length * stride)
                });
                self.queue.copy(from, to)?;
            }
        }
        self.lengths[to] = length;
        Ok(())
    }

    /// Makes the sequences in `slots`, which ascend, longer by the documents of a pack, and returns the positions of their
    /// tokens.
    ///
    /// # Errors
    /// What went wrong on the device before.
    ///
    /// # Panics
    /// If a sequence exceeds the cache, or slots do not ascend.
    pub(super) fn advance(&mut self, slots: &[usize], cu_seqlens: &[usize]) -> Result<Vec<u32>> {
        assert!(slots.is_sorted_by(|a, b| a < b) && slots.len() + 1 == cu_seqlens.len());
        let mut places = Vec::new();
        for (slot, ends) in slots.iter().zip(cu_seqlens.windows(2)) {
            let past = self.lengths[*slot];
            let length = past + ends[1] - ends[0];
            assert!(length <= self.capacity, "{length} tokens in slot {slot}");
            let first = (slot * self.capacity) as u32;
            places.extend((past..length).map(|position| Place { first, position: position as u32 }));
            self.lengths[*slot] = length;
        }
        self.places.write(&self.queue, &places)?;
        Ok(places.into_iter().map(|place| place.position).collect())
    }

    /// The keys and values of a layer.
    pub(super) fn layer(&self, layer: usize) -> Rows<'_, T> {
        self.layers[layer].view()
    }
}
