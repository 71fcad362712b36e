//! Which bytes each token is.

use std::collections::HashMap;

use tokenizers::{AddedToken, Model, NormalizedString, Normalizer};

use super::scheme::{METASPACE, Parts, Scheme};

/// The table id → bytes, flat, with what else the tokenizer knows of each id.
#[derive(Debug)]
pub(super) struct TokenBytes {
    blob: Vec<u8>,
    /// End of each token in `blob`.
    ends: Vec<u32>,
    kinds: Vec<u8>,
    added: HashMap<u32, Added>,
}

/// A token that is cut out of the text before the model sees it.
#[derive(Debug)]
pub(super) struct Added {
    /// What the tokenizer searches for: the content, normalised where the token asks for that.
    pub surface: String,
    /// Searched for in the normalised text instead of the text itself.
    pub normalized: bool,
    /// Swallows white space before it.
    pub lstrip: bool,
    /// Swallows white space after it.
    pub rstrip: bool,
}

const SPECIAL: u8 = 1;
const ADDED: u8 = 2;

impl TokenBytes {
    /// Reads the table off a loaded tokenizer with ids below `len`. Only small numbers may come in: it allocates by them.
    pub(super) fn new(tokenizer: &tokenizers::Tokenizer, parts: &Parts, scheme: Scheme, len: usize) -> Self {
        let mut table = Self {
            blob: Vec::new(),
            ends: Vec::with_capacity(len),
            kinds: vec![0; len],
            added: HashMap::new(),
        };
        let added = tokenizer.get_added_tokens_decoder();
        for id in 0..len as u32 {
            if let Some(token) = added.get(&id) {
                table.blob.extend_from_slice(token.content.as_bytes());
                table.kinds[id as usize] = ADDED | if token.special { SPECIAL } else { 0 };
                let surface = surface(tokenizer, parts, scheme, token);
                let &AddedToken { normalized, lstrip, rstrip, .. } = token;
                table.added.insert(id, Added { surface, normalized, lstrip, rstrip });
            } else if let Some(text) = tokenizer.get_model().id_to_token(id) {
                push_bytes(scheme, &text, &mut table.blob);
            }
            // Fits: the loader's limit on the file's size bounds the blob.
            table.ends.push(table.blob.len() as u32);
        }
        table
    }

    /// One more than the largest id.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The token's bytes; empty where the id has no token.
    pub(super) fn get(&self, id: u32) -> &[u8] {
        let id = id as usize;
        let Some(&end) = self.ends.get(id) else { return &[] };
        let start = if id == 0 { 0 } else { self.ends[id - 1] };
        &self.blob[start as usize..end as usize]
    }

    pub(super) fn is_special(&self, id: u32) -> bool {
        self.kinds.get(id as usize).is_some_and(|kind| kind & SPECIAL != 0)
    }

    /// What is known of an added token; `None` for the model's own.
    pub(super) fn added(&self, id: u32) -> Option<&Added> {
        // The flag keeps the map out of the loop over ordinary tokens.
        let flagged = self.kinds.get(id as usize).is_some_and(|kind| kind & ADDED != 0);
        if flagged { self.added.get(&id) } else { None }
    }
}

/// What stands for an added token in the text (or its normalised form), as bytes of text.
fn surface(tokenizer: &tokenizers::Tokenizer, parts: &Parts, scheme: Scheme, token: &AddedToken) -> String {
    let Some(normalizer) = tokenizer.get_normalizer().filter(|_| token.normalized) else {
        return token.content.clone();
    };
    let mut normalized = NormalizedString::from(token.content.as_str());
    if normalizer.normalize(&mut normalized).is_err() {
        return token.content.clone();
    }
    if parts.normalizes_to_bytes() || matches!(scheme, Scheme::Metaspace { .. }) {
        let mut bytes = Vec::new();
        push_bytes(scheme, normalized.get(), &mut bytes);
        return String::from_utf8(bytes).unwrap_or_else(|_| token.content.clone());
    }
    normalized.get().to_owned()
}

/// Appends the bytes that a token's text in the vocabulary stands for.
fn push_bytes(scheme: Scheme, text: &str, out: &mut Vec<u8>) {
    match scheme {
        Scheme::ByteLevel => match text.chars().map(byte_level).collect::<Option<Vec<u8>>>() {
            Some(bytes) => out.extend(bytes),
            // As the decoder does: text outside the alphabet stands for itself.
            None => out.extend_from_slice(text.as_bytes()),
        },
        Scheme::Metaspace { byte_fallback } => match fallback_byte(text).filter(|_| byte_fallback) {
            Some(byte) => out.push(byte),
            None => out.extend_from_slice(text.replace(METASPACE, " ").as_bytes()),
        },
    }
}

/// The byte behind a character of GPT-2's alphabet: printable Latin-1 is itself, the other 68 bytes follow in order
/// from U+0100.
fn byte_level(character: char) -> Option<u8> {
    let code = character as u32;
    let byte = match code {
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => code,
        0x100..=0x120 => code - 0x100,
        0x121..=0x142 => code - 0x121 + 0x7F,
        0x143 => 0xAD,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

/// The byte of `<0xNN>`.
fn fallback_byte(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let is_pair = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    if is_pair { u8::from_str_radix(digits, 16).ok() } else { None }
}
