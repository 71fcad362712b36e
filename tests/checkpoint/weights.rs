//! Weights of the smallest model: what must be there, and by which names.

use half::bf16;
use serde_json::{Value, json};
use toedit::{
    Result,
    model::{Checkpoint, Config, Weights},
    tensor::Matrix,
};

use crate::common::{Tensors, assert_error, floats, llama_config, llama_tensors, model};

fn load(config: &Value, tensors: &Tensors) -> Result<Weights<f32>> {
    let folder = model(config, tensors);
    let config = Config::from_file(&folder.path().join("config.json"))?;
    Weights::load(&config, &Checkpoint::open(folder.path(), false)?)
}

/// A matrix's values, row-major.
fn values(matrix: &Matrix<f32>) -> Vec<f32> {
    let mut values = vec![0.0; matrix.n() * matrix.k()];
    values.chunks_exact_mut(matrix.k()).enumerate().for_each(|(row, out)| matrix.row(row, out));
    values
}

/// The values that `floats` makes.
fn counted(seed: usize, len: usize) -> Vec<f32> {
    (0..len).map(|i| (seed * 100 + i) as f32).collect()
}

#[test]
fn parts_are_joined_in_order() {
    let weights = load(&llama_config(), &llama_tensors()).unwrap();
    assert_eq!(values(&weights.embedding), counted(0, 24));
    assert_eq!(weights.final_norm.weight, Some(counted(1, 4)));
    assert!(weights.head.is_none() && weights.positions.is_none() && weights.final_norm.bias.is_none());
    let layer = &weights.layers[0];
    assert_eq!(layer.attention_norm.weight, Some(counted(2, 4)));
    assert_eq!(layer.mlp_norm.weight, Some(counted(3, 4)));
    assert_eq!(values(&layer.qkv.weight), [counted(4, 16), counted(5, 8), counted(6, 8)].concat());
    assert_eq!(values(&layer.output.weight), counted(7, 16));
    assert_eq!(values(&layer.gate.as_ref().unwrap().weight), counted(8, 24));
    assert_eq!(values(&layer.up.weight), counted(9, 24));
    assert_eq!(values(&layer.down.weight), counted(10, 24));
    assert!(layer.qkv.bias.is_none() && layer.q_norm.is_none());
}

#[test]
fn names_without_the_prefix_do_as_well() {
    let bare: Tensors = llama_tensors()
        .into_iter()
        .map(|(name, tensor)| (name.strip_prefix("model.").unwrap().to_owned(), tensor))
        .collect();
    assert_eq!(values(&load(&llama_config(), &bare).unwrap().embedding), counted(0, 24));
}

#[test]
fn stored_buffers_are_ignored() {
    let mut tensors = llama_tensors();
    for (name, dtype, size) in [
        ("model.layers.0.self_attn.rotary_emb.inv_freq", "F64", 8),
        ("model.layers.0.attn.bias", "BOOL", 1),
        ("h.0.attn.masked_bias", "U8", 1),
    ] {
        tensors.insert(name.to_owned(), (dtype, vec![2], vec![0xff; 2 * size]));
    }
    assert!(load(&llama_config(), &tensors).is_ok());
}

#[test]
fn each_tensor_must_be_there_in_its_shape_and_type() {
    for name in llama_tensors().into_keys() {
        let mut missing = llama_tensors();
        missing.remove(&name);
        assert_error(load(&llama_config(), &missing).map(|_| ()), &[&name, "missing"]);

        let mut reshaped = llama_tensors();
        let shape = &mut reshaped.get_mut(&name).unwrap().1;
        *shape = if shape.len() == 1 { vec![1, shape[0]] } else { vec![shape[0] * 2, shape[1] / 2] };
        assert_error(load(&llama_config(), &reshaped).map(|_| ()), &[&name, "found shape", "expected shape"]);

        let mut retyped = llama_tensors();
        retyped.get_mut(&name).unwrap().0 = "I32";
        assert_error(load(&llama_config(), &retyped).map(|_| ()), &[&name, "I32"]);

        let mut broken = llama_tensors();
        broken.get_mut(&name).unwrap().2[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        assert_error(load(&llama_config(), &broken).map(|_| ()), &[&name, "element 0 is NaN"]);
    }
}

#[test]
fn a_configuration_larger_than_the_file_costs_nothing() {
    for (field, name) in [
        ("vocab_size", "embed_tokens"),
        ("intermediate_size", "gate_proj"),
        ("num_hidden_layers", "model.layers.1.input_layernorm"),
    ] {
        let mut config = llama_config();
        config[field] = json!((1_u64 << 31) - 1);
        assert_error(load(&config, &llama_tensors()).map(|_| ()), &[name]);
    }
}

#[test]
fn a_head_of_its_own_follows_the_rules_of_transformers() {
    let (embedding, head) = ("model.embed_tokens.weight", "lm_head.weight");
    let mut untied = llama_config();
    untied["tie_word_embeddings"] = json!(false);
    assert_error(load(&untied, &llama_tensors()).map(|_| ()), &[head, "missing"]);

    let mut different = llama_tensors();
    different.insert(head.to_owned(), floats(50, &[6, 4]));
    for config in [&untied, &llama_config()] {
        let weights = load(config, &different).unwrap();
        assert_eq!(values(&weights.embedding), counted(0, 24));
        assert_eq!(values(&weights.head.unwrap()), counted(50, 24));
    }

    let mut same = llama_tensors();
    same.insert(head.to_owned(), same[embedding].clone());
    assert!(load(&llama_config(), &same).unwrap().head.is_none());
    assert_eq!(values(&load(&untied, &same).unwrap().head.unwrap()), counted(0, 24));

    let mut head_only = different.clone();
    head_only.remove(embedding);
    let weights = load(&llama_config(), &head_only).unwrap();
    assert_eq!(values(&weights.embedding), counted(50, 24));
    assert!(weights.head.is_none());

    let mut unfit = llama_tensors();
    unfit.insert(head.to_owned(), floats(50, &[5, 4]));
    assert_error(load(&llama_config(), &unfit).map(|_| ()), &[head, "found shape [5, 4]"]);
}

#[test]
fn weights_are_stored_in_either_type() {
    let folder = model(&llama_config(), &llama_tensors());
    let config = Config::from_file(&folder.path().join("config.json")).unwrap();
    for mmap in [false, true] {
        let checkpoint = Checkpoint::open(folder.path(), mmap).unwrap();
        let weights = Weights::<bf16>::load(&config, &checkpoint).unwrap();
        let mut row = [0.0; 4];
        weights.layers[0].output.weight.row(3, &mut row);
        assert_eq!(row, [712.0, 712.0, 712.0, 716.0]);
    }
}
