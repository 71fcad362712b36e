//! `toedit info`: what is built in, what the machine has, and a model's card.

use std::fs;
use std::path::Path;

use serde::Deserialize;

use super::args::{InfoArgs, default_threads};
use super::print;
use crate::device::Device;
use crate::model::config::{Family, QkNorm};
use crate::model::names::Names;
use crate::model::{Checkpoint, Config, Dtype, folder};
use crate::ops::simd::instruction_sets;
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// A name and what is known about it.
type Line = (&'static str, String);

/// Prints the machine, and the model's card where one is named.
///
/// # Errors
/// Those of opening the model.
pub fn run(args: &InfoArgs) -> Result<u8> {
    let mut lines = machine();
    if let Some(model) = &args.model.model {
        lines.extend(model_card(model, args.model.mmap)?);
    }
    let text: String = lines.iter().map(|(name, value)| format!("{name:18} {value}\n")).collect();
    print(text.as_bytes())?;
    Ok(0)
}

/// Version, devices built in, threads, and the instruction sets that the CPU loops choose from.
fn machine() -> Vec<Line> {
    let devices: Vec<_> = Device::BUILT_IN.iter().map(|device| device_card(*device)).collect();
    vec![
        ("toedit", env!("CARGO_PKG_VERSION").to_owned()),
        ("devices", devices.join("; ")),
        ("machine", format!("{} {}", std::env::consts::ARCH, std::env::consts::OS)),
        ("instruction sets", instruction_sets().join(" ")),
        ("threads", default_threads().to_string()),
    ]
}

/// A device's name, its default type, and why it cannot be used where that is so.
fn device_card(device: Device) -> String {
    match device.check() {
        Ok(()) => format!("{device} ({})", Dtype::auto(device)),
        Err(Error::Device { reason, .. }) => format!("{device} (unusable: {reason})"),
        Err(error) => format!("{device} (unusable: {error})"),
    }
}

/// What a model is, by its configuration, its tokenizer and the headers of its weights, which are hashed but not loaded.
fn model_card(model: &str, mmap: bool) -> Result<Vec<Line>> {
    let folder = folder::resolve(model)?;
    let config = Config::from_file(&folder.join(folder::CONFIG))?;
    let checkpoint = Checkpoint::open(&folder, mmap)?;
    let mut lines = vec![("model", folder.display().to_string())];
    lines.extend(architecture(&config));
    lines.extend(weights(&config, &checkpoint)?);
    lines.push(("tokenizer", tokenizer(&folder)?));
    lines.push(("fingerprint", format!("{:016x}", checkpoint.fingerprint()?)));
    Ok(lines)
}

fn architecture(config: &Config) -> Vec<Line> {
    let Config { num_attention_heads: heads, num_key_value_heads: key_value_heads, head_dim, .. } = config;
    let positions = match &config.rope {
        Some(rope) => format!("rotary, theta {}", rope.theta),
        None => "learned".to_owned(),
    };
    let window = config.sliding_window.map_or(String::new(), |window| format!(", sliding window {window}"));
    vec![
        ("family", family(config.family).to_owned()),
        ("layers", config.num_hidden_layers.to_string()),
        ("hidden size", config.hidden_size.to_string()),
        ("intermediate size", config.intermediate_size.to_string()),
        ("heads", format!("{heads} of size {head_dim}, {key_value_heads} for keys and values")),
        ("positions", format!("{} ({positions}{window})", config.max_position_embeddings)),
        ("vocabulary", config.vocab_size.to_string()),
        ("special ids", join(&config.special_ids)),
        ("embeddings", if config.tie_word_embeddings { "tied" } else { "separate head" }.to_owned()),
    ]
}

fn family(family: Family) -> &'static str {
    match family {
        Family::Gpt2 => "GPT-2",
        Family::Llama => "Llama",
        Family::Mistral => "Mistral",
        Family::Qwen2 => "Qwen2",
        Family::Qwen3 => "Qwen3",
        Family::Olmo => "OLMo",
        Family::Olmo2 => "OLMo-2",
        Family::GptNeox => "GPT-NeoX",
    }
}

fn weights(config: &Config, checkpoint: &Checkpoint) -> Result<[Line; 3]> {
    let Parameters { matrices, vectors } = Parameters::of(config);
    let [f32, bf16] = [4, 2].map(|width| size((matrices * width + vectors * 4) as f64));
    Ok([
        ("parameters", (matrices + vectors).to_string()),
        ("dtype on disk", dtype_on_disk(config, checkpoint)?),
        ("weights in memory", format!("{f32} as f32, {bf16} as bf16")),
    ])
}

/// The type of the largest matrix there always is: the embedding, or a head that stands for it.
fn dtype_on_disk(config: &Config, checkpoint: &Checkpoint) -> Result<String> {
    let names = Names::of(config.family);
    let candidates = [names.embedding].into_iter().chain(names.head.iter().copied());
    let mut present =
        candidates.map(|name| format!("{name}.weight")).filter(|name| checkpoint.contains(name));
    let name = present.next().unwrap_or_else(|| format!("{}.weight", names.embedding));
    let tensor = checkpoint.tensor(&name, &[config.vocab_size, config.hidden_size])?;
    Ok(format!("{:?}", tensor.dtype()))
}

/// A model's number of weights. Wide integers, since a configuration may claim anything.
struct Parameters {
    /// In matrices, which are kept in the dtype that is asked for.
    matrices: u128,
    /// In norms, biases and learned positions, which are kept in f32.
    vectors: u128,
}

impl Parameters {
    /// By the shapes that the configuration implies.
    fn of(config: &Config) -> Self {
        let [c, i, layers] =
            [config.hidden_size, config.intermediate_size, config.num_hidden_layers].map(|size| size as u128);
        let [q, k] = [config.num_attention_heads, config.num_key_value_heads]
            .map(|heads| (heads * config.head_dim) as u128);
        let wide = if config.gated { 2 * i } else { i };
        let norm = c * (u128::from(config.norm_weight) + u128::from(config.norm_bias));
        let qk_norm = match config.qk_norm {
            QkNorm::None => 0,
            QkNorm::Head => 2 * config.head_dim as u128,
            QkNorm::Whole => q + k,
        };
        let biases = [(config.qkv_bias, q + 2 * k), (config.output_bias, c), (config.mlp_bias, wide + c)];
        let biases: u128 = biases.iter().filter(|(present, _)| *present).map(|(_, len)| len).sum();
        let tables = if config.tie_word_embeddings { 1 } else { 2 };
        let positions = if config.rope.is_none() { config.max_position_embeddings as u128 * c } else { 0 };
        Self {
            matrices: tables * config.vocab_size as u128 * c + layers * c * (2 * q + 2 * k + wide + i),
            vectors: positions + norm + layers * (2 * norm + qk_norm + biases),
        }
    }
}

/// The kind of a folder's tokenizer, how many ids it has, and what it puts before a text.
fn tokenizer(folder: &Path) -> Result<String> {
    #[derive(Deserialize)]
    struct File {
        model: Model,
    }
    #[derive(Deserialize)]
    struct Model {
        r#type: Option<String>,
    }
    let path = folder.join("tokenizer.json");
    if !path.exists() {
        return Ok("none: records must hold `input_ids`".to_owned());
    }
    let tokenizer = Tokenizer::from_file(&path)?;
    let json = fs::read(&path).map_err(|error| Error::io(&path, error))?;
    let File { model } = serde_json::from_slice(&json).map_err(|error| Error::file(&path, error))?;
    let kind = model.r#type.unwrap_or_else(|| "kind not named".to_owned());
    let prefix = match tokenizer.prefix() {
        [] => "nothing".to_owned(),
        ids => join(ids),
    };
    Ok(format!("{kind}, {} ids, puts {prefix} before a text", tokenizer.len()))
}

fn join(ids: &[u32]) -> String {
    ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")
}

/// "6.3 MB", "14.5 GB".
fn size(bytes: f64) -> String {
    if bytes < 1e9 { format!("{:.1} MB", bytes / 1e6) } else { format!("{:.1} GB", bytes / 1e9) }
}
