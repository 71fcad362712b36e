//! `toedit train`: what it leaves behind, and that it goes on bit for bit.

mod output;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use safetensors::SafeTensors;
use serde_json::{Value, json};
use toedit::Device;

use crate::Place;
use crate::common::{FAMILIES, folders::shared};

const PATIENCE: Duration = Duration::from_secs(30);

/// A short run on the first documents of the sample.
const SHORT: &str = "train --quiet --model tiny --data in.jsonl --output out --dtype f32 --threads 2 --batch-size 2 \
                     --sequence-length 24 --steps 6 --seed 3";
/// What a run is made from; the rest tells when and how fast it ran.
const KEPT: [&str; 4] = ["config.json", "model.safetensors", "optimizer.safetensors", "trainer.json"];

fn files(folder: &Path) -> BTreeMap<&'static str, Vec<u8>> {
    KEPT.into_iter().map(|name| (name, fs::read(folder.join(name)).unwrap())).collect()
}

/// Fails without printing megabytes.
#[track_caller]
fn assert_same_files(what: &str, ours: &Path, theirs: &Path) {
    let (ours, theirs) = (files(ours), files(theirs));
    let differ: Vec<_> = KEPT.iter().filter(|name| ours[**name] != theirs[**name]).collect();
    assert!(differ.is_empty(), "{what}: {differ:?}");
}

fn steps(place: &Place, folder: &str) -> Vec<Value> {
    crate::records(&place.read(&format!("{folder}/metrics.jsonl")))
}

fn tensors(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let bytes = fs::read(folder.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.iter().map(|(name, view)| (name.to_owned(), view.data().to_vec())).collect()
}

fn values(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|word| f32::from_le_bytes(word.try_into().unwrap())).collect()
}

/// The run that transformers made, on every family: losses, and weights in a folder that it would read.
#[test]
fn the_reference_run_gives_the_references_losses_and_weights() {
    let Some(golden) = shared("golden") else { return };
    for family in FAMILIES {
        let place = Place::new();
        let folder = golden.join(family);
        let bytes = fs::read(folder.join("expect.safetensors")).unwrap();
        let expected = SafeTensors::deserialize(&bytes).unwrap();
        let ids = expected.tensor("input_ids").unwrap();
        let words: Vec<u32> = values(ids.data()).iter().map(|word| word.to_bits()).collect();
        let rows = words.chunks_exact(ids.shape()[1]).map(|ids| json!({ "input_ids": ids }).to_string());
        place.put("ids.jsonl", rows.map(|row| row + "\n").collect::<String>());
        let words = "--data ids.jsonl --output out --steps 3 --batch-size 2 --sequence-length 33 --packing documents \
                     --no-shuffle --learning-rate 1e-3 --betas 0.9,0.95 --weight-decay 0.1 --clip 1.0 \
                     --schedule constant --warmup 0 --dtype f32";
        place.run(&format!("train --model {} {words}", folder.display())).done();
        let losses = values(expected.tensor("step_loss").unwrap().data());
        for (step, expected) in steps(&place, "out").iter().zip(losses) {
            let loss = step["loss"].as_f64().unwrap();
            assert!((loss - f64::from(expected)).abs() <= 1e-4, "{family}: {step} against {expected}");
        }
        let (mut error, mut way, mut off, mut count) = (0.0, 0.0, 0, 0);
        let (before, after) = (tensors(&folder), tensors(&place.path("out")));
        assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>(), "{family}");
        for (name, after) in &after {
            let expected = values(expected.tensor(&format!("step.{name}")).unwrap().data());
            for ((after, before), expected) in values(after).iter().zip(values(&before[name])).zip(expected) {
                error += f64::from(after - expected).powi(2);
                way += f64::from(before - expected).powi(2);
                off += usize::from((after - expected).abs() > 1e-5);
                count += 1;
            }
        }
        let (distance, off) = ((error / way).sqrt(), off as f64 / count as f64);
        assert!(distance <= 5e-3 && off <= 5e-3, "{family}: {distance:e} of the way, {off} of the weights");
    }
}

#[test]
fn a_run_leaves_a_model_with_its_records() {
    let place = Place::with_sample(4);
    let words = format!("{SHORT} --eval-data in.jsonl --eval-every 3 --save-every 2 --log-dir events");
    place.run(&words).done();
    let metrics = steps(&place, "out");
    assert_eq!(metrics.len(), 6);
    for (number, step) in (1..).zip(&metrics) {
        assert_eq!(step["step"], number);
        for name in ["loss", "learning_rate", "gradient_norm", "tokens_per_second"] {
            assert!(step[name].as_f64().unwrap() > 0.0, "{name}: {step}");
        }
    }
    let evaluations = crate::records(&place.read("out/evaluations.jsonl"));
    assert_eq!(evaluations.iter().map(|line| line["step"].as_u64().unwrap()).collect::<Vec<_>>(), [3, 6]);
    assert!(place.read("out/loss.svg").starts_with("<svg"));
    assert!(fs::read_dir(place.path("events")).unwrap().count() == 1);
    let kept: Vec<_> = fs::read_dir(place.path("out/checkpoints")).unwrap().collect();
    assert_eq!(kept.len(), 2, "the last two are kept");
    assert_same_files(
        "the last checkpoint",
        &place.path("out/checkpoints/step-00000006"),
        &place.path("out"),
    );
    // The folder is a model.
    place.run("score --model out --input in.jsonl --output scores.jsonl --dtype f32").done();
}

#[test]
fn threads_and_parts_of_a_batch_change_nothing_that_matters() {
    let place = Place::with_sample(4);
    place.run(SHORT).done();
    place.run(&SHORT.replace("--output out", "--output one").replace("--threads 2", "--threads 1")).done();
    assert_same_files("one thread", &place.path("one"), &place.path("out"));
    place.run(&SHORT.replace("--output out", "--output again --recompute")).done();
    assert_same_files("recomputed", &place.path("again"), &place.path("out"));
    // Two rows at once, or one after the other: the same to rounding.
    let parts = SHORT.replace("--batch-size 2", "--batch-size 1 --accumulate 2");
    place.run(&parts.replace("--output out", "--output parts")).done();
    for (whole, part) in steps(&place, "out").iter().zip(steps(&place, "parts")) {
        let [whole, part] = [whole, &part].map(|step| step["loss"].as_f64().unwrap());
        assert!((whole - part).abs() <= 1e-4 * whole, "{whole} {part}");
    }
}

/// Starts a run and ends it by a signal once it has taken some steps.
fn cut(place: &Place, words: &str, signal: &str, after: usize) {
    let mut child = place.command(words).spawn().unwrap();
    let metrics = place.path("cut/metrics.jsonl");
    let taken = || fs::read_to_string(&metrics).map_or(0, |text| text.lines().count());
    let start = Instant::now();
    while taken() < after {
        assert!(start.elapsed() < PATIENCE && child.try_wait().unwrap().is_none(), "{words}: {after} steps");
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
    let status = child.wait().unwrap();
    match signal {
        "-KILL" => assert_eq!(status.signal(), Some(9), "{words}"),
        _ => assert_eq!(status.code(), Some(128 + 15), "{words}"),
    }
    assert!(!place.path("cut/trainer.json").exists(), "it was finished already");
}

/// Stopped by a signal or killed, a run goes on from its last checkpoint and ends with the same bytes.
#[test]
fn a_run_that_was_ended_goes_on_bit_for_bit() {
    let place = Place::with_sample(4);
    for (dtype, cuts) in [
        ("f32", &[("-KILL", 0), ("-KILL", 1), ("-TERM", 2), ("-KILL", 3), ("-TERM", 5), ("-KILL", 6)][..]),
        ("bf16", &[("-KILL", 2), ("-TERM", 4)]),
        ("f32 --lora-rank 2", &[("-TERM", 2), ("-KILL", 4)]),
    ] {
        let words = SHORT.replace("--dtype f32", &format!("--dtype {dtype} --save-every 1 --overwrite"));
        let words = words.replace("--steps 6", "--steps 12");
        place.run(&words).done();
        for (signal, after) in cuts {
            let words = words.replace("--output out", "--output cut");
            let _ = fs::remove_dir_all(place.path("cut"));
            cut(&place, &words, signal, *after);
            let metrics = fs::read_to_string(place.path("cut/metrics.jsonl"));
            let before = metrics.map_or(0, |text| text.lines().count());
            place.run(&words.replace("--overwrite", "--resume")).done();
            assert!(before < 12, "{before} steps were taken");
            assert_same_files(
                &format!("{dtype}, {signal} after {after}"),
                &place.path("cut"),
                &place.path("out"),
            );
            assert_eq!(steps(&place, "cut").len(), 12);
        }
    }
}

#[test]
fn a_few_documents_can_be_learnt_by_heart() {
    let place = Place::with_sample(10);
    place
        .run(
            "train --model tiny --data in.jsonl --output out --dtype f32 --batch-size 10 --sequence-length 48 \
             --packing documents --no-shuffle --steps 150 --learning-rate 3e-3 --weight-decay 0 --warmup 5",
        )
        .done();
    let last = steps(&place, "out").last().unwrap()["loss"].as_f64().unwrap();
    assert!(last < 0.05, "{last}");
}

#[test]
fn adapters_change_only_the_weights_that_they_are_on() {
    let place = Place::with_sample(4);
    place.run(&SHORT.replace("--dtype f32", "--dtype bf16 --lora-rank 4 --learning-rate 1e-2")).done();
    let (before, after) = (tensors(&place.path("tiny")), tensors(&place.path("out")));
    for (name, before) in before {
        let adapted = name.ends_with("_proj.weight");
        assert_eq!(before == after[&name], !adapted, "{name}");
    }
}

#[test]
fn a_model_is_trained_from_scratch() {
    let place = Place::with_sample(4);
    let words =
        SHORT.replace("--model tiny", "--config-json tiny/config.json").replace("--steps 6", "--steps 30");
    place.run(&format!("{words} --learning-rate 3e-3")).done();
    let steps = steps(&place, "out");
    let loss = |at: usize| steps[at]["loss"].as_f64().unwrap();
    assert!((loss(0) - 4096f64.ln()).abs() < 0.5, "{}", loss(0));
    assert!(loss(29) < loss(0) - 0.5, "{}", loss(29));
    assert!(place.path("out/tokenizer.json").exists());
}

#[test]
fn only_responses_carry_loss_where_that_is_asked_for() {
    let place = Place::new();
    let record = |prompt: &str, response: &str| json!({ "prompt": prompt, "response": response }).to_string();
    place.put(
        "sft.jsonl",
        [record("What is two and two?", " Four."), record("And three?", " Six.")].join("\n"),
    );
    let words = "train --model tiny --data sft.jsonl --prompt-field prompt --response-field response --dtype f32 \
                 --packing documents --batch-size 2 --steps 1 --warmup 0 --no-shuffle";
    place.run(&format!("{words} --output whole")).done();
    place.run(&format!("{words} --output part --response-only")).done();
    let [whole, part] = ["whole", "part"].map(|folder| steps(&place, folder)[0]["loss"].as_f64().unwrap());
    assert!((whole - part).abs() > 0.1, "{whole} {part}");
}

/// The step before is what a run that diverged leaves, even where no checkpoint was asked for.
#[test]
fn a_loss_that_is_not_finite_stops_the_run() {
    let place = Place::with_sample(4);
    let words = SHORT.replace("--steps 6", "--steps 60 --learning-rate 1e30 --clip 0 --warmup 0");
    for words in [words.clone(), format!("{words} --save-every 1 --overwrite")] {
        let outcome = place.run(&words);
        let step = steps(&place, "out").len();
        let kept = format!("the last good checkpoint is out/checkpoints/step-{step:08}");
        outcome.fails(&[&format!("step {}: loss ", step + 1), &kept]);
        assert!(step >= 1);
        let state = place.json(&format!("out/checkpoints/step-{step:08}/trainer.json"));
        assert_eq!(state["step"], step);
    }
}

/// The loss of a step from the scores of the same model, in f64: all targets count, those that it is sure of carry none.
/// A row of 64 tokens has one ahead of the document, so that the first 63 of the document are predicted.
#[test]
fn targets_that_the_model_is_sure_of_carry_no_loss() {
    let place = Place::with_sample(4);
    let words = "train --quiet --model tiny --data in.jsonl --dtype f32 --packing documents --no-shuffle --batch-size 4 \
                 --sequence-length 64 --steps 1";
    place.score("--input in.jsonl --output scores.jsonl --per-token --dtype f32 --device cpu").done();
    let records = place.records("scores.jsonl");
    let logprobs = records.iter().flat_map(|record| record["logprobs"].as_array().unwrap()[..63].iter());
    let logprobs: Vec<f64> = logprobs.map(|logprob| logprob.as_f64().unwrap()).collect();
    let mut losses = Vec::new();
    for limit in [0.9, 0.5, 0.1] {
        let carried = logprobs.iter().filter(|logprob| logprob.exp() <= limit);
        let expected = -carried.sum::<f64>() / logprobs.len() as f64;
        place.run(&format!("{words} --output out --overwrite --truncate-above {limit}")).done();
        let loss = steps(&place, "out")[0]["loss"].as_f64().unwrap();
        assert!((loss / expected - 1.0).abs() <= 1e-6, "{limit}: {loss} against {expected}");
        losses.push(loss);
    }
    assert!(losses[0] > losses[1] * 1.005 && losses[1] > losses[2] * 1.005, "{losses:?}");
}

#[test]
fn the_emulator_takes_the_cpus_steps() {
    if !Device::BUILT_IN.contains(&Device::Emulator) {
        return;
    }
    let place = Place::with_sample(2);
    let words =
        "train --quiet --model tiny --data in.jsonl --batch-size 1 --sequence-length 5 --steps 2 --warmup 0";
    let losses = |device: &str, dtype: &str| -> Vec<f64> {
        let words = format!("{words} --output {device}-{dtype} --device {device} --dtype {dtype}");
        place.run(&words).done();
        let steps = steps(&place, &format!("{device}-{dtype}"));
        steps.iter().map(|step| step["loss"].as_f64().unwrap()).collect()
    };
    // In f32 sums in another order; in bf16 a rounding of each of about thirty values on the way.
    for (dtype, limit) in [("f32", 1e-5), ("bf16", 30f64.sqrt() / 256.0)] {
        let (cpu, emulator) = (losses("cpu", dtype), losses("emulator", dtype));
        assert_eq!((cpu.len(), emulator.len()), (2, 2));
        for (cpu, emulator) in cpu.iter().zip(&emulator) {
            assert!((emulator / cpu - 1.0).abs() <= limit, "{dtype}: {emulator} against {cpu}");
        }
        assert!((cpu[0] - cpu[1]).abs() > 1e-3, "{cpu:?}");
    }
}

#[test]
fn wrong_usage_is_told_before_anything_is_read() {
    let place = Place::with_sample(1);
    for (words, parts) in [
        ("train", &["--model M or --config-json FILE", "--data PATH", "--output DIR"][..]),
        (
            "train --model tiny --data in.jsonl --output o --data-weight 1 2",
            &["2 --data-weight for 1 --data"],
        ),
        (
            "train --model tiny --data in.jsonl --output o --eval-every 2",
            &["--eval-every without --eval-data"],
        ),
    ] {
        let outcome = place.run(words);
        assert_eq!(outcome.status, 2, "{}", outcome.stderr);
        parts.iter().for_each(|part| assert!(outcome.stderr.contains(part), "{}", outcome.stderr));
    }
    for words in
        ["--model tiny --config-json x", "--learning-rate 0", "--betas 0.9", "--betas 1,0.9", "--packing x"]
    {
        place.run(&format!("train --data in.jsonl --output o {words}")).exits_with(2);
    }
    let words = "train --model tiny --data in.jsonl --output o --sequence-length 514 --dtype f32";
    place.run(words).fails_with(2, &["sequence length 514", "give 513 or less"]);
}
