//! How a tokenizer writes bytes as token text, and where it puts a space of its own, read off its parts.

use tokenizers::decoders::DecoderWrapper;
use tokenizers::normalizers::{NormalizerWrapper, Replace};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::metaspace::PrependScheme;

/// SentencePiece's stand-in for a space.
pub(super) const METASPACE: char = '\u{2581}';

/// How token text stands for bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    /// GPT-2's alphabet of one printable character for each byte.
    ByteLevel,
    /// `▁` is a space, everything else itself; with byte fallback `<0xNN>` is a byte.
    Metaspace { byte_fallback: bool },
}

/// Where the tokenizer puts a space that the text does not have. A section is the text, or what follows an added
/// token in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PhantomSpace {
    Never,
    /// Before each section that it normalises (Llama 2's `Prepend`).
    Always,
    /// Before each section that does not begin with a space.
    UnlessSpace,
    /// The same, only where the text begins.
    FirstUnlessSpace,
}

impl PhantomSpace {
    /// Whether a section that begins with `rest` gets one.
    pub(super) fn precedes(self, rest: &[u8]) -> bool {
        match self {
            Self::Never => false,
            Self::Always => true,
            Self::UnlessSpace | Self::FirstUnlessSpace => rest.first() != Some(&b' '),
        }
    }

    /// Whether one can follow an added token, which is cut out before (`normalized: false`) or after normalisation.
    pub(super) fn follows_added(self, normalized: bool) -> bool {
        match self {
            Self::Never | Self::FirstUnlessSpace => false,
            Self::Always => !normalized,
            Self::UnlessSpace => true,
        }
    }
}

/// The parts of a tokenizer, sequences flattened.
pub(super) struct Parts<'a> {
    normalizers: Vec<&'a NormalizerWrapper>,
    pre_tokenizers: Vec<&'a PreTokenizerWrapper>,
    decoders: Vec<&'a DecoderWrapper>,
}

impl<'a> Parts<'a> {
    pub(super) fn of(tokenizer: &'a tokenizers::Tokenizer) -> Self {
        Self {
            normalizers: leaves(tokenizer.get_normalizer(), |node| match node {
                NormalizerWrapper::Sequence(sequence) => Some(sequence.as_ref()),
                _ => None,
            }),
            pre_tokenizers: leaves(tokenizer.get_pre_tokenizer(), |node| match node {
                PreTokenizerWrapper::Sequence(sequence) => Some(sequence.as_ref()),
                _ => None,
            }),
            decoders: leaves(tokenizer.get_decoder(), |node| match node {
                DecoderWrapper::Sequence(sequence) => Some(sequence.get_decoders()),
                _ => None,
            }),
        }
    }

    /// The byte scheme, or why there is none.
    pub(super) fn scheme(&self) -> Result<Scheme, String> {
        if let Some(other) = self.decoders.iter().find(|decoder| is_lossy(decoder)) {
            return Err(format!(
                "decoder `{}` does not keep the text's bytes: expected ByteLevel, Metaspace or ByteFallback",
                type_name(other)
            ));
        }
        if self.has_byte_level() {
            return Ok(Scheme::ByteLevel);
        }
        let byte_fallback =
            self.decoders.iter().any(|decoder| matches!(decoder, DecoderWrapper::ByteFallback(_)));
        if byte_fallback || self.has_metaspace()? {
            return Ok(Scheme::Metaspace { byte_fallback });
        }
        let found = self.decoders.first().map_or("none".to_owned(), |decoder| type_name(decoder));
        Err(format!("decoder `{found}` is not supported: expected ByteLevel, Metaspace or ByteFallback"))
    }

    fn has_byte_level(&self) -> bool {
        self.decoders.iter().any(|decoder| matches!(decoder, DecoderWrapper::ByteLevel(_)))
            || self.pre_tokenizers.iter().any(|part| matches!(part, PreTokenizerWrapper::ByteLevel(_)))
            || self.normalizes_to_bytes()
    }

    /// Whether it is the normalizer that turns text into the byte alphabet.
    pub(super) fn normalizes_to_bytes(&self) -> bool {
        self.normalizers.iter().any(|part| matches!(part, NormalizerWrapper::ByteLevel(_)))
    }

    fn has_metaspace(&self) -> Result<bool, String> {
        let decoders = self.decoders.iter().filter_map(|decoder| match decoder {
            DecoderWrapper::Metaspace(metaspace) => Some(metaspace.get_replacement()),
            DecoderWrapper::Replace(replace) => is_replace(replace, "\u{2581}", " ").then_some(METASPACE),
            _ => None,
        });
        let pre_tokenizers = self.pre_tokenizers.iter().filter_map(|part| match part {
            PreTokenizerWrapper::Metaspace(metaspace) => Some(metaspace.get_replacement()),
            _ => None,
        });
        let marks: Vec<char> = decoders.chain(pre_tokenizers).collect();
        match marks.iter().find(|&&mark| mark != METASPACE) {
            Some(mark) => {
                Err(format!("metaspace character `{mark}` is not supported: expected `{METASPACE}`"))
            }
            None => Ok(!marks.is_empty()),
        }
    }

    /// Where the tokenizer puts a space of its own, or why that cannot be told.
    pub(super) fn phantom_space(&self) -> Result<PhantomSpace, String> {
        for part in &self.normalizers {
            if let NormalizerWrapper::Prepend(prepend) = part {
                return match prepend.prepend.as_str() {
                    "\u{2581}" | " " => Ok(PhantomSpace::Always),
                    other => {
                        Err(format!("normalizer Prepend adds `{other}`: expected `{METASPACE}` or a space"))
                    }
                };
            }
        }
        let phantom = self.pre_tokenizers.iter().find_map(|part| match part {
            PreTokenizerWrapper::ByteLevel(level) if level.add_prefix_space => {
                Some(PhantomSpace::UnlessSpace)
            }
            PreTokenizerWrapper::Metaspace(metaspace) => match metaspace.get_prepend_scheme() {
                PrependScheme::Always => Some(PhantomSpace::UnlessSpace),
                PrependScheme::First => Some(PhantomSpace::FirstUnlessSpace),
                PrependScheme::Never => None,
            },
            _ => None,
        });
        Ok(phantom.unwrap_or(PhantomSpace::Never))
    }
}

/// What of a normalizer can change the text: without the parts that add the phantom space or only write the same
/// bytes with other characters. `None` where nothing is left.
pub(super) fn text_changes(node: &NormalizerWrapper) -> Option<NormalizerWrapper> {
    match node {
        NormalizerWrapper::Prepend(_) | NormalizerWrapper::ByteLevel(_) => None,
        NormalizerWrapper::Replace(replace) if is_replace(replace, " ", "\u{2581}") => None,
        NormalizerWrapper::Sequence(sequence) => {
            let kept: Vec<_> = sequence.as_ref().iter().filter_map(text_changes).collect();
            (!kept.is_empty()).then(|| tokenizers::normalizers::Sequence::new(kept).into())
        }
        other => Some(other.clone()),
    }
}

/// Decoders that add or remove characters by rules of their own.
fn is_lossy(decoder: &DecoderWrapper) -> bool {
    matches!(decoder, DecoderWrapper::WordPiece(_) | DecoderWrapper::BPE(_) | DecoderWrapper::CTC(_))
}

fn is_replace(replace: &Replace, from: &str, to: &str) -> bool {
    Replace::new(from, to).is_ok_and(|expected| *replace == expected)
}

/// The parts without children under `node`, in order.
fn leaves<'a, T>(node: Option<&'a T>, children: fn(&'a T) -> Option<&'a [T]>) -> Vec<&'a T> {
    let mut stack: Vec<&T> = node.into_iter().collect();
    let mut found = Vec::new();
    while let Some(node) = stack.pop() {
        match children(node) {
            Some(children) => stack.extend(children.iter().rev()),
            None => found.push(node),
        }
    }
    found
}

/// The name of a decoder in `tokenizer.json`.
fn type_name(decoder: &DecoderWrapper) -> String {
    let json = serde_json::to_value(decoder).unwrap_or_default();
    json.get("type").and_then(|name| name.as_str()).unwrap_or("unknown").to_owned()
}
