//! Writing model folders as transformers' `save_pretrained` does, complete or not at all.
//!
//! [`SaveFolder`] makes the folder beside its place and renames it; [`SaveFolder::model`] streams the weights into
//! `model.safetensors`, or shards and their index; [`config_json`] is the configuration. Nothing is held in memory but a
//! piece of one tensor.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};

use super::config::Config;
use super::folder::{CONFIG, INDEX, WEIGHTS};
use super::{Dtype, layout::Parameter};
use crate::{Error, Result};

mod folder;
mod tensors;

pub use folder::{SaveFolder, discard, recover};
pub use tensors::TensorSink;

/// The largest file of weights, bytes: as large as transformers made them for years, and every hub takes.
pub const SHARD_LIMIT: u64 = 5_000_000_000;

/// What lies in a model's folder beside configuration and weights and says how to use it.
pub const COMPANIONS: [&str; 12] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "spiece.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
];

/// Whether a file of this name is a model's configuration or has its weights.
pub fn is_model(name: &str) -> bool {
    let shard = name.strip_prefix("model-").and_then(|rest| rest.strip_suffix(".safetensors"));
    [CONFIG, WEIGHTS, INDEX].contains(&name) || shard.is_some_and(|range| range.contains("-of-"))
}

impl SaveFolder {
    /// Writes the weights: `model.safetensors`, or where they are larger than [`SHARD_LIMIT`], shards of at most that and
    /// their index. `fill` is called for each tensor in order, with its index in `tensors`, and gives the sink its values,
    /// row-major, as the family's files hold them.
    ///
    /// # Errors
    /// Those of `fill`; values that are not finite; the system's.
    ///
    /// # Panics
    /// If `fill` gives more or fewer values than the shape has.
    pub fn model(
        &self,
        dtype: Dtype,
        tensors: &[Parameter],
        fill: impl FnMut(usize, &mut TensorSink) -> Result<()>,
    ) -> Result<()> {
        self.model_in_shards(dtype, tensors, SHARD_LIMIT, fill)
    }

    /// [`Self::model`] with another limit in bytes, which a single larger tensor exceeds.
    ///
    /// # Errors
    /// As [`Self::model`].
    pub fn model_in_shards(
        &self,
        dtype: Dtype,
        tensors: &[Parameter],
        limit: u64,
        mut fill: impl FnMut(usize, &mut TensorSink) -> Result<()>,
    ) -> Result<()> {
        let shards = shards(dtype, tensors, limit);
        let name = |shard: usize| match shards.len() {
            1 => WEIGHTS.to_owned(),
            count => format!("model-{:05}-of-{count:05}.safetensors", shard + 1),
        };
        let (mut first, mut weight_map) = (0, Map::new());
        for (shard, own) in shards.iter().enumerate() {
            self.tensors(&name(shard), dtype, own, |index, sink| fill(first + index, sink))?;
            weight_map.extend(own.iter().map(|tensor| (tensor.name.clone(), name(shard).into())));
            first += own.len();
        }
        if shards.len() > 1 {
            let parameters: usize = tensors.iter().map(Parameter::elements).sum();
            let total: u64 = tensors.iter().map(|tensor| tensors::byte_len(dtype, tensor)).sum();
            let metadata = json!({ "total_parameters": parameters, "total_size": total });
            let index = json!({ "metadata": metadata, "weight_map": weight_map });
            self.file(INDEX, pretty(&index).as_bytes())?;
        }
        Ok(())
    }

    /// Copies what `source` has of [`COMPANIONS`]: tokenizer, chat template, generation settings.
    ///
    /// # Errors
    /// One that is no regular file; the system's.
    pub fn companions(&self, source: &Path) -> Result<()> {
        let present = COMPANIONS.iter().filter(|name| source.join(name).exists());
        present.into_iter().try_for_each(|name| self.copy(&source.join(name), name))
    }
}

/// Cuts the list of tensors where a file would become larger than `limit`; at least one file.
fn shards(dtype: Dtype, tensors: &[Parameter], limit: u64) -> Vec<&[Parameter]> {
    let (mut shards, mut first, mut bytes) = (Vec::new(), 0, 0);
    for (index, tensor) in tensors.iter().enumerate() {
        let len = tensors::byte_len(dtype, tensor);
        if index > first && bytes + len > limit {
            shards.push(&tensors[first..index]);
            (first, bytes) = (index, 0);
        }
        bytes += len;
    }
    shards.push(&tensors[first..]);
    shards
}

/// The `config.json` of a model with these weights: `source`'s (the file `path`), with `dtype` as it is now and, where
/// `source` has none, the family's `architectures` and `model_type`, without which transformers would not know the
/// class. All other fields stay as they are spelt, in the order of their names.
///
/// # Errors
/// As [`Config::from_slice`].
pub fn config_json(source: &[u8], path: &Path, dtype: Dtype) -> Result<String> {
    let family = Config::from_slice(source, path)?.family;
    let malformed = |error| Error::file(path, format!("not JSON: {error}"));
    let mut fields: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(source).map_err(malformed)?;
    // Absence says as much as null.
    fields.retain(|name, value| value.get() != "null" || !["architectures", "model_type"].contains(&&**name));
    let raw = |value: Value| to_raw_value(&value).map_err(malformed);
    fields.entry("architectures".into()).or_insert(raw(json!([family.architecture()]))?);
    fields.entry("model_type".into()).or_insert(raw(json!(family.model_type()))?);
    let dtype = raw(json!(match dtype {
        Dtype::F32 => "float32",
        Dtype::Bf16 => "bfloat16",
    }))?;
    // The older name stays where a model has it, for the readers that it was made for.
    let older = fields.get_mut("torch_dtype").map(|value| *value = dtype.clone());
    if older.is_none() || fields.contains_key("dtype") {
        fields.insert("dtype".into(), dtype);
    }
    Ok(pretty(&fields))
}

/// JSON for people, as Hugging Face's files are.
fn pretty(value: &impl serde::Serialize) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("JSON values have string keys");
    text.push('\n');
    text
}
