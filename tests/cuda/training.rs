//! Training on a GPU: the library computes the products of both directions, and the losses are those of the kernels.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::libraries::Libraries;

const STEPS: usize = 4;

/// What a run wrote to its log, and the losses of its steps.
fn train(dtype: &str, variables: &[(&str, &str)]) -> (String, Vec<f64>) {
    let folder = TempDir::new().unwrap();
    let (data, output) = (folder.path().join("ids.jsonl"), folder.path().join("out"));
    let ids = |row: usize| (0..33).map(|i| (i * i + 31 * row) % 257).collect::<Vec<_>>();
    let rows = (0..2 * STEPS).map(|row| format!("{{\"input_ids\":{:?}}}\n", ids(row)));
    fs::write(&data, rows.collect::<String>()).unwrap();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden/llama");
    let mut command = Command::new(env!("CARGO_BIN_EXE_toedit"));
    command.args(["train", "--packing", "documents", "--batch-size", "2", "--sequence-length", "33"]);
    command.args([
        "--steps",
        &STEPS.to_string(),
        "--learning-rate",
        "1e-3",
        "--device",
        "cuda",
        "--dtype",
        dtype,
    ]);
    command.arg("--model").arg(model).arg("--data").arg(&data).arg("--output").arg(&output);
    command.env("RUST_LOG", "toedit=debug").envs(variables.iter().copied());
    let ran = Libraries::Stub.given_to(&mut command).output().unwrap();
    let told = String::from_utf8(ran.stderr).unwrap();
    assert!(ran.status.success(), "{told}");
    let metrics = fs::read_to_string(output.join("metrics.jsonl")).unwrap();
    let step = |line| serde_json::from_str::<Value>(line).unwrap();
    (told, metrics.lines().filter_map(|line| step(line)["loss"].as_f64()).collect())
}

#[test]
fn the_library_computes_the_products_of_training() {
    for (dtype, limit) in [("f32", 1e-4), ("bf16", 2e-2)] {
        let (told, losses) = train(dtype, &[]);
        for layout in ["Nt", "Nn", "Tn"] {
            let products = || told.lines().filter(|line| line.contains(&format!("products {layout}")));
            assert!(products().count() > 0, "{told}");
            assert!(products().all(|line| line.contains("cuBLASLt's algorithm")), "{told}");
        }
        let (_, expected) = train(dtype, &[("TOEDIT_CUBLAS", "0")]);
        assert_eq!((losses.len(), expected.len()), (STEPS, STEPS));
        let close = |(a, b): (&f64, &f64)| (a - b).abs() <= limit;
        assert!(losses.iter().zip(&expected).all(close), "{dtype}: {losses:?} against {expected:?}");
        assert!(losses != expected, "the library's low bits are not the kernels'");
    }
}
