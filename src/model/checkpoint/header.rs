//! The header of a safetensors file, checked before anything else of the file is believed.
//!
//! Layout: the header's length (u64, little endian), the header (JSON), the data. The header gives each tensor's dtype,
//! shape and range of data bytes; the ranges must follow one another without holes and cover the data exactly.

use std::{collections::BTreeMap, fmt, marker::PhantomData, path::Path};

use safetensors::Dtype;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{Error, Result};

/// The largest header that the format allows, bytes.
pub(super) const HEADER_LIMIT: u64 = 100_000_000;
/// More tensors than any dense model has.
const ENTRY_LIMIT: usize = 1 << 17;
/// Bytes of JSON that one tensor's entry may take, and bytes of its name.
const ENTRY_BYTES: usize = 1024;

/// The key that holds free text instead of a tensor.
const METADATA: &str = "__metadata__";

/// A tensor of a file: its dtype, shape and place.
#[derive(Debug)]
pub(super) struct Entry {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// Offset of the first byte in the file's data.
    pub start: u64,
    /// Offset past the last byte in the file's data.
    pub end: u64,
}

/// A tensor's entry as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Info {
    dtype: Dtype,
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

/// Parses a header whose file holds `data_len` bytes of data; `path` is for messages.
pub(super) fn parse(header: &[u8], data_len: u64, path: &Path) -> Result<BTreeMap<String, Entry>> {
    let malformed = |error: String| Error::file(path, format!("malformed safetensors header: {error}"));
    let text = std::str::from_utf8(header).map_err(|error| malformed(error.to_string()))?;
    if !text.starts_with('{') {
        return Err(malformed("expected a JSON object".to_owned()));
    }
    let Unique(mut raw): Unique<&RawValue> =
        serde_json::from_str(text).map_err(|error| malformed(error.to_string()))?;
    if let Some(metadata) = raw.remove(METADATA) {
        serde_json::from_str::<Unique<String>>(metadata.get())
            .map_err(|error| malformed(format!("{METADATA}: {error}")))?;
    }
    let entries = raw
        .into_iter()
        .map(|(name, raw)| match entry(&name, raw) {
            Ok(entry) => Ok((name, entry)),
            Err(reason) => Err(tensor_error(path, &name, reason)),
        })
        .collect::<Result<_>>()?;
    check_cover(&entries, data_len, path)?;
    Ok(entries)
}

/// One tensor's entry, its size checked against its dtype and shape.
fn entry(name: &str, raw: &RawValue) -> Result<Entry, String> {
    if name.is_empty() || name.len() > ENTRY_BYTES {
        return Err(format!("a name of {} bytes, expected 1 to {ENTRY_BYTES}", name.len()));
    }
    if name.contains(|c: char| c.is_control() || "/\\".contains(c)) {
        return Err("a name with control characters or slashes".to_owned());
    }
    if raw.get().len() > ENTRY_BYTES {
        return Err(format!("an entry of {} bytes, expected at most {ENTRY_BYTES}", raw.get().len()));
    }
    let Info { dtype, shape, data_offsets: [start, end] } =
        serde_json::from_str(raw.get()).map_err(|error| format!("malformed entry: {error}"))?;
    let len = end.checked_sub(start).ok_or_else(|| format!("data_offsets [{start}, {end}] are reversed"))?;
    let expected = byte_len(dtype, &shape)
        .ok_or_else(|| format!("{dtype:?} of shape {shape:?} has no size in bytes"))?;
    if len != expected {
        return Err(format!("{len} bytes of data, but {dtype:?} of shape {shape:?} has {expected}"));
    }
    Ok(Entry { dtype, shape, start, end })
}

/// Bytes of a tensor; none if they overflow or are no whole number.
fn byte_len(dtype: Dtype, shape: &[usize]) -> Option<u64> {
    // Other dimensions may not overflow behind a zero.
    shape.iter().try_fold(1_u64, |product, &dim| product.checked_mul(dim.max(1) as u64))?;
    let elements: u64 = shape.iter().map(|&dim| dim as u64).product();
    let bits = elements.checked_mul(dtype.bitsize() as u64)?;
    (bits % 8 == 0).then_some(bits / 8)
}

/// Checks that the tensors cover the data without overlaps or holes.
fn check_cover(entries: &BTreeMap<String, Entry>, data_len: u64, path: &Path) -> Result<()> {
    let mut ordered: Vec<_> = entries.iter().collect();
    ordered.sort_by_key(|(_, entry)| (entry.start, entry.end));
    let mut covered = 0;
    for (name, entry) in ordered {
        if entry.start != covered {
            let what = if entry.start < covered { "overlaps another tensor" } else { "leaves a hole" };
            return Err(tensor_error(
                path,
                name,
                format!("starts at {}, which {what}: expected {covered}", entry.start),
            ));
        }
        if entry.end > data_len {
            let reason =
                format!("ends at byte {} of {data_len} bytes of data: is the file cut short?", entry.end);
            return Err(tensor_error(path, name, reason));
        }
        covered = entry.end;
    }
    if covered != data_len {
        return Err(Error::file(path, format!("{} bytes after the last tensor", data_len - covered)));
    }
    Ok(())
}

/// An error about the tensor `name` of the file `path`; a hostile name may be long.
pub(super) fn tensor_error(path: &Path, name: &str, reason: impl ToString) -> Error {
    Error::Tensor {
        path: path.to_owned(),
        tensor: name.escape_debug().take(200).collect(),
        reason: reason.to_string(),
    }
}

/// A JSON object in which a key occurs once; serde's maps keep the last of several.
pub(super) struct Unique<V>(pub BTreeMap<String, V>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Unique<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(UniqueVisitor(PhantomData))
    }
}

struct UniqueVisitor<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for UniqueVisitor<V> {
    type Value = Unique<V>;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            if entries.contains_key(&key) {
                let key: String = key.escape_debug().take(200).collect();
                return Err(A::Error::custom(format!("duplicate key `{key}`")));
            }
            if entries.len() == ENTRY_LIMIT {
                return Err(A::Error::custom(format!("more than {ENTRY_LIMIT} keys")));
            }
            entries.insert(key, map.next_value()?);
        }
        Ok(Unique(entries))
    }
}
