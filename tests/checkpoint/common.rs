//! Model folders made by hand.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use toedit::Error;

/// The folder of reference cases, if the environment names one.
pub fn shared(relative: &str) -> Option<PathBuf> {
    let root = std::env::var_os("TOEDIT_SHARED");
    if root.is_none() {
        eprintln!("TOEDIT_SHARED is not set: nothing tested");
    }
    Some(PathBuf::from(root?).join(relative))
}

/// A safetensors file of a header and data as they are given.
pub fn raw(header: &str, data: &[u8]) -> Vec<u8> {
    let len = (header.len() as u64).to_le_bytes();
    [&len, header.as_bytes(), data].concat()
}

/// Named tensors: dtype, shape, bytes.
pub type Tensors = BTreeMap<String, (&'static str, Vec<usize>, Vec<u8>)>;

/// A well-formed safetensors file.
pub fn safetensors(tensors: &Tensors) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, (dtype, shape, bytes)) in tensors {
        let offsets = [data.len(), data.len() + bytes.len()];
        header.insert(name.clone(), json!({"dtype": dtype, "shape": shape, "data_offsets": offsets}));
        data.extend(bytes);
    }
    raw(&Value::Object(header).to_string(), &data)
}

/// An F32 tensor with values that differ from one another and from tensor to tensor.
pub fn floats(seed: usize, shape: &[usize]) -> (&'static str, Vec<usize>, Vec<u8>) {
    let len: usize = shape.iter().product();
    let bytes = (0..len).flat_map(|i| ((seed * 100 + i) as f32).to_le_bytes()).collect();
    ("F32", shape.to_vec(), bytes)
}

/// The smallest Llama: two heads of two, one layer.
pub fn llama_config() -> Value {
    json!({
        "model_type": "llama", "vocab_size": 6, "hidden_size": 4, "intermediate_size": 6, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 16,
        "tie_word_embeddings": true,
    })
}

/// Its tensors.
pub fn llama_tensors() -> Tensors {
    let shapes: [(&str, &[usize]); 11] = [
        ("model.embed_tokens.weight", &[6, 4]),
        ("model.norm.weight", &[4]),
        ("model.layers.0.input_layernorm.weight", &[4]),
        ("model.layers.0.post_attention_layernorm.weight", &[4]),
        ("model.layers.0.self_attn.q_proj.weight", &[4, 4]),
        ("model.layers.0.self_attn.k_proj.weight", &[2, 4]),
        ("model.layers.0.self_attn.v_proj.weight", &[2, 4]),
        ("model.layers.0.self_attn.o_proj.weight", &[4, 4]),
        ("model.layers.0.mlp.gate_proj.weight", &[6, 4]),
        ("model.layers.0.mlp.up_proj.weight", &[6, 4]),
        ("model.layers.0.mlp.down_proj.weight", &[4, 6]),
    ];
    shapes.iter().enumerate().map(|(seed, (name, shape))| ((*name).to_owned(), floats(seed, shape))).collect()
}

/// A folder with one file of weights.
pub fn folder_with(weights: &[u8]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("model.safetensors"), weights).unwrap();
    folder
}

/// A folder with a configuration and one file of weights.
pub fn model(config: &Value, tensors: &Tensors) -> TempDir {
    let folder = folder_with(&safetensors(tensors));
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    folder
}

/// Writes an index and files beside it.
pub fn sharded(index: &str, files: &[(&str, Vec<u8>)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

/// Asserts that a result is an error whose message contains all of `parts`.
#[track_caller]
pub fn assert_error<T>(result: Result<T, Error>, parts: &[&str]) {
    let Err(error) = result else { panic!("succeeded, expected an error with {parts:?}") };
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "`{message}` lacks `{part}`");
    }
}

/// As [`toedit::model::Config::from_slice`] for a JSON value.
pub fn parse(config: &Value) -> toedit::Result<toedit::model::Config> {
    toedit::model::Config::from_slice(config.to_string().as_bytes(), Path::new("config.json"))
}
