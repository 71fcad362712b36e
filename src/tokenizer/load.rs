//! Reading `tokenizer.json` without trusting it: the tokenizers crate panics on some malformed files and allocates by
//! the ids it finds, so the file is checked before it sees it, and its panics become errors.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::{Error, Result};

/// More than six times the largest tokenizer on the hub.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// How far ids may lie past the number of entries: vocabularies have holes, but small ones.
const ID_SLACK: u64 = 4096;

/// Loads a file with truncation and padding off.
pub(super) fn load(path: &Path) -> Result<tokenizers::Tokenizer> {
    let json = read(path)?;
    let ids: FileIds = serde_json::from_str(&json)
        .map_err(|error| Error::file(path, format!("not a tokenizer.json: {error}")))?;
    ids.check().map_err(|reason| Error::file(path, reason))?;
    let mut tokenizer = guard(path, "loading the file", || tokenizers::Tokenizer::from_str(&json))?
        .map_err(|error| Error::file(path, format!("not a tokenizer.json: {error}")))?;
    tokenizer.with_truncation(None).map_err(|error| Error::file(path, error))?;
    tokenizer.with_padding(None);
    Ok(tokenizer)
}

/// Runs `f`, a call into the tokenizers crate; a panic in it becomes an error that names the file.
pub(super) fn guard<T>(path: &Path, doing: &str, f: impl FnOnce() -> T) -> Result<T> {
    // What `f` borrows is either read only or dropped when it fails.
    catch_unwind(AssertUnwindSafe(f)).map_err(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("unknown reason");
        Error::file(path, format!("the tokenizer panicked while {doing}: {text}"))
    })
}

fn read(path: &Path) -> Result<String> {
    let metadata = std::fs::metadata(path).map_err(|error| Error::io(path, error))?;
    if !metadata.is_file() {
        return Err(Error::file(path, "not a regular file"));
    }
    if metadata.len() > MAX_FILE_BYTES {
        let reason = format!(
            "{} bytes are too many for a tokenizer: expected at most {MAX_FILE_BYTES}",
            metadata.len()
        );
        return Err(Error::file(path, reason));
    }
    let bytes = std::fs::read(path).map_err(|error| Error::io(path, error))?;
    String::from_utf8(bytes).map_err(|error| Error::file(path, format!("not a tokenizer.json: {error}")))
}

/// The numbers of a `tokenizer.json` that must be known before it is loaded.
#[derive(Deserialize)]
struct FileIds {
    #[serde(default)]
    added_tokens: Vec<AddedId>,
    model: ModelIds,
}

#[derive(Deserialize)]
struct AddedId {
    id: u64,
}

#[derive(Deserialize)]
struct ModelIds {
    vocab: VocabIds,
    dropout: Option<f64>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
}

/// Entries of a vocabulary and its largest id.
struct VocabIds {
    entries: u64,
    largest: u64,
}

impl FileIds {
    fn check(&self) -> Result<(), String> {
        if let Some(dropout) = self.model.dropout.filter(|&dropout| dropout != 0.0) {
            return Err(format!(
                "field `model.dropout` is {dropout}: it makes encoding random, expected null"
            ));
        }
        // Tokens that carry such marks are not made of the text's bytes, and the crate slices by them unchecked.
        let marks = [
            ("continuing_subword_prefix", &self.model.continuing_subword_prefix),
            ("end_of_word_suffix", &self.model.end_of_word_suffix),
        ];
        for (field, mark) in marks {
            if let Some(mark) = mark.as_deref().filter(|mark| !mark.is_empty()) {
                return Err(format!(
                    "field `model.{field}` is `{mark}`, which is not supported: expected null"
                ));
            }
        }
        let entries = self.model.vocab.entries + self.added_tokens.len() as u64;
        let added = self.added_tokens.iter().map(|token| token.id).max().unwrap_or(0);
        let largest = self.model.vocab.largest.max(added);
        if largest > entries + ID_SLACK {
            return Err(format!(
                "id {largest} is too large for {entries} tokens: expected at most {}",
                entries + ID_SLACK
            ));
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for VocabIds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(VocabVisitor)
    }
}

struct VocabVisitor;

impl<'de> Visitor<'de> for VocabVisitor {
    type Value = VocabIds;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a vocabulary: an object of token and id, or an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<VocabIds, A::Error> {
        let mut vocab = VocabIds { entries: 0, largest: 0 };
        while let Some((_, id)) = map.next_entry::<IgnoredAny, u64>()? {
            vocab.entries += 1;
            vocab.largest = vocab.largest.max(id);
        }
        Ok(vocab)
    }

    /// Unigram: ids are places in the array.
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<VocabIds, A::Error> {
        let mut entries = 0;
        while seq.next_element::<IgnoredAny>()?.is_some() {
            entries += 1;
        }
        Ok(VocabIds { entries, largest: entries })
    }
}
