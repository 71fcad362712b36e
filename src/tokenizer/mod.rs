//! Text to tokens and back to exact bytes.
//!
//! Encoding is the tokenizers crate's. What a token *is* in bytes, which bytes of a text belong to it, and which tokens
//! may stand in its place is worked out here, because an edit may change no byte outside the tokens it edits.

mod align;
mod bytes;
mod chat;
mod chat_functions;
mod chat_words;
mod load;
mod rewrite;
mod scheme;
mod spans;
mod utf8;

use std::fmt;
use std::path::{Path, PathBuf};

pub use align::Alignment;
pub use chat::{ChatTemplate, Conversation};
pub use chat_words::Words;
pub use utf8::{Utf8State, Utf8Table};

use crate::{Error, Result};
use align::Aligner;
use bytes::TokenBytes;
use rewrite::Rewriter;
use scheme::{Parts, PhantomSpace, Scheme};

/// A tokenizer loaded from a `tokenizer.json`, shared by threads.
///
/// It must be byte-level or of the metaspace kind (SentencePiece's, with or without byte fallback): those tokens have
/// bytes of their own.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    path: PathBuf,
    tokens: TokenBytes,
    phantom: PhantomSpace,
    rewriter: Option<Rewriter>,
    prefix: Vec<u32>,
    utf8: Utf8Table,
}

impl Tokenizer {
    /// Loads `tokenizer.json`. Truncation and padding in the file are ignored.
    ///
    /// # Errors
    /// Names the file: it cannot be read, is malformed, has ids far beyond its number of entries, does not encode a
    /// short text, or is of a kind whose tokens have no bytes of their own.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let inner = load::load(path)?;
        let tokenizer = load::guard(path, "reading its vocabulary", || Self::build(path, inner))??;
        tokenizer.probe()
    }

    fn build(path: &Path, inner: tokenizers::Tokenizer) -> Result<Self> {
        let refuse = |reason| Error::file(path, reason);
        let parts = Parts::of(&inner);
        let scheme = parts.scheme().map_err(refuse)?;
        let phantom = parts.phantom_space().map_err(refuse)?;
        let largest = inner.get_vocab(true).into_values().max();
        let len = largest.map_or(0, |largest| largest as usize + 1);
        let tokens = TokenBytes::new(&inner, &parts, scheme, len);
        let normalizer = inner.get_normalizer().and_then(scheme::text_changes);
        let rewriter = Rewriter::new(normalizer, matches!(scheme, Scheme::Metaspace { .. }));
        let utf8 = Utf8Table::new(&tokens);
        Ok(Self { inner, path: path.to_owned(), tokens, phantom, rewriter, prefix: Vec::new(), utf8 })
    }

    /// Encodes a short text with and without special tokens: shows that encoding works, and gives the prefix.
    fn probe(mut self) -> Result<Self> {
        let refuse = |reason: &str| Error::file(&self.path, reason);
        let plain = self.encode_with("a", false)?;
        let full = self.encode_with("a", true)?;
        if plain.is_empty() {
            return Err(refuse("encodes `a` to no token"));
        }
        let place = full.windows(plain.len()).position(|window| window == plain);
        let place =
            place.ok_or_else(|| refuse("its post-processor does not keep a text's tokens together"))?;
        if let Some(id) = full.iter().find(|&&id| id as usize >= self.len()) {
            return Err(refuse(&format!(
                "its post-processor adds id {id}: expected less than {}",
                self.len()
            )));
        }
        self.prefix = full[..place].to_vec();
        Ok(self)
    }

    /// One more than the largest id. Ids below it need not all have a token.
    #[expect(clippy::len_without_is_empty, reason = "a tokenizer without tokens does not load")]
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// The text's own tokens; no special ones are added.
    ///
    /// # Errors
    /// Names the tokenizer's file where the tokenizer fails on the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_with(text, false)
    }

    fn encode_with(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>> {
        let encoding =
            load::guard(&self.path, "encoding", || self.inner.encode_fast(text, add_special_tokens))?
                .map_err(|error| Error::file(&self.path, format!("cannot encode a text: {error}")))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The special tokens that the tokenizer's own post-processor puts before a text.
    pub fn prefix(&self) -> &[u32] {
        &self.prefix
    }

    /// The token's own bytes, an added token's content; empty for ids without a token.
    pub fn bytes(&self, id: u32) -> &[u8] {
        self.tokens.get(id)
    }

    /// The bytes that the token begins a text with: its own, less one leading space where the tokenizer adds one there.
    pub fn first_bytes(&self, id: u32) -> &[u8] {
        let own = self.bytes(id);
        if self.phantom == PhantomSpace::Never { own } else { own.strip_prefix(b" ").unwrap_or(own) }
    }

    /// Whether the file marks the token `special`.
    pub fn is_special(&self, id: u32) -> bool {
        self.tokens.is_special(id)
    }

    /// What each token does to each state of the UTF-8 automaton.
    pub fn utf8(&self) -> &Utf8Table {
        &self.utf8
    }

    /// Finds the bytes of `text` that belong to each of its tokens, `ids` being `encode(text)`. `None` where the tokens
    /// do not account for every byte: such a text cannot be edited.
    pub fn align(&self, text: &str, ids: &[u32]) -> Option<Alignment> {
        let aligner = Aligner { tokens: &self.tokens, phantom: self.phantom };
        aligner.exact(text, ids).or_else(|| {
            let rewriter = self.rewriter.as_ref()?;
            let rewritten =
                load::guard(&self.path, "normalising", || rewriter.rewrite(text, ids, &self.tokens));
            aligner.rewritten(text, &rewritten.ok()??, ids)
        })
    }

    /// Whether token `id` may stand at `position`: the token there is editable, and `id` takes the UTF-8 automaton from
    /// the state before that token to the state after it. Special tokens are not treated apart.
    ///
    /// # Panics
    /// Where `position` is not below `alignment.len()`.
    pub fn allowed_replacement(&self, alignment: &Alignment, position: usize, id: u32) -> bool {
        let states = alignment.states();
        // A phantom space to strip makes no difference: it leads from the start state to itself.
        alignment.is_editable(position) && self.utf8.after(states[position], id) == states[position + 1]
    }

    /// The bytes that token `id` puts into the text at `position`: its own, less one leading space where the tokenizer
    /// adds one there.
    ///
    /// # Panics
    /// Where `position` is not below `alignment.len()`.
    pub fn replacement_bytes(&self, alignment: &Alignment, position: usize, id: u32) -> &[u8] {
        let own = self.bytes(id);
        if alignment.has_phantom_space(position) { own.strip_prefix(b" ").unwrap_or(own) } else { own }
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("path", &self.path)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
