//! The names of each family's tensors, as data.
//!
//! A name stands without its ending `.weight` or `.bias`; `{}` is the layer's number from 0. Names are the full ones
//! that transformers writes; [`Checkpoint`](super::Checkpoint) also finds them without the base model's prefix.

use super::config::Family;

/// Prefixes of the base model inside the language model, which some files leave out.
pub const PREFIXES: [&str; 3] = ["transformer.", "model.", "gpt_neox."];

/// Where queries, keys and values lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qkv {
    /// In three tensors.
    Separate([&'static str; 3]),
    /// In one, all queries before all keys before all values.
    Fused(&'static str),
    /// In one, head by head: the head's query, key and value.
    HeadWise(&'static str),
}

/// Tensor names by role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    /// Token embedding `[vocab_size, hidden_size]`.
    pub embedding: &'static str,
    /// Learned positions `[max_position_embeddings, hidden_size]`.
    pub positions: Option<&'static str>,
    /// The norm of the attention's input (of its output where norms come after).
    pub attention_norm: &'static str,
    /// Queries, keys and values.
    pub qkv: Qkv,
    /// The norms of queries and of keys.
    pub qk_norm: Option<[&'static str; 2]>,
    /// The attention's output.
    pub output: &'static str,
    /// The norm of the MLP's input (of its output where norms come after).
    pub mlp_norm: &'static str,
    /// The MLP's gate, where it has one.
    pub gate: Option<&'static str>,
    /// The MLP's product into the wide layer.
    pub up: &'static str,
    /// The MLP's product back.
    pub down: &'static str,
    /// The norm ahead of the head.
    pub final_norm: &'static str,
    /// The head; the first is the name that is written, others are read too.
    pub head: &'static [&'static str],
    /// Whether matrices are stored inputs × outputs (GPT-2's `Conv1D`).
    pub transposed: bool,
}

const LLAMA: Names = Names {
    embedding: "model.embed_tokens",
    positions: None,
    attention_norm: "model.layers.{}.input_layernorm",
    qkv: Qkv::Separate([
        "model.layers.{}.self_attn.q_proj",
        "model.layers.{}.self_attn.k_proj",
        "model.layers.{}.self_attn.v_proj",
    ]),
    qk_norm: None,
    output: "model.layers.{}.self_attn.o_proj",
    mlp_norm: "model.layers.{}.post_attention_layernorm",
    gate: Some("model.layers.{}.mlp.gate_proj"),
    up: "model.layers.{}.mlp.up_proj",
    down: "model.layers.{}.mlp.down_proj",
    final_norm: "model.norm",
    head: &["lm_head"],
    transposed: false,
};

const QWEN3: Names = Names {
    qk_norm: Some(["model.layers.{}.self_attn.q_norm", "model.layers.{}.self_attn.k_norm"]),
    ..LLAMA
};

const OLMO2: Names = Names {
    attention_norm: "model.layers.{}.post_attention_layernorm",
    mlp_norm: "model.layers.{}.post_feedforward_layernorm",
    ..QWEN3
};

const GPT2: Names = Names {
    embedding: "transformer.wte",
    positions: Some("transformer.wpe"),
    attention_norm: "transformer.h.{}.ln_1",
    qkv: Qkv::Fused("transformer.h.{}.attn.c_attn"),
    qk_norm: None,
    output: "transformer.h.{}.attn.c_proj",
    mlp_norm: "transformer.h.{}.ln_2",
    gate: None,
    up: "transformer.h.{}.mlp.c_fc",
    down: "transformer.h.{}.mlp.c_proj",
    final_norm: "transformer.ln_f",
    head: &["lm_head"],
    transposed: true,
};

const GPT_NEOX: Names = Names {
    embedding: "gpt_neox.embed_in",
    positions: None,
    attention_norm: "gpt_neox.layers.{}.input_layernorm",
    qkv: Qkv::HeadWise("gpt_neox.layers.{}.attention.query_key_value"),
    qk_norm: None,
    output: "gpt_neox.layers.{}.attention.dense",
    mlp_norm: "gpt_neox.layers.{}.post_attention_layernorm",
    gate: None,
    up: "gpt_neox.layers.{}.mlp.dense_h_to_4h",
    down: "gpt_neox.layers.{}.mlp.dense_4h_to_h",
    final_norm: "gpt_neox.final_layer_norm",
    head: &["embed_out", "lm_head"],
    transposed: false,
};

impl Names {
    /// The names of a family.
    pub const fn of(family: Family) -> &'static Self {
        match family {
            Family::Gpt2 => &GPT2,
            Family::Llama | Family::Mistral | Family::Qwen2 | Family::Olmo => &LLAMA,
            Family::Qwen3 => &QWEN3,
            Family::Olmo2 => &OLMO2,
            Family::GptNeox => &GPT_NEOX,
        }
    }
}
