//! Score caches: many rules share one pass over the model.

use std::fs;

use serde_json::{Value, json};

use crate::Place;
use crate::sft::{FIELDS, conversations, place};

/// Rules and samplers that the 16 largest logits suffice for.
const RULES: [&str; 5] = [
    "--resample-above 0.3",
    "--resample-above 0.5 --temperature 3 --top-k 16 --seed 7",
    "--resample-below 0.2 --drop-above 0.95 --top-k 1 --exclude-original",
    "--strategy filtering",
    "--rule 0.1<=p<0.9:resample --top-k 3 --provenance --emit both",
];

/// Makes the cache `cache` of `in.jsonl`.
fn score(place: &Place, words: &str) {
    place
        .run(&format!("score --input in.jsonl --output scores.jsonl --top-k 16 --cache cache {words}"))
        .done();
}

/// Edits `in.jsonl` with the model and from the cache, and asserts that the bytes are the same.
#[track_caller]
fn same(place: &Place, words: &str) {
    let edit =
        |more: &str| place.run(&format!("edit --input in.jsonl --output - {words} {more}")).done().stdout;
    let direct = edit("");
    assert!(direct == edit("--from-cache cache"), "{words}");
    assert!(words.contains("filtering") || direct != place.read("in.jsonl"));
}

#[test]
fn many_rules_share_one_pass() {
    let place = Place::with_sample(6);
    score(&place, "--model tiny");
    for rules in RULES {
        same(&place, &format!("--model tiny {rules}"));
    }
    assert_eq!(place.names(), ["cache", "in.jsonl", "scores.jsonl"]);
    let mut names: Vec<_> =
        fs::read_dir(place.path("cache")).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, [".lock", "cache.json", "scores-00000.bin"]);
    // Lines are as without a cache, and hold no tokens unless they are asked for.
    let lines = place.score("--input in.jsonl --output -").done().stdout;
    assert_eq!(place.read("scores.jsonl"), lines);
}

#[test]
fn every_kind_of_record_is_found_again() {
    let place = place();
    let records = place.read("in.jsonl");
    for (input, words) in [
        (records, format!("--model tiny {FIELDS}")),
        (conversations(&place), "--model copy".to_owned()),
        (conversations(&place), "--model tiny --no-prompt-context".to_owned()),
        (
            "{\"input_ids\":[5,6,7,8,9]}\n{\"input_ids\":[]}\n{\"text\":\"\"}\n{\"text\":\"The\"}\n"
                .to_owned(),
            "--model tiny --bos never".to_owned(),
        ),
    ] {
        place.put("in.jsonl", input);
        score(&place, &format!("--overwrite {words}"));
        same(&place, &format!("{words} --resample-above 0.1 --temperature 2"));
    }
}

#[test]
fn in_windows_and_in_any_order() {
    let place = Place::with_sample(6);
    let windows = "--model tiny --max-length 40 --overlap 10 --batch-tokens 100";
    score(&place, windows);
    same(&place, &format!("{windows} --resample-above 0.2"));
    // A part of the corpus, backwards and twice.
    let text = place.read("in.jsonl");
    let mut lines: Vec<_> = text.split_inclusive('\n').rev().take(4).collect();
    lines.push(lines[0]);
    place.put("in.jsonl", lines.concat());
    same(&place, &format!("{windows} --resample-above 0.2"));
}

#[test]
fn an_edit_can_keep_its_scores() {
    let place = Place::with_sample(4);
    let edit = |words: &str| place.edit(&format!("--input in.jsonl --resample-above 0.3 {words}"));
    let direct = edit("--output - --top-k 12").done().stdout;
    edit("--output kept.jsonl --top-k 12 --cache cache").done();
    assert_eq!(place.read("kept.jsonl"), direct);
    assert_eq!(edit("--output - --top-k 12 --from-cache cache").done().stdout, direct);
    same(&place, "--model tiny --resample-above 0.1 --top-k 5");
    edit("--output - --top-k 13 --from-cache cache")
        .fails_with(2, &["k = 13", "holds the 12 largest logits"]);
    let again = edit("--output again.jsonl --cache cache");
    again.fails(&["cache", "holds a cache already (--overwrite replaces it)"]);
    edit("--output kept.jsonl --overwrite --cache cache --top-k 2").done();
    assert_eq!(place.json("cache/cache.json")["settings"]["top_k"], 2);
}

#[test]
fn what_a_cache_does_not_suffice_for_is_refused() {
    let place = Place::with_sample(1);
    score(&place, "--model tiny");
    let edit = |words: &str| place.edit(&format!("--input in.jsonl --output - {words}"));
    for sampler in ["full", "rejection", "top-p --top-p 0.999"] {
        for flag in ["--from-cache cache", "--cache other"] {
            let name = sampler.split(' ').next().unwrap();
            edit(&format!("{flag} --sampler {sampler}")).fails_with(2, &["largest logits alone", name]);
        }
    }
    edit("--from-cache cache --top-k 17").fails_with(2, &["k = 17", "the 16 largest"]);
    edit("--from-cache cache --generations 2").fails_with(2, &["one generation"]);
    assert_eq!(edit("--from-cache cache --cache other").status, 2);
    assert_eq!(place.score("--input in.jsonl --output - --cache other").status, 2);
    let both = place.score("--input in.jsonl --output other --top-k 2 --cache other");
    both.fails_with(2, &["--output and --cache are both other"]);
    for words in ["score --top-k 2", "edit --top-k 2"] {
        let resumed = place
            .run(&format!("{words} --model tiny --input in.jsonl --output x.jsonl --cache other --resume"));
        resumed.fails_with(2, &["--cache begins anew", "--resume"]);
    }
}

#[test]
fn a_cache_of_other_settings_is_refused_by_the_difference() {
    let place = Place::with_sample(1);
    score(&place, "--model tiny --dtype f32");
    let edit =
        |words: &str| place.run(&format!("edit --input in.jsonl --output - --from-cache cache {words}"));
    edit("--model tiny").done();
    edit("--model tiny --dtype f32 --device cpu").done();
    for (words, parts) in [
        ("--model tiny --max-length 64", ["made with `max_length`", "this run has 64"]),
        ("--model tiny --overlap 3", ["made with `overlap`", "this run has 3"]),
        ("--model tiny --truncate", ["made with `truncate` false", "this run has true"]),
        ("--model tiny --bos never", ["made with `bos` \"auto\"", "this run has \"never\""]),
        ("--model tiny --no-prompt-context", ["made with `prompt_context` true", "this run has false"]),
        ("--model tiny --dtype bf16", ["made with `dtype` \"f32\"", "this run has \"bf16\""]),
        ("--model tiny --device emulator", ["made with `device` \"cpu", "this run has \"emulator"]),
    ] {
        edit(words).fails(&parts);
    }
    place.copy_model();
    place.change("copy/config.json", |config| config["rms_norm_eps"] = json!(1e-4));
    edit("--model copy").fails(&["cache: made with `model`", "score again"]);
}

#[test]
fn a_document_that_is_missing_is_named() {
    let place = Place::with_sample(2);
    score(&place, "--model tiny");
    let text = place.read("in.jsonl") + "{\"text\":\"Something else\"}\n";
    place.put("in.jsonl", text);
    let edit = place.edit("--input in.jsonl --output - --from-cache cache --quiet");
    edit.fails(&["in.jsonl:3", "not in the score cache"]);
}

#[test]
fn a_damaged_or_unfinished_cache_is_refused() {
    let place = Place::with_sample(3);
    score(&place, "--model tiny");
    let whole = place.bytes("cache/scores-00000.bin");
    let edit = || place.edit("--input in.jsonl --output - --from-cache cache");
    let name = "cache/scores-00000.bin";
    for length in [0, 10, whole.len() / 2, whole.len() - 1] {
        place.put(name, &whole[..length]);
        edit().fails(&["scores-00000.bin", "damaged, score again"]);
    }
    place.put(name, [&whole[..], b"x"].concat());
    edit().fails(&["scores-00000.bin", "damaged"]);
    let step = (whole.len() / 40).max(1);
    for at in (0..whole.len()).step_by(step).chain([whole.len() - 1]) {
        let mut flipped = whole.clone();
        flipped[at] ^= 4;
        place.put(name, flipped);
        edit().fails(&["scores-00000.bin", "damaged"]);
    }
    place.put(name, &whole);
    edit().done();
    let manifest = place.bytes("cache/cache.json");
    place.put("cache/cache.json", &manifest[..manifest.len() / 2]);
    edit().fails(&["cache.json", "damaged"]);
    fs::remove_file(place.path("cache/cache.json")).unwrap();
    edit().fails(&["no cache.json: no cache, or the run that writes it has not come to its end"]);
    fs::remove_file(place.path(name)).unwrap();
    place.put("cache/cache.json", &manifest);
    edit().fails(&["scores-00000.bin"]);
}

#[test]
fn a_run_that_fails_leaves_the_cache_that_was_there() {
    let place = Place::with_sample(2);
    score(&place, "--model tiny");
    let before: Value = place.json("cache/cache.json");
    place.put("bad.jsonl", place.read("in.jsonl") + "{\n");
    let failed =
        place.score("--input bad.jsonl --output other.jsonl --top-k 4 --cache cache --overwrite --quiet");
    failed.fails(&["bad.jsonl:3"]);
    assert_eq!(place.json("cache/cache.json"), before);
    same(&place, "--model tiny --resample-above 0.3");
    place.put("mine/notes.txt", "x");
    let taken = place.score("--input in.jsonl --output - --top-k 4 --cache mine");
    taken.fails(&["holds `notes.txt`, expected a folder for the cache alone"]);
    // Nothing scored is a cache too.
    place.put("empty.jsonl", "");
    place.score("--input empty.jsonl --output - --top-k 4 --cache nothing").done();
    place.edit("--input empty.jsonl --output - --from-cache nothing --top-k 4").done();
    place
        .edit("--input in.jsonl --output - --from-cache nothing --quiet --top-k 4")
        .fails(&["in.jsonl:1", "not in the score cache"]);
}
