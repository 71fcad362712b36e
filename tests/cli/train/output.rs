//! The output's folder: whose it is, what of an earlier run is in it, and the summary.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::{SHORT, assert_same_files, files, steps};
use crate::Place;

#[test]
fn an_earlier_run_is_neither_overwritten_nor_mixed_up() {
    let place = Place::with_sample(4);
    place.run(SHORT).done();
    place.run(SHORT).fails(&["out", "--resume", "--overwrite"]);
    place.run(&SHORT.replace("--seed 3", "--seed 4 --resume")).fails(&["`seed` was 3 and is 4"]);
    place.run(&SHORT.replace("--steps 6", "--steps 7 --resume")).fails(&["`s"]);
    let before = files(&place.path("out"));
    place.run(&format!("{SHORT} --resume")).done();
    assert_eq!(files(&place.path("out")), before);
    place.put("out/checkpoints/step-00000006/trainer.json", "{\"format\": 99}");
    place.run(&format!("{SHORT} --resume")).fails(&["format 99", "format 1"]);
    place.run(&format!("{SHORT} --overwrite")).done();
}

#[test]
fn a_model_is_not_trained_over_itself() {
    let place = Place::with_sample(4);
    place.copy_model();
    let names = ["config.json", "model.safetensors", "tokenizer.json"].map(|name| format!("copy/{name}"));
    let read =
        || (names.clone().map(|name| place.bytes(&name)), fs::read_dir(place.path("copy")).unwrap().count());
    let before = read();
    for begin in ["", "--overwrite", "--resume"] {
        let words =
            SHORT.replace("--model tiny --data in.jsonl --output out", "--data in.jsonl --output copy");
        place.run(&format!("{words} --model copy {begin}")).fails(&["copy", "choose another"]);
        place.run(&format!("{words} --config-json copy/config.json {begin}")).fails(&["choose another"]);
        if begin != "--overwrite" {
            // Another model, but not one that a run here made.
            place.run(&format!("{words} --model tiny {begin}")).fails(&["copy: holds `", "--overwrite"]);
        }
        assert!(read() == before, "{begin}");
    }
}

/// All that can be found wrong is found before an earlier run goes.
#[test]
fn a_mistake_costs_no_earlier_run() {
    let place = Place::with_sample(4);
    place.run(&format!("{SHORT} --eval-data in.jsonl")).done();
    let before = files(&place.path("out"));
    for (wrong, right) in [
        ("--data in.jsonl", "--data missing.jsonl"),
        ("--sequence-length 24", "--sequence-length 600"),
        ("--dtype f32", "--dtype f32 --warmup 7"),
        ("--dtype f32", "--dtype f32 --device cuda:63"),
        ("--dtype f32", "--dtype f32 --summary in.jsonl"),
    ] {
        let outcome = place.run(&format!("{} --overwrite", SHORT.replace(wrong, right)));
        assert!([1, 2].contains(&outcome.status), "{right}: {}", outcome.stderr);
        assert_eq!(files(&place.path("out")), before, "{right}");
        assert!(place.path("out/checkpoints/step-00000006").exists() && place.path("out/loss.svg").exists());
    }
    // The next run has no held-out data, and fewer steps.
    place.run(&format!("{} --overwrite", SHORT.replace("--steps 6", "--steps 2"))).done();
    place.run(&SHORT.replace("--steps 6", "--steps 2").replace("--output out", "--output fresh")).done();
    assert_same_files("overwritten", &place.path("out"), &place.path("fresh"));
    assert_eq!(listing(&place.path("out")), listing(&place.path("fresh")));
    assert_eq!(place.read("out/evaluations.jsonl"), "");
}

/// All files below a folder.
fn listing(folder: &Path) -> Vec<String> {
    let output = Command::new("find").args([".", "-type", "f"]).current_dir(folder).output().unwrap();
    let mut names: Vec<_> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    names.sort();
    names
}

#[test]
fn a_finished_run_has_nothing_left_to_do() {
    let place = Place::with_sample(4);
    let words = SHORT.replace("--quiet ", "");
    place.run(&words).done();
    let before = files(&place.path("out"));
    for _ in 0..2 {
        let outcome = place.run(&format!("{words} --resume")).done();
        assert!(outcome.stderr.contains("already finished"), "{}", outcome.stderr);
        assert!(files(&place.path("out")) == before);
        let _ = fs::remove_dir_all(place.path("out/checkpoints"));
    }
    place.run(&SHORT.replace("--seed 3", "--seed 4 --resume")).fails(&["`seed` was 3 and is 4"]);
}

#[test]
fn a_summary_tells_what_was_done() {
    let place = Place::with_sample(4);
    let words = format!("{SHORT} --eval-data in.jsonl --packing documents --summary");
    place.run(&format!("{words} summary.json")).done();
    let (summary, last) = (place.json("summary.json"), steps(&place, "out").pop().unwrap());
    let evaluation = crate::records(&place.read("out/evaluations.jsonl")).pop().unwrap();
    assert_eq!(summary["command"], "train");
    assert_eq!((&summary["steps"], &summary["documents"]), (&json!(6), &json!(4)));
    // Six steps of two rows of 23 tokens that predict one.
    assert_eq!(summary["tokens"], 6 * 2 * 23);
    assert_eq!((&summary["loss"], &summary["perplexity"]), (&last["loss"], &evaluation["perplexity"]));
    assert_eq!(summary["settings"], place.json("out/trainer.json")["settings"]);
    assert_eq!((&summary["device"], &summary["threads"]), (&json!("cpu"), &json!(2)));
    for name in ["weights", "load_seconds", "seconds", "tokens_per_second", "peak_memory_bytes"] {
        assert!(summary[name].as_f64().unwrap() > 0.0, "{name}: {summary}");
    }
    let resumed = place.run(&format!("{words} - --resume")).done();
    let again: Value = serde_json::from_str(&resumed.stdout).unwrap();
    assert_eq!((&again["loss"], &again["tokens"]), (&summary["loss"], &json!(0)));
}

#[test]
fn a_second_process_is_told_to_wait() {
    let place = Place::with_sample(4);
    let words = SHORT.replace("--steps 6", "--steps 1000");
    let mut child = place.command(&words).spawn().unwrap();
    while !place.path("out/metrics.jsonl").exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    place.run(&words).fails_with(75, &["another process"]);
    child.kill().unwrap();
    child.wait().unwrap();
}
