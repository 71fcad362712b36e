//! Models that cannot be used: one message that names the file and the field or tensor.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use crate::{Outcome, Place};

const LINE: &str = "{\"text\":\"a b\"}\n";

/// A place with a copy of the model that `spoil` has changed.
fn spoilt(spoil: impl FnOnce(&Place)) -> Place {
    let place = Place::with_input(LINE);
    place.copy_model();
    spoil(&place);
    place
}

fn edit(place: &Place) -> Outcome {
    let outcome = place.run("edit --model copy --input in.jsonl --output out.jsonl");
    assert!(!place.path("out.jsonl").exists());
    outcome
}

#[test]
fn weights() {
    let name = "copy/model.safetensors";
    let cut = |len: usize| move |place: &Place| place.put(name, &place.bytes(name)[..len]);
    edit(&spoilt(cut(100_000))).fails(&[name, "tensor `", "cut short"]);
    edit(&spoilt(cut(100))).fails(&[name]);
    edit(&spoilt(cut(0))).fails(&[name]);
    let nan = |place: &Place| {
        let mut bytes = place.bytes(name);
        let last = bytes.len() - 2;
        bytes[last..].copy_from_slice(&[0xc0, 0x7f]);
        place.put(name, bytes);
    };
    edit(&spoilt(nan)).fails(&[name, "tensor `model.norm.weight`", "NaN"]);
    let missing =
        |place: &Place| place.change("copy/config.json", |config| config["num_hidden_layers"] = json!(7));
    edit(&spoilt(missing)).fails(&[name, "`model.layers.6.input_layernorm.weight`", "missing"]);
    let gone = |place: &Place| fs::remove_file(place.path(name)).unwrap();
    edit(&spoilt(gone)).fails(&["copy: no weights"]);
    let pickled = |place: &Place| fs::rename(place.path(name), place.path("copy/pytorch_model.bin")).unwrap();
    edit(&spoilt(pickled)).fails(&["pytorch_model.bin", "can run code"]);
}

#[test]
fn configurations() {
    for (field, value, part) in [
        ("model_type", json!("mamba"), "llama"),
        ("hidden_size", json!(0), "found 0"),
        ("hidden_size", json!(-192), "-192"),
        ("num_attention_heads", json!(7), "does not divide"),
        ("num_key_value_heads", json!("two"), "two"),
        ("hidden_act", json!("relu7"), "relu7"),
        ("quantization_config", json!({"bits": 4}), "quantised"),
        ("rope_scaling", json!({"rope_type": "yarn", "factor": 2.0}), "yarn"),
        ("vocab_size", Value::Null, "missing"),
    ] {
        let change = |place: &Place| place.change("copy/config.json", |config| config[field] = value.clone());
        let outcome = edit(&spoilt(change));
        outcome.fails(&["copy/config.json", &format!("field `{field}"), part]);
    }
    edit(&spoilt(|place| place.put("copy/config.json", "{"))).fails(&["copy/config.json", "not JSON"]);
    edit(&spoilt(|place| fs::remove_file(place.path("copy/config.json")).unwrap()))
        .fails(&["copy/config.json"]);
}

#[test]
fn tokenizers() {
    let name = "copy/tokenizer.json";
    edit(&spoilt(|place| fs::remove_file(place.path(name)).unwrap()))
        .fails(&["in.jsonl:1", "no tokenizer.json"]);
    edit(&spoilt(|place| place.put(name, "{"))).fails(&[name]);
    edit(&spoilt(|place| place.put(name, b"\xff\xfe"))).fails(&[name]);
    let change = |change: fn(&mut Value)| spoilt(|place| place.change(name, change));
    edit(&change(|json| json["model"]["vocab"]["he"] = json!(4_000_000_000u32))).fails(&[name, "4000000000"]);
    edit(&change(|json| json["decoder"] = json!({"type": "WordPiece", "prefix": "##", "cleanup": true})))
        .fails(&[name, "WordPiece"]);
    // The tokenizer's library panics on it, which is nobody's bug here.
    edit(&change(|json| json["normalizer"] = json!({"type": "Precompiled"})))
        .fails(&[name, "while loading the file"]);
}

/// A tokenizer with more ids than the embedding has rows: such ids are named where they occur.
#[test]
fn a_tokenizer_larger_than_the_embedding() {
    let place = spoilt(|place| {
        place.change("copy/tokenizer.json", |json| {
            let mut added = json["added_tokens"][0].clone();
            added["id"] = json!(4096);
            added["content"] = json!("<new>");
            json["added_tokens"].as_array_mut().unwrap().push(added);
        });
        place.put("in.jsonl", "{\"text\":\"The United States of America\"}\n{\"text\":\"a <new> b\"}\n");
    });
    edit(&place).fails(&["in.jsonl:2", "4096"]);
    place.put("in.jsonl", "{\"text\":\"The United States of America\"}\n");
    let words =
        "edit --model copy --input in.jsonl --output - --resample-above 0 --sampler full --temperature 100";
    let outcome = place.run(words).done();
    assert!(!outcome.stdout.contains("<new>"));
}

#[test]
fn names_of_models() {
    let place = Place::with_input(LINE);
    let score = |model: &str| place.run(&format!("score --model {model} --input in.jsonl --output -"));
    score("org/name").fails(&["org/name", "/nonexistent/hub/models--org--name", "hf download org/name"]);
    score("nonexistent").fails(&["no such folder"]);
    score("a/b/c").fails(&["a/b/c", "org/name"]);
    score("tiny/config.json").fails(&["tiny/config.json", "a file"]);
    fs::create_dir(place.path("empty")).unwrap();
    score("empty").fails(&["empty/config.json"]);
}

/// The cache is a folder of links.
#[test]
fn a_model_in_the_cache() {
    let place = Place::with_input(LINE);
    place.put("hub/models--org--tiny/refs/main", "abc");
    fs::create_dir_all(place.path("hub/models--org--tiny/snapshots/abc")).unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        let link = place.path(&format!("hub/models--org--tiny/snapshots/abc/{name}"));
        symlink(place.path("tiny").join(name), link).unwrap();
    }
    let mut command = place.command("score --model org/tiny --input in.jsonl --output -");
    command.env("HF_HUB_CACHE", place.path("hub"));
    let expected = place.score("--input in.jsonl --output -").done().stdout;
    assert_eq!(crate::run(command, b"").done().stdout, expected);
}
