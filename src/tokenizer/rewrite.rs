//! The text as the tokens spell it: what the normalizer made of it, piece by piece, so that a change is confined to
//! the smallest piece that shows it.

use std::borrow::Cow;
use std::ops::Range;

use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::{NormalizedString, Normalizer};
use unicode_normalization::char::{canonical_combining_class, decompose_compatible};
use unicode_normalization::{IsNormalized, is_nfc_quick};

use super::bytes::TokenBytes;
use super::scheme::METASPACE;

/// Text is compared in pieces of at least this many bytes first, since most of it is not changed.
const CHUNK: usize = 256;

/// What can change a text before the model sees it, the phantom space aside.
#[derive(Debug)]
pub(super) struct Rewriter {
    pub normalizer: Option<NormalizerWrapper>,
    /// A literal `▁` becomes a space.
    pub metaspace: bool,
}

/// The text that the tokens' bytes make up.
#[derive(Debug, Default)]
pub(super) struct Rewritten {
    pub text: String,
    /// Ascending, disjoint.
    pub changes: Vec<Change>,
}

/// One piece that the tokenizer changed.
#[derive(Debug)]
pub(super) struct Change {
    pub original: Range<usize>,
    pub rewritten: Range<usize>,
}

impl Rewriter {
    /// `None` where no text can differ from its tokens.
    pub(super) fn new(normalizer: Option<NormalizerWrapper>, metaspace: bool) -> Option<Self> {
        (normalizer.is_some() || metaspace).then_some(Self { normalizer, metaspace })
    }

    /// Rewrites a text whose tokens are `ids`. Tokens that are cut out before normalisation part it into sections, which
    /// the tokenizer normalises one by one. `None` where one of them is not found or the normalizer fails.
    pub(super) fn rewrite(&self, text: &str, ids: &[u32], tokens: &TokenBytes) -> Option<Rewritten> {
        let mut out = Rewritten::default();
        let mut at = 0;
        for added in ids.iter().filter_map(|&id| tokens.added(id)).filter(|added| !added.normalized) {
            let found = at + text[at..].find(&added.surface)?;
            let start = if added.lstrip { at + text[at..found].trim_end().len() } else { found };
            let mut end = found + added.surface.len();
            if added.rstrip {
                end = text.len() - text[end..].trim_start().len();
            }
            self.section(text, at..start, &mut out)?;
            out.text.push_str(&text[start..end]);
            at = end;
        }
        self.section(text, at..text.len(), &mut out)?;
        Some(out)
    }

    fn section(&self, text: &str, range: Range<usize>, out: &mut Rewritten) -> Option<()> {
        for chunk in pieces(text, range, CHUNK) {
            if self.normalize(&text[chunk.clone()])? == text[chunk.clone()] {
                out.text.push_str(&text[chunk]);
                continue;
            }
            for piece in pieces(text, chunk, 1) {
                let normalized = self.normalize(&text[piece.clone()])?;
                let start = out.text.len();
                out.text.push_str(&normalized);
                if normalized != text[piece.clone()] {
                    out.changes.push(Change { original: piece, rewritten: start..out.text.len() });
                }
            }
        }
        Some(())
    }

    fn normalize<'a>(&self, piece: &'a str) -> Option<Cow<'a, str>> {
        let mut text = Cow::Borrowed(piece);
        if let Some(normalizer) = &self.normalizer {
            let mut normalized = NormalizedString::from(piece);
            normalizer.normalize(&mut normalized).ok()?;
            text = Cow::Owned(normalized.get().to_owned());
        }
        if self.metaspace && text.contains(METASPACE) {
            text = Cow::Owned(text.replace(METASPACE, " "));
        }
        Some(text)
    }
}

/// Cuts `range` of the text at safe characters into pieces of at least `least` bytes (the last may be shorter).
fn pieces(text: &str, range: Range<usize>, least: usize) -> impl Iterator<Item = Range<usize>> {
    let mut start = range.start;
    std::iter::from_fn(move || {
        let rest = &text[start..range.end];
        let cut = rest.char_indices().find(|&(at, character)| at >= least && is_safe(character));
        let piece = start..start + cut.map_or(rest.len(), |(at, _)| at);
        start = piece.end;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Whether no normalization form joins or reorders the character with what stands before it.
fn is_safe(character: char) -> bool {
    if character.is_ascii() {
        return true;
    }
    let mut first = None;
    decompose_compatible(character, |part| {
        first.get_or_insert(part);
    });
    is_starter(character) && first.is_none_or(is_starter)
}

fn is_starter(character: char) -> bool {
    canonical_combining_class(character) == 0 && is_nfc_quick(std::iter::once(character)) == IsNormalized::Yes
}
