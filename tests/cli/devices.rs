//! `--device`: the same corpus on every device that is built in, and what is said of one that is not there.

use serde_json::{Value, json};
use toedit::Device;

use crate::Place;
use crate::sets::{numbers, passage, questions};

const SAMPLERS: [&str; 4] =
    ["--sampler top-k --top-k 5", "--sampler top-p --top-p 0.9", "--sampler full", "--sampler rejection"];

/// The names of the devices of this build.
pub fn built_in() -> Vec<String> {
    Device::BUILT_IN.iter().map(Device::to_string).collect()
}

/// Text and ids in two short documents; on the emulator every token takes milliseconds.
fn place() -> Place {
    Place::with_input(concat!(
        "{\"text\": \"The President of the United States of America spoke to the people — naïvely.\", \"n\": 1}\n",
        "{\"input_ids\": [5, 6, 7, 8, 0, 9, 300, 301, 17, 4000, 21, 35, 3, 250]}\n",
    ))
}

fn has_emulator() -> bool {
    Device::BUILT_IN.contains(&Device::Emulator)
}

#[test]
fn scores_are_the_cpus_within_rounding() {
    if !has_emulator() {
        return;
    }
    let place = place();
    let score = |device: &str, words: &str| {
        let words = format!(
            "--input in.jsonl --output - --per-token --entropy --rank --top-k 2 --device {device} {words}"
        );
        place.score(&words).done().records()
    };
    let cpu = score("cpu", "--dtype f32");
    let close = |found: &[Value], limit: f64| {
        assert_eq!(found.len(), cpu.len());
        for (found, expected) in found.iter().zip(&cpu) {
            for name in ["logprobs", "entropy"] {
                let [found, expected] = [found, expected].map(|record| record[name].as_array().unwrap());
                assert_eq!(found.len(), expected.len());
                for (found, expected) in found.iter().zip(expected).skip(1) {
                    let error = found.as_f64().unwrap() - expected.as_f64().unwrap();
                    assert!(error.abs() <= limit, "{name}: {found} against {expected}");
                }
            }
        }
    };
    let emulated = score("emulator", "");
    close(&emulated, 1e-4);
    assert_eq!(emulated[0]["rank"], cpu[0]["rank"]);
    close(&score("emulator", "--dtype bf16"), 0.3);
    assert_eq!(score("emulator", "--batch-tokens 2 --max-length 512"), emulated, "packs of one document");
}

#[test]
fn edits_are_the_cpus() {
    if !has_emulator() {
        return;
    }
    let place = place();
    for sampler in SAMPLERS {
        let edit = |device: &str| {
            let words = format!(
                "--input in.jsonl --output - --provenance --rule p<0.0001:drop --rule p<=1:resample {sampler} --device {device}"
            );
            place.edit(&format!("{words} --dtype f32")).done().stdout
        };
        let (cpu, emulated) = (edit("cpu"), edit("emulator"));
        let counts = |text: &str| -> Vec<Value> {
            let records = crate::records(text).into_iter();
            records
                .map(|record| record["toedit"]["edits"].as_array().unwrap().iter().map(without_p).collect())
                .collect()
        };
        assert_eq!(counts(&emulated), counts(&cpu), "{sampler}");
        let changed = crate::records(&cpu)
            .iter()
            .map(|record| record["toedit"]["changed"].as_u64().unwrap())
            .sum::<u64>();
        assert!(changed > 10, "{sampler}: {changed} changed");
    }
}

#[test]
fn the_most_likely_texts_are_the_cpus() {
    if !has_emulator() {
        return;
    }
    let place = place();
    let generate = |device: &str, words: &str| {
        let words = format!("--input in.jsonl --dtype f32 --max-new-tokens 5 --device {device} {words}");
        place.run(&format!("generate --model tiny {words}")).done().stdout
    };
    let cpu = generate("cpu", "--temperature 0");
    assert_eq!(generate("emulator", "--temperature 0 --batch-size 2"), cpu);
    assert_eq!(generate("emulator", "--temperature 0 --batch-size 1"), cpu);
    let words = "--temperature 0.8 --top-k 20 --repetition-penalty 1.1";
    assert_eq!(generate("emulator", words), generate("cpu", words));
}

/// On the CPU choices go on from what they share, on a device each is read from its start.
#[test]
fn likelihoods_of_continuations_are_the_cpus() {
    if !has_emulator() {
        return;
    }
    let passages = [("The President of the United", " States"), ("In the year of our", " river of of")];
    let place = Place::new();
    for (measure, items) in
        [("choices", questions()), ("lambada", passages.map(|(text, end)| passage(text, end)).concat())]
    {
        place.put("in.jsonl", items);
        let lines = |words: &str| {
            let words = format!("{measure} --dtype f32 --input in.jsonl --output - --device {words}");
            place.run(&format!("eval {words} --model tiny")).done().records()
        };
        let (cpu, emulated) = (lines("cpu"), lines("emulator"));
        assert_eq!(lines("emulator --batch-tokens 1"), emulated, "{measure}");
        assert_eq!(cpu.len(), emulated.len());
        for (cpu, emulated) in cpu.iter().zip(&emulated) {
            for name in ["prediction", "prediction_norm", "is_greedy", "tokens"] {
                assert_eq!(emulated[name], cpu[name], "{measure} {name}");
            }
            let [cpu, emulated] = [cpu, emulated].map(|line| match &line["loglikelihood"] {
                Value::Null => numbers(&line["loglikelihoods"]),
                one => numbers(&json!([one])),
            });
            assert_eq!(cpu.len(), emulated.len());
            let near = |(cpu, emulated): (&f64, &f64)| (cpu - emulated).abs() <= 1e-4;
            assert!(cpu.iter().zip(&emulated).all(near), "{measure}: {emulated:?} against {cpu:?}");
        }
    }
}

/// An edit without its probabilities, which agree to rounding only.
fn without_p(edit: &Value) -> Value {
    let mut edit = edit.as_object().unwrap().clone();
    edit.retain(|name, _| !name.starts_with("p_"));
    edit.into()
}

#[test]
fn devices_that_are_not_there_are_named() {
    let place = Place::with_input("{\"text\": \"a\"}\n");
    let missing =
        ["cuda", "cuda:63", "emulator"].into_iter().filter(|name| *name != "emulator" || !has_emulator());
    // A machine may have one GPU.
    for device in missing.filter(|name| *name != "cuda" || Device::auto() == Device::Cpu) {
        for command in ["score", "edit"] {
            let words =
                format!("{command} --model tiny --input in.jsonl --output out.jsonl --device {device}");
            place.run(&words).fails(&[&format!("device `{device}"), "--device cpu"]);
        }
    }
    assert_eq!(place.names(), ["in.jsonl"]);
}
