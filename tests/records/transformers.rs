//! transformers loads what is saved, and initialises as we do. `TOEDIT_TRANSFORMERS_PYTHON` names a Python that has the
//! packages `torch` and `transformers`, which are too large for every run.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;
use toedit::model::init::Initializer;
use toedit::model::layout::{Layout, Parameter};
use toedit::model::save::{SaveFolder, config_json};
use toedit::model::{Config, Dtype};

use crate::common::{FAMILIES, Golden, root};
use crate::saving::Source;

fn python() -> Option<PathBuf> {
    let python = std::env::var_os("TOEDIT_TRANSFORMERS_PYTHON");
    if python.is_none() {
        eprintln!("TOEDIT_TRANSFORMERS_PYTHON is not set: nothing tested");
    }
    python.map(PathBuf::from)
}

/// Runs a mode of the script.
#[track_caller]
fn run(python: &Path, mode: &str, folders: &[&Path]) {
    let script = root().join("tests/records/read_models.py");
    let output = Command::new(python).arg(script).arg(mode).args(folders).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    println!("{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn transformers_loads_saved_models() {
    let Some(python) = python() else { return };
    let place = TempDir::new().unwrap();
    for family in FAMILIES {
        let source = Source::open(&Golden::load(family).folder);
        for (kind, dtype, limit) in
            [("f32", Dtype::F32, u64::MAX), ("shards", Dtype::F32, 30_000), ("bf16", Dtype::Bf16, u64::MAX)]
        {
            source.save(&place.path().join(kind).join(family), dtype, limit);
        }
    }
    let golden = root().join("tests/data/golden");
    for kind in ["f32", "shards", "bf16"] {
        run(&python, "saved", &[&place.path().join(kind), &golden]);
    }
}

/// A configuration with nothing in it that can be left out.
fn bare(family: &str) -> Value {
    let mut config = match family {
        "gpt2" => json!({ "n_embd": 96, "n_layer": 3, "n_head": 4, "n_positions": 64 }),
        _ => json!({
            "hidden_size": 96, "intermediate_size": 160, "num_hidden_layers": 3, "num_attention_heads": 4,
            "max_position_embeddings": 64, "num_key_value_heads": 2,
        }),
    };
    config["model_type"] = json!(family);
    config["vocab_size"] = json!(300);
    config["initializer_range"] = json!(0.05);
    config["pad_token_id"] = json!(7);
    config
}

#[test]
fn transformers_initialises_alike() {
    let Some(python) = python() else { return };
    let place = TempDir::new().unwrap();
    for family in ["gpt2", "llama", "mistral", "qwen2", "qwen3", "olmo", "olmo2", "gpt_neox"] {
        for tied in [None, Some(false), Some(true)] {
            let mut json = bare(family);
            tied.into_iter().for_each(|tied| json["tie_word_embeddings"] = json!(tied));
            let text = config_json(json.to_string().as_bytes(), Path::new("bare"), Dtype::F32).unwrap();
            let config = Config::from_slice(text.as_bytes(), Path::new("bare")).unwrap();
            let all: Vec<Parameter> = Layout::new(&config).parameters().cloned().collect();
            let folder = SaveFolder::create(&place.path().join(format!("{family}-{tied:?}"))).unwrap();
            let initializer = Initializer { config: &config, seed: 9 };
            folder.model(Dtype::F32, &all, |index, sink| initializer.write(&all[index], sink)).unwrap();
            folder.file("config.json", text.as_bytes()).unwrap();
            folder.commit().unwrap();
        }
    }
    run(&python, "initial", &[place.path()]);
}
