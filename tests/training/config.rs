//! What a run may be made with.

use std::path::Path;

use serde_json::json;
use toedit::model::Config;
use toedit::train::schedule::{Decay, Schedule};
use toedit::train::{LoraConfig, TrainConfig};

/// A model of 64 positions, 16 of which a token sees.
fn model(sliding_window: Option<usize>) -> Config {
    let json = json!({
        "model_type": "mistral", "vocab_size": 50, "hidden_size": 16, "intermediate_size": 32,
        "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "hidden_act": "silu",
        "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "sliding_window": sliding_window,
    });
    Config::from_slice(json.to_string().as_bytes(), Path::new("config.json")).unwrap()
}

fn rate(learning_rate: f64) -> Schedule {
    Schedule::new(Decay::Constant, learning_rate, 0.0, 0, 10).unwrap()
}

fn good() -> TrainConfig {
    TrainConfig::new(10, 17, rate(1e-3))
}

fn refused(config: &TrainConfig, part: &str) {
    let message = config.check(&model(None)).unwrap_err().to_string();
    assert!(message.contains(part), "`{message}` says nothing of `{part}`");
}

#[test]
fn sequences_end_where_the_model_does() {
    for (window, longest) in [(None, 65), (Some(16), 17), (Some(100), 65)] {
        let check = |sequence_length| TrainConfig { sequence_length, ..good() }.check(&model(window));
        check(longest).unwrap();
        let message = check(longest + 1).unwrap_err().to_string();
        assert!(message.contains(&format!("give {longest} or less")), "{message}");
        assert_eq!(message.contains("sliding_window"), window == Some(16), "{message}");
    }
}

#[test]
fn sizes_have_bounds() {
    good().check(&model(None)).unwrap();
    refused(&TrainConfig { sequence_length: 1, ..good() }, "sequence length 1");
    refused(&TrainConfig { steps: 0, ..good() }, "0 steps");
    refused(&TrainConfig { steps: 1 << 32, ..good() }, "4294967296 steps");
    refused(&TrainConfig { accumulate: 0, ..good() }, "0 to a step");
    for batch_size in [0, (1 << 20) + 1, usize::MAX] {
        refused(&TrainConfig { batch_size, ..good() }, &format!("batch of {batch_size} rows"));
    }
}

#[test]
fn numbers_hold_in_single_precision() {
    refused(&TrainConfig { schedule: rate(1e39), ..good() }, "learning rate inf");
    refused(&TrainConfig { betas: [0.9, (1.0 - 1e-12_f64) as f32], ..good() }, "beta 2 1");
    refused(&TrainConfig { betas: [f32::NAN, 0.9], ..good() }, "beta 1 NaN");
    refused(&TrainConfig { eps: 1e-60_f64 as f32, ..good() }, "eps 0");
    refused(&TrainConfig { weight_decay: -1.0, ..good() }, "weight decay -1");
    refused(&TrainConfig { clip: Some(0.0), ..good() }, "clip 0");
    refused(&TrainConfig { truncate_above: Some(1.0), ..good() }, "truncate above 1");
    let lora = LoraConfig { rank: 4, alpha: f32::INFINITY, seed: 0 };
    refused(&TrainConfig { lora: Some(lora), ..good() }, "LoRA alpha inf");
}
