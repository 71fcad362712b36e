//! The reference models, against a plain reading of their files by another library.

use std::{collections::HashMap, fs, path::Path};

use half::bf16;
use safetensors::SafeTensors;
use toedit::{
    model::{
        Checkpoint, Config, Weights,
        config::Family,
        weights::{Layer, Linear},
    },
    tensor::{Element, Matrix},
};

use crate::common::shared;

/// All tensors of a file in F32.
struct File(HashMap<String, Vec<f32>>);

impl File {
    fn read(folder: &Path) -> Self {
        let bytes = fs::read(folder.join("model.safetensors")).unwrap();
        let floats =
            |data: &[u8]| data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        Self(tensors.iter().map(|(name, view)| (name.to_owned(), floats(view.data()))).collect())
    }

    fn get(&self, name: &str) -> &[f32] {
        &self.0[name]
    }

    /// Several tensors, one after the other.
    fn joined(&self, prefix: &str, names: &[&str]) -> Vec<f32> {
        names.iter().flat_map(|name| self.get(&format!("{prefix}{name}")).to_vec()).collect()
    }

    /// A tensor `[k, n]` as `[n, k]`.
    fn transposed(&self, name: &str, n: usize) -> Vec<f32> {
        let values = self.get(name);
        let k = values.len() / n;
        (0..n * k).map(|i| values[i % k * n + i / k]).collect()
    }
}

fn open(folder: &Path) -> (Config, Checkpoint) {
    let config = Config::from_file(&folder.join("config.json")).unwrap();
    (config, Checkpoint::open(folder, false).unwrap())
}

fn values<E: Element>(matrix: &Matrix<E>) -> Vec<f32> {
    let mut values = vec![0.0; matrix.n() * matrix.k()];
    values.chunks_exact_mut(matrix.k()).enumerate().for_each(|(row, out)| matrix.row(row, out));
    values
}

fn assert_linear(found: &Linear<f32>, weight: &[f32], bias: Option<&[f32]>) {
    assert_eq!(values(&found.weight), weight);
    assert_eq!(found.bias.as_deref(), bias);
}

/// A Llama-like layer; the families differ in norms and biases.
fn assert_llama_layer(layer: &Layer<f32>, config: &Config, file: &File, index: usize) {
    let prefix = format!("model.layers.{index}.");
    let get = |name: &str| file.get(&format!("{prefix}{name}"));
    let weights = ["self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight"];
    let biases = config.qkv_bias.then(|| {
        file.joined(&prefix, &["self_attn.q_proj.bias", "self_attn.k_proj.bias", "self_attn.v_proj.bias"])
    });
    assert_linear(&layer.qkv, &file.joined(&prefix, &weights), biases.as_deref());
    assert_linear(&layer.output, get("self_attn.o_proj.weight"), None);
    let gate = layer.gate.as_ref().unwrap();
    assert_linear(gate, get("mlp.gate_proj.weight"), None);
    assert_linear(&layer.up, get("mlp.up_proj.weight"), None);
    assert_linear(&layer.down, get("mlp.down_proj.weight"), None);
    let norms = match config.family {
        Family::Olmo => None,
        Family::Olmo2 => Some(["post_attention_layernorm.weight", "post_feedforward_layernorm.weight"]),
        _ => Some(["input_layernorm.weight", "post_attention_layernorm.weight"]),
    };
    assert_eq!(layer.attention_norm.weight.as_deref(), norms.map(|norms| get(norms[0])));
    assert_eq!(layer.mlp_norm.weight.as_deref(), norms.map(|norms| get(norms[1])));
    let normed = matches!(config.family, Family::Qwen3 | Family::Olmo2);
    assert_eq!(layer.q_norm.as_deref(), normed.then(|| get("self_attn.q_norm.weight")));
    assert_eq!(layer.k_norm.as_deref(), normed.then(|| get("self_attn.k_norm.weight")));
}

#[test]
fn llama_and_its_relatives() {
    let Some(golden) = shared("golden") else { return };
    for name in ["llama", "llama-tied", "llama3-rope", "mistral", "qwen2", "qwen3", "olmo", "olmo2"] {
        let folder = golden.join(name);
        let ((config, checkpoint), file) = (open(&folder), File::read(&folder));
        let weights = Weights::<f32>::load(&config, &checkpoint).unwrap();
        assert_eq!(values(&weights.embedding), file.get("model.embed_tokens.weight"), "{name}");
        let head = weights.head.as_ref().map(values);
        assert_eq!(head.as_ref(), file.0.get("lm_head.weight"), "{name}");
        assert_eq!(weights.final_norm.weight.as_ref(), file.0.get("model.norm.weight"), "{name}");
        assert_eq!(weights.layers.len(), 2);
        for (index, layer) in weights.layers.iter().enumerate() {
            assert_llama_layer(layer, &config, &file, index);
        }
    }
}

#[test]
fn gpt2_is_transposed() {
    let Some(folder) = shared("golden/gpt2") else { return };
    let ((config, checkpoint), file) = (open(&folder), File::read(&folder));
    let weights = Weights::<f32>::load(&config, &checkpoint).unwrap();
    assert_eq!(values(&weights.embedding), file.get("transformer.wte.weight"));
    assert_eq!(weights.positions.as_deref(), Some(file.get("transformer.wpe.weight")));
    assert!(weights.head.is_none());
    assert_eq!(weights.final_norm.bias.as_deref(), Some(file.get("transformer.ln_f.bias")));
    for (index, layer) in weights.layers.iter().enumerate() {
        let assert_same = |found: &Linear<f32>, name: &str| {
            let name = format!("transformer.h.{index}.{name}");
            let weight = file.transposed(&format!("{name}.weight"), found.weight.n());
            assert_linear(found, &weight, Some(file.get(&format!("{name}.bias"))));
        };
        assert_same(&layer.qkv, "attn.c_attn");
        assert_same(&layer.output, "attn.c_proj");
        assert_same(&layer.up, "mlp.c_fc");
        assert_same(&layer.down, "mlp.c_proj");
        let norm = file.get(&format!("transformer.h.{index}.ln_2.bias"));
        assert_eq!(layer.mlp_norm.bias.as_deref(), Some(norm));
    }
}

/// `[heads, 3, head_dim]` rows become `[3, heads, head_dim]`.
#[test]
fn gpt_neox_heads_are_gathered() {
    let Some(folder) = shared("golden/gpt-neox") else { return };
    let ((config, checkpoint), file) = (open(&folder), File::read(&folder));
    let weights = Weights::<f32>::load(&config, &checkpoint).unwrap();
    assert_eq!(values(&weights.head.unwrap()), file.get("embed_out.weight"));
    let (heads, head_dim) = (config.num_attention_heads, config.head_dim);
    for (index, layer) in weights.layers.iter().enumerate() {
        let name = format!("gpt_neox.layers.{index}.attention.query_key_value");
        let gathered = |name: &str, width: usize| -> Vec<f32> {
            let tensor = file.get(name);
            let row = |part, head, i| (head * 3 + part) * head_dim + i;
            let rows = (0..3).flat_map(|part| {
                (0..heads).flat_map(move |head| (0..head_dim).map(move |i| row(part, head, i)))
            });
            rows.flat_map(|row| tensor[row * width..(row + 1) * width].to_vec()).collect()
        };
        let bias = gathered(&format!("{name}.bias"), 1);
        assert_linear(&layer.qkv, &gathered(&format!("{name}.weight"), config.hidden_size), Some(&bias));
        let down = format!("gpt_neox.layers.{index}.mlp.dense_4h_to_h");
        assert_linear(
            &layer.down,
            file.get(&format!("{down}.weight")),
            Some(file.get(&format!("{down}.bias"))),
        );
        let norm = file.get(&format!("gpt_neox.layers.{index}.post_attention_layernorm.bias"));
        assert_eq!(layer.mlp_norm.bias.as_deref(), Some(norm));
    }
}

#[test]
fn every_reference_model_loads_in_bf16() {
    let Some(root) = shared("") else { return };
    let folders = fs::read_dir(root.join("golden")).unwrap().map(|entry| entry.unwrap().path());
    let folders: Vec<_> = folders.filter(|folder| folder.join("model.safetensors").exists()).collect();
    assert_eq!(folders.len(), 10);
    for folder in folders.iter().chain([&root.join("models/tiny")]) {
        let (config, checkpoint) = open(folder);
        let exact = Weights::<f32>::load(&config, &checkpoint).unwrap();
        let rounded = Weights::<bf16>::load(&config, &checkpoint).unwrap();
        for (exact, rounded) in exact.layers.iter().zip(&rounded.layers) {
            let expected = values(&exact.qkv.weight).into_iter().map(|value| bf16::from_f32(value).to_f32());
            assert!(expected.eq(values(&rounded.qkv.weight)), "{}", folder.display());
        }
    }
}
