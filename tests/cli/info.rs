//! `toedit info`: the machine and a model's card.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use safetensors::SafeTensors;

use crate::Place;

/// The card's lines by their names.
fn card(place: &Place, words: &str) -> BTreeMap<String, String> {
    let outcome = place.run(&format!("info {words}")).done();
    assert_eq!(outcome.stderr, "");
    let lines = outcome.stdout.lines().map(|line| line.split_at(18));
    lines.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect()
}

#[test]
fn a_model_has_a_card() {
    let place = Place::new();
    let card = card(&place, "--model tiny");
    for (name, value) in [
        ("toedit", env!("CARGO_PKG_VERSION")),
        ("model", "tiny"),
        ("family", "Llama"),
        ("layers", "6"),
        ("hidden size", "192"),
        ("intermediate size", "512"),
        ("heads", "6 of size 32, 2 for keys and values"),
        ("positions", "512 (rotary, theta 10000)"),
        ("vocabulary", "4096"),
        ("special ids", "0"),
        ("embeddings", "tied"),
        ("parameters", "3148224"),
        ("dtype on disk", "BF16"),
        ("weights in memory", "12.6 MB as f32, 6.3 MB as bf16"),
        ("tokenizer", "BPE, 4096 ids, puts 0 before a text"),
    ] {
        assert_eq!(card.get(name).map(String::as_str), Some(value), "{name}");
    }
    let devices: Vec<_> = card["devices"].split("; ").filter_map(|device| device.split(' ').next()).collect();
    assert_eq!(devices, crate::devices::built_in());
    place.put("empty.jsonl", "");
    place.score("--input empty.jsonl --output - --summary s.json --mmap").done();
    assert_eq!(place.json("s.json")["fingerprint"], card["fingerprint"]);
}

#[test]
fn parameters_are_those_of_the_file() {
    let place = Place::new();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden");
    let mut families = Vec::new();
    for folder in fs::read_dir(golden).unwrap().map(|entry| entry.unwrap().path()) {
        let bytes = fs::read(folder.join("model.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let count: usize = tensors.iter().map(|(_, tensor)| tensor.shape().iter().product::<usize>()).sum();
        let card = card(&place, &format!("--model {}", folder.display()));
        assert_eq!(card["parameters"], count.to_string(), "{}", folder.display());
        assert!(card["tokenizer"].starts_with("none"));
        families.push(card["family"].clone());
    }
    families.sort();
    families.dedup();
    assert_eq!(families, ["GPT-2", "GPT-NeoX", "Llama", "Mistral", "OLMo", "OLMo-2", "Qwen2", "Qwen3"]);
}

#[test]
fn the_fingerprint_is_the_models_alone() {
    let place = Place::new();
    place.copy_model();
    let of = |model: &str| card(&place, &format!("--model {model}"))["fingerprint"].clone();
    assert_eq!(of("copy"), of("tiny"));
    place.change("copy/config.json", |config| config["rope_theta"] = 20000.0.into());
    assert_ne!(of("copy"), of("tiny"));
}

#[test]
fn a_card_needs_a_model_that_can_be_read() {
    let place = Place::new();
    place.run("info --model nonexistent").fails(&["nonexistent", "no such folder"]);
    place.copy_model();
    place.change("copy/config.json", |config| config["vocab_size"] = 5000.into());
    place.run("info --model copy").fails(&["model.embed_tokens.weight", "[4096, 192]", "[5000, 192]"]);
    place.change("copy/config.json", |config| config["hidden_size"] = 2_147_483_646u32.into());
    place.run("info --model copy").fails(&["copy/"]);
}
