//! Tokens as text: in whole characters, up to where a stop string begins.

use std::ops::ControlFlow;

use crate::tokenizer::Tokenizer;

/// The text of tokens that come one by one. Special tokens have no text.
#[derive(Clone, Debug)]
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    stop: &'a [String],
    /// Whether nothing stands before the first token: then the space that the tokenizer itself puts there is none of the
    /// text.
    is_start: bool,
    bytes: Vec<u8>,
    /// Bytes that were handed out.
    given: usize,
}

impl<'a> TextStream<'a> {
    /// A text that ends before the first of the `stop` strings, which are not empty. `is_start` where no text stands
    /// before it.
    pub fn new(tokenizer: &'a Tokenizer, stop: &'a [String], is_start: bool) -> Self {
        Self { tokenizer, stop, is_start, bytes: Vec::new(), given: 0 }
    }

    /// Adds a token; breaks where it completes a stop string, which is cut off with all behind it.
    pub fn push(&mut self, id: u32) -> ControlFlow<()> {
        if self.tokenizer.is_special(id) {
            return ControlFlow::Continue(());
        }
        let before = self.bytes.len();
        let is_first = std::mem::take(&mut self.is_start);
        let own = if is_first { self.tokenizer.first_bytes(id) } else { self.tokenizer.bytes(id) };
        self.bytes.extend_from_slice(own);
        let found = self.stop.iter().filter_map(|stop| {
            let first = (before + 1).saturating_sub(stop.len());
            let mut windows = self.bytes[first..].windows(stop.len());
            Some(first + windows.position(|window| window == stop.as_bytes())?)
        });
        match found.min() {
            None => ControlFlow::Continue(()),
            Some(start) => {
                self.bytes.truncate(start);
                ControlFlow::Break(())
            }
        }
    }

    /// What can be shown since the last call: whole characters that no later token can make part of a stop string, or
    /// with `is_over` all that is left. Bytes that are no UTF-8 become U+FFFD.
    pub fn take(&mut self, is_over: bool) -> String {
        let held = if is_over { 0 } else { self.held() };
        let mut ready = &self.bytes[self.given..self.bytes.len() - held];
        let mut text = String::new();
        for chunk in ready.utf8_chunks() {
            text.push_str(chunk.valid());
            ready = &ready[chunk.valid().len()..];
            // What is missing of a character may be on its way.
            let is_cut = chunk.invalid().len() == ready.len()
                && std::str::from_utf8(ready).is_err_and(|error| error.error_len().is_none());
            if chunk.invalid().is_empty() || (is_cut && !is_over) {
                break;
            }
            text.push(char::REPLACEMENT_CHARACTER);
            ready = &ready[chunk.invalid().len()..];
        }
        self.given = self.bytes.len() - held - ready.len();
        text
    }

    /// The bytes of the whole text so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The whole text so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Bytes at the end that a stop string may begin with.
    fn held(&self) -> usize {
        let pending = &self.bytes[self.given..];
        let begins = |stop: &String| {
            let longest = pending.len().min(stop.len() - 1);
            (1..=longest).rev().find(|len| pending.ends_with(&stop.as_bytes()[..*len]))
        };
        self.stop.iter().filter_map(begins).max().unwrap_or(0)
    }
}
