//! Configurations that are refused, and the field that is to blame.

use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};
use toedit::{Error, model::Config};

use crate::common::{assert_error, llama_config, parse};

/// Asserts that the smallest Llama with these fields is refused for the field `blamed`.
#[track_caller]
fn assert_blamed(fields: Value, blamed: &str) {
    let mut config = llama_config();
    config.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    match parse(&config) {
        Err(Error::Config { field, reason, .. }) => {
            assert_eq!(field, blamed, "{fields}: {reason}");
            assert!(reason.len() < 400, "{} bytes", reason.len());
        }
        Err(other) => panic!("{fields}: {other}"),
        Ok(_) => panic!("{fields}: accepted, expected `{blamed}` to be refused"),
    }
}

const SIZES: [&str; 6] = [
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
];

fn bad_sizes() -> Vec<Value> {
    let absurd = [json!(1_u64 << 31), json!(1_u64 << 63), json!(u64::MAX)];
    let wrong = [json!(0), json!(-1), json!(1.5), json!(8.0), json!("8"), json!([8]), json!(true), json!({})];
    absurd.into_iter().chain(wrong).collect()
}

#[test]
fn sizes_must_be_positive_integers() {
    for name in SIZES.into_iter().chain(["num_key_value_heads", "head_dim"]) {
        for bad in bad_sizes() {
            assert_blamed(json!({ name: bad }), name);
        }
    }
    for bad in bad_sizes() {
        assert_blamed(json!({"model_type": "mistral", "sliding_window": bad}), "sliding_window");
    }
}

#[test]
fn sizes_must_be_there() {
    for name in SIZES {
        assert_blamed(json!({ name: null }), name);
    }
}

#[test]
fn gpt2_is_held_to_its_own_names() {
    let config = json!({"model_type": "gpt2", "vocab_size": 9, "n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 4});
    parse(&config).unwrap();
    for name in ["n_embd", "n_layer", "n_head", "n_positions"] {
        for bad in bad_sizes().into_iter().chain([Value::Null]) {
            let mut config = config.clone();
            config[name] = bad;
            assert_error(parse(&config), &[&format!("`{name}`")]);
        }
    }
    for bad in bad_sizes() {
        let mut config = config.clone();
        config["n_inner"] = bad;
        assert_error(parse(&config), &["`n_inner`"]);
    }
}

#[test]
fn numbers_must_lie_in_their_range() {
    let bad = [json!(0), json!(-1), json!(1_u64 << 63), json!("8"), json!([1]), json!(true)];
    for bad in bad {
        assert_blamed(json!({"rope_theta": bad}), "rope_theta");
        assert_blamed(json!({"rms_norm_eps": bad}), "rms_norm_eps");
        assert_blamed(json!({"rope_scaling": {"type": "linear", "factor": bad}}), "rope_scaling.factor");
        assert_blamed(json!({"rope_parameters": {"rope_theta": bad}}), "rope_parameters.rope_theta");
        assert_blamed(json!({"model_type": "gpt_neox", "rotary_pct": bad}), "rotary_pct");
    }
    for bad in [json!(0), json!(-1), json!("8")] {
        assert_blamed(json!({"model_type": "olmo", "clip_qkv": bad}), "clip_qkv");
    }
}

#[test]
fn switches_must_be_booleans() {
    for name in ["attention_bias", "mlp_bias", "tie_word_embeddings"] {
        for bad in [json!(1), json!("true"), json!([])] {
            assert_blamed(json!({ name: bad }), name);
        }
    }
}

#[test]
fn ids_must_be_ids() {
    for name in ["bos_token_id", "eos_token_id", "pad_token_id"] {
        for bad in [json!(-1), json!(1.5), json!("1"), json!([1, -1]), json!(1_u64 << 31), json!({})] {
            assert_blamed(json!({ name: bad }), name);
        }
    }
}

#[test]
fn sizes_must_agree() {
    assert_blamed(json!({"num_attention_heads": 3}), "num_attention_heads");
    assert_blamed(json!({"num_attention_heads": 3, "head_dim": 2}), "num_attention_heads");
    assert_blamed(json!({"num_key_value_heads": 3}), "num_key_value_heads");
    assert_blamed(json!({"num_key_value_heads": 4}), "num_key_value_heads");
    assert_blamed(json!({"head_dim": 3}), "head_dim");
    assert_blamed(json!({"head_dim": 258}), "head_dim");
    assert_blamed(json!({"hidden_size": 6}), "head_dim");
    assert_blamed(json!({"hidden_size": 1024}), "head_dim");
    assert_blamed(json!({"model_type": "gpt_neox"}), "rotary_pct");
    assert_blamed(json!({"model_type": "gpt_neox", "hidden_size": 24, "rotary_pct": 0.25}), "rotary_pct");
}

#[test]
fn unsupported_options_are_named() {
    let full = "full_attention";
    assert_blamed(json!({"model_type": "mamba"}), "model_type");
    assert_blamed(json!({"model_type": "x".repeat(100_000)}), "model_type");
    assert_blamed(json!({"model_type": null}), "model_type");
    assert_blamed(json!({"model_type": null, "architectures": ["BertModel"]}), "model_type");
    assert_blamed(json!({"model_type": 5}), "model_type");
    assert_blamed(json!({"quantization_config": {"bits": 4}}), "quantization_config");
    assert_blamed(json!({"scale_attn_by_inverse_layer_idx": true}), "scale_attn_by_inverse_layer_idx");
    assert_blamed(json!({"add_cross_attention": true}), "add_cross_attention");
    assert_blamed(json!({"hidden_act": "relu"}), "hidden_act");
    assert_blamed(json!({"hidden_act": 1}), "hidden_act");
    assert_blamed(json!({"layer_types": ["linear_attention"]}), "layer_types");
    assert_blamed(json!({"layer_types": [full, full]}), "layer_types");
    assert_blamed(json!({"layer_types": [1]}), "layer_types");
    assert_blamed(json!({"layer_types": full}), "layer_types");
    assert_blamed(json!({"layer_types": ["sliding_attention"]}), "layer_types");
    assert_blamed(json!({"partial_rotary_factor": 0.5}), "partial_rotary_factor");
    assert_blamed(json!({"rope_parameters": {"partial_rotary_factor": 0.5}}), "partial_rotary_factor");
}

#[test]
fn unsupported_scalings_are_named() {
    let llama3 = |low: f64, high: f64| json!({"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": low, "high_freq_factor": high}});
    for kind in ["yarn", "dynamic", "longrope", "mrope", "su", ""] {
        assert_blamed(json!({"rope_scaling": {"type": kind, "factor": 2.0}}), "rope_scaling.rope_type");
        assert_blamed(
            json!({"rope_parameters": {"rope_type": kind, "factor": 2.0}}),
            "rope_parameters.rope_type",
        );
    }
    assert_blamed(json!({"rope_scaling": {"type": "linear"}}), "rope_scaling.factor");
    assert_blamed(json!({"rope_scaling": {"type": 1}}), "rope_scaling.type");
    assert_blamed(json!({"rope_scaling": "linear"}), "rope_scaling");
    assert_blamed(llama3(4.0, 4.0), "rope_scaling.high_freq_factor");
    assert_blamed(llama3(4.0, 1.0), "rope_scaling.high_freq_factor");
    assert_blamed(
        json!({"rope_scaling": {"rope_type": "llama3", "factor": 8}}),
        "rope_scaling.low_freq_factor",
    );
    let by_layer =
        json!({"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e4}}});
    assert_blamed(by_layer, "rope_parameters.full_attention");
}

#[test]
fn what_is_no_json_object_is_refused() {
    let deep = "[".repeat(1_000_000);
    for bad in
        ["", "[]", "1", "{", "{\"a\":1,}", "{\"a\":NaN}", "\u{feff}{}", "{\"hidden_size\":1e999}", &deep]
    {
        let result = Config::from_slice(bad.as_bytes(), Path::new("c.json"));
        assert!(matches!(result, Err(Error::File { .. })), "{:.20}", bad);
    }
    let not_utf8 = Config::from_slice(b"{\"model_type\":\"\xff\"}", Path::new("c.json"));
    assert!(matches!(not_utf8, Err(Error::File { .. })));
}

#[test]
fn a_file_that_is_missing_too_large_or_no_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    assert_error(Config::from_file(&path), &["config.json"]);
    assert_error(Config::from_file(folder.path()), &["a folder"]);
    std::fs::write(&path, vec![b' '; (1 << 20) + 1]).unwrap();
    assert_error(Config::from_file(&path), &["config.json", "1048577 bytes"]);
}

/// Values that a hostile or careless file may hold.
fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0_u64..70).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z_]{0,8}".prop_map(Value::from),
        prop::collection::vec(any::<i32>(), 0..3).prop_map(Value::from),
        Just(json!({"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4})),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Whatever a configuration holds, it is refused in order or obeys the promises of the fields.
    #[test]
    fn no_configuration_panics(
        family in prop::sample::select(vec!["gpt2", "llama", "mistral", "qwen2", "qwen3", "olmo", "olmo2", "gpt_neox"]),
        edits in prop::collection::vec((0_usize..24, any_value()), 0..4),
    ) {
        let names = [
            "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
            "num_key_value_heads", "head_dim", "max_position_embeddings", "n_embd", "n_head", "n_layer", "n_positions",
            "n_inner", "rope_theta", "rope_scaling", "rope_parameters", "rotary_pct", "sliding_window", "layer_types",
            "eos_token_id", "hidden_act", "clip_qkv", "attention_bias", "use_sliding_window",
        ];
        let mut config = llama_config();
        config["model_type"] = json!(family);
        for (from, to) in [("hidden_size", "n_embd"), ("num_attention_heads", "n_head"),
            ("num_hidden_layers", "n_layer"), ("max_position_embeddings", "n_positions")] {
            config[to] = config[from].clone();
        }
        config["rotary_pct"] = json!(1.0);
        for (name, value) in edits {
            config[names[name]] = value;
        }
        if let Ok(config) = parse(&config) {
            prop_assert!(config.head_dim % 2 == 0 && (2..=256).contains(&config.head_dim));
            prop_assert_eq!(config.num_attention_heads % config.num_key_value_heads, 0);
            if let Some(rope) = config.rope {
                prop_assert!(rope.rotary_dim % 2 == 0 && (2..=config.head_dim).contains(&rope.rotary_dim));
                prop_assert!(rope.inverse_frequencies().iter().all(|frequency| frequency.is_finite()));
            }
        }
    }
}
