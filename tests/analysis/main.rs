//! Analyses: n-grams against Python's own computation, sums over tokens and documents.

mod ngrams;
mod probabilities;
mod reference;
mod selection;

use std::fs;
use std::path::Path;

use serde_json::Value;

/// What `reference.py` wrote.
fn reference() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/analysis/reference.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The texts of `raw` or `target` there.
fn texts(reference: &Value, name: &str) -> Vec<String> {
    let documents = reference[name].as_array().unwrap();
    documents.iter().map(|document| document["text"].as_str().unwrap().to_owned()).collect()
}

/// The numbers of an array.
fn numbers(values: &Value) -> Vec<f64> {
    values.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}
