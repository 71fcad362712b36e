//! Configurations that are accepted, and what they mean.

use serde_json::{Value, json};
use toedit::model::{
    Config,
    config::{Activation, Family, NormKind, QkNorm, Rope, RopeScaling},
};

use crate::common::{llama_config, parse, shared};

fn rope(rotary_dim: usize, theta: f64) -> Option<Rope> {
    Some(Rope { rotary_dim, theta, scaling: RopeScaling::None })
}

/// The reference Llama; the others differ from it as told.
fn llama() -> Config {
    Config {
        family: Family::Llama,
        vocab_size: 257,
        hidden_size: 64,
        intermediate_size: 160,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 16,
        max_position_embeddings: 128,
        norm: NormKind::Rms,
        norm_eps: 1e-6,
        norm_weight: true,
        norm_bias: false,
        norm_after: false,
        qk_norm: QkNorm::None,
        rope: rope(16, 10_000.0),
        activation: Activation::Silu,
        gated: true,
        parallel_residual: false,
        clip_qkv: None,
        attention_scale: 0.25,
        tie_word_embeddings: false,
        qkv_bias: false,
        output_bias: false,
        mlp_bias: false,
        sliding_window: None,
        special_ids: vec![1, 2],
        bos_token_id: Some(1),
        eos_token_id: Some(2),
        padding_row: None,
        initializer_range: 0.02,
    }
}

fn gpt2() -> Config {
    Config {
        family: Family::Gpt2,
        vocab_size: 211,
        hidden_size: 48,
        intermediate_size: 192,
        num_key_value_heads: 4,
        head_dim: 12,
        max_position_embeddings: 64,
        norm: NormKind::Layer,
        norm_eps: 1e-5,
        norm_bias: true,
        rope: None,
        activation: Activation::GeluTanh,
        gated: false,
        attention_scale: (1.0 / 12_f64.sqrt()) as f32,
        tie_word_embeddings: true,
        qkv_bias: true,
        output_bias: true,
        mlp_bias: true,
        special_ids: vec![50256],
        bos_token_id: Some(50256),
        eos_token_id: Some(50256),
        ..llama()
    }
}

fn gpt_neox() -> Config {
    Config {
        family: Family::GptNeox,
        intermediate_size: 256,
        num_key_value_heads: 4,
        norm: NormKind::Layer,
        norm_eps: 1e-5,
        norm_bias: true,
        rope: rope(4, 10_000.0),
        activation: Activation::Gelu,
        gated: false,
        parallel_residual: true,
        qkv_bias: true,
        output_bias: true,
        mlp_bias: true,
        special_ids: vec![0, 2],
        bos_token_id: Some(0),
        eos_token_id: Some(2),
        ..llama()
    }
}

fn qwen2() -> Config {
    Config {
        family: Family::Qwen2,
        tie_word_embeddings: true,
        qkv_bias: true,
        special_ids: vec![],
        bos_token_id: None,
        eos_token_id: None,
        ..llama()
    }
}

fn qwen3() -> Config {
    Config {
        family: Family::Qwen3,
        head_dim: 24,
        qk_norm: QkNorm::Head,
        rope: rope(24, 10_000.0),
        attention_scale: (1.0 / 24_f64.sqrt()) as f32,
        qkv_bias: false,
        ..qwen2()
    }
}

fn mistral() -> Config {
    Config {
        family: Family::Mistral,
        head_dim: 32,
        rope: rope(32, 10_000.0),
        attention_scale: (1.0 / 32_f64.sqrt()) as f32,
        ..llama()
    }
}

fn olmo() -> Config {
    Config {
        family: Family::Olmo,
        num_key_value_heads: 4,
        norm: NormKind::Layer,
        norm_eps: 1e-5,
        norm_weight: false,
        bos_token_id: None,
        eos_token_id: Some(2),
        padding_row: Some(1),
        ..llama()
    }
}

fn olmo2() -> Config {
    Config {
        family: Family::Olmo2,
        norm: NormKind::Rms,
        norm_weight: true,
        norm_after: true,
        qk_norm: QkNorm::Whole,
        ..olmo()
    }
}

fn llama3_rope() -> Config {
    let scaling = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 32,
    };
    Config {
        max_position_embeddings: 256,
        rope: Some(Rope { rotary_dim: 16, theta: 500_000.0, scaling }),
        ..llama()
    }
}

#[test]
fn reference_configurations_are_understood() {
    let Some(golden) = shared("golden") else { return };
    let cases = [
        ("gpt2", gpt2()),
        ("llama", llama()),
        ("llama-tied", Config { num_key_value_heads: 1, tie_word_embeddings: true, ..llama() }),
        ("llama3-rope", llama3_rope()),
        ("mistral", mistral()),
        ("qwen2", qwen2()),
        ("qwen3", qwen3()),
        ("olmo", olmo()),
        ("olmo2", olmo2()),
        ("gpt-neox", gpt_neox()),
    ];
    for (name, expected) in cases {
        assert_eq!(Config::from_file(&golden.join(name).join("config.json")).unwrap(), expected, "{name}");
    }
}

/// The sizes that every configuration states, in the general names.
fn sizes(model_type: &str, hidden_size: usize, heads: usize) -> Value {
    json!({
        "model_type": model_type, "vocab_size": 257, "hidden_size": hidden_size, "intermediate_size": 160,
        "num_hidden_layers": 2, "num_attention_heads": heads, "max_position_embeddings": 128,
    })
}

/// What transformers' configuration classes fill in.
#[test]
fn what_is_left_out_has_the_defaults_of_the_family() {
    let wide = |config: Config, heads: usize, kv: usize, head_dim: usize| Config {
        hidden_size: 1024,
        num_attention_heads: heads,
        num_key_value_heads: kv,
        head_dim,
        rope: rope(head_dim, 10_000.0),
        attention_scale: (1.0 / (head_dim as f64).sqrt()) as f32,
        ..config
    };
    let untied = |config: Config| Config { tie_word_embeddings: false, ..config };
    let olmo_ids =
        |config: Config| Config { special_ids: vec![1, 50279], eos_token_id: Some(50279), ..config };
    let cases = [
        (sizes("llama", 64, 4), Config { num_key_value_heads: 4, ..llama() }),
        (sizes("mistral", 1024, 16), Config { sliding_window: Some(4096), ..wide(mistral(), 16, 8, 64) }),
        (sizes("qwen2", 1024, 32), untied(wide(qwen2(), 32, 32, 32))),
        (sizes("qwen3", 1024, 32), untied(wide(qwen3(), 32, 32, 128))),
        (sizes("olmo", 64, 4), olmo_ids(olmo())),
        (sizes("olmo2", 64, 4), olmo_ids(olmo2())),
        (sizes("gpt_neox", 64, 4), Config { intermediate_size: 160, ..gpt_neox() }),
        (
            json!({"model_type": "gpt2", "vocab_size": 211, "n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": 64}),
            gpt2(),
        ),
    ];
    for (config, expected) in cases {
        assert_eq!(parse(&config).unwrap(), expected, "{config}");
    }
}

/// The smallest Llama (or another family's) with some fields set.
fn with(fields: Value) -> Config {
    let mut config = llama_config();
    config.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    parse(&config).unwrap_or_else(|error| panic!("{config}: {error}"))
}

#[test]
fn architectures_stand_in_for_a_missing_model_type() {
    let config = with(json!({"model_type": null, "architectures": ["Odd", "Olmo2ForCausalLM"]}));
    assert_eq!(config.family, Family::Olmo2);
}

#[test]
fn null_key_value_heads_mean_all_heads() {
    for family in ["llama", "mistral", "qwen2", "qwen3", "olmo", "olmo2"] {
        let config = with(json!({"model_type": family, "num_key_value_heads": null}));
        assert_eq!(config.num_key_value_heads, 2, "{family}");
    }
}

#[test]
fn both_layouts_of_rotary_settings_are_read() {
    let linear = |factor| RopeScaling::Linear { factor };
    let cases = [
        (json!({"rope_theta": 5e5}), 5e5, RopeScaling::None),
        (json!({"rope_theta": 500_000, "rope_scaling": null}), 5e5, RopeScaling::None),
        (json!({"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2}}), 5e5, linear(2.0)),
        (
            json!({"rope_theta": 5e5, "rope_scaling": {"rope_type": "linear", "factor": 2.5}}),
            5e5,
            linear(2.5),
        ),
        (json!({"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}), 5e5, RopeScaling::None),
        (
            json!({"rope_parameters": {"rope_type": "linear", "rope_theta": 5e5, "factor": 3.0}}),
            5e5,
            linear(3.0),
        ),
        (json!({"rope_theta": 1e6, "rope_parameters": {"rope_theta": 5e5}}), 5e5, RopeScaling::None),
        (json!({"rope_parameters": {"partial_rotary_factor": 1.0}}), 1e4, RopeScaling::None),
        (json!({"rope_scaling": {}, "rope_parameters": {"rope_theta": 5e5}}), 5e5, RopeScaling::None),
    ];
    for (fields, theta, scaling) in cases {
        assert_eq!(with(fields.clone()).rope, Some(Rope { rotary_dim: 2, theta, scaling }), "{fields}");
    }
}

#[test]
fn llama3_scaling_takes_the_original_length_from_the_maximum_if_need_be() {
    let scaling = json!({"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4});
    let expected = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 16,
    };
    assert_eq!(with(json!({"rope_scaling": scaling})).rope.unwrap().scaling, expected);
}

#[test]
fn gpt_neox_rotates_a_share_of_each_head() {
    let cases = [
        (json!({}), 16, 1e4),
        (json!({"rotary_pct": 0.5, "rotary_emb_base": 2e4}), 32, 2e4),
        (json!({"rotary_pct": 1.0}), 64, 1e4),
        (json!({"rope_parameters": {"partial_rotary_factor": 0.75, "rope_theta": 3e4}}), 48, 3e4),
    ];
    for (fields, rotary_dim, theta) in cases {
        let mut config = sizes("gpt_neox", 256, 4);
        config.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        assert_eq!(parse(&config).unwrap().rope, rope(rotary_dim, theta), "{fields}");
    }
}

#[test]
fn windows_count_only_where_a_layer_uses_them() {
    let cases = [
        (json!({"model_type": "llama", "sliding_window": 8}), None),
        (json!({"model_type": "mistral", "sliding_window": 8}), Some(8)),
        (json!({"model_type": "mistral", "sliding_window": null}), None),
        (json!({"model_type": "qwen2", "sliding_window": 8}), None),
        (json!({"model_type": "qwen2", "sliding_window": 8, "use_sliding_window": false}), None),
        (json!({"model_type": "qwen2", "sliding_window": 8, "use_sliding_window": true}), None),
        (
            json!({"model_type": "qwen2", "sliding_window": 8, "use_sliding_window": true, "max_window_layers": 1,
                   "num_hidden_layers": 2}),
            Some(8),
        ),
        (
            json!({"model_type": "qwen3", "sliding_window": 8, "use_sliding_window": true,
                   "layer_types": ["sliding_attention"]}),
            Some(8),
        ),
        (
            json!({"model_type": "qwen3", "sliding_window": 8, "use_sliding_window": true, "max_window_layers": 1,
                   "layer_types": ["full_attention"]}),
            None,
        ),
    ];
    for (fields, expected) in cases {
        let mut fields = fields;
        fields["head_dim"] = json!(2);
        assert_eq!(with(fields.clone()).sliding_window, expected, "{fields}");
    }
}

#[test]
fn options_are_carried_over() {
    let biased = with(json!({"attention_bias": true, "mlp_bias": true}));
    assert!(biased.qkv_bias && biased.output_bias && biased.mlp_bias);
    let neox =
        with(json!({"model_type": "gpt_neox", "attention_bias": false, "use_parallel_residual": false,
        "rotary_pct": 1.0}));
    assert!(!neox.qkv_bias && !neox.output_bias && neox.mlp_bias && !neox.parallel_residual);
    assert_eq!(with(json!({"model_type": "olmo", "clip_qkv": 8})).clip_qkv, Some(8.0));
    assert_eq!(with(json!({"hidden_act": "gelu_pytorch_tanh"})).activation, Activation::GeluTanh);
    assert_eq!(with(json!({"scale_attn_weights": false})).attention_scale, 1.0);
    let ids = with(json!({"bos_token_id": null, "eos_token_id": [5, 3, 5], "pad_token_id": 0}));
    assert_eq!((ids.bos_token_id, ids.eos_token_id, ids.special_ids), (None, Some(5), vec![0, 3, 5]));
}
