//! Parquet through the command; files as pyarrow writes them, where `TOEDIT_PARQUET_PYTHON` names a Python that has it.

mod responses;

use std::path::Path;
use std::process::Command;

use crate::Place;
use crate::edit::MANY;

/// A file as lines of JSON.
#[track_caller]
fn lines(place: &Place, name: &str) -> Vec<serde_json::Value> {
    lines_of(place, name, "")
}

#[track_caller]
fn lines_of(place: &Place, name: &str, words: &str) -> Vec<serde_json::Value> {
    // A threshold above 1 changes nothing.
    let words = format!("--input {name} --output - --resample-above 2 --no-metadata {words}");
    place.run(&format!("edit --model {} {words}", model(place))).done().records()
}

/// The model of a place: with a chat template where there is one.
fn model(place: &Place) -> &'static str {
    if place.path("copy").exists() { "copy" } else { "tiny" }
}

#[test]
fn json_lines_to_parquet_and_back() {
    let place = Place::with_sample(8);
    let original = place.records("in.jsonl");
    place.edit("--input in.jsonl --output in.parquet --resample-above 2 --no-metadata").done();
    for (before, after) in original.iter().zip(lines(&place, "in.parquet")) {
        assert_eq!(after["text"], before["text"]);
        let rest: serde_json::Value = serde_json::from_str(after["json"].as_str().unwrap()).unwrap();
        for (name, value) in before.as_object().unwrap().iter().filter(|(name, _)| *name != "text") {
            assert_eq!(&rest[name], value);
        }
    }
    place.edit(&format!("--input in.parquet --output out.parquet --provenance {MANY}")).done();
    place.edit(&format!("--input in.parquet --output out.jsonl --provenance {MANY}")).done();
    let edited = place.records("out.jsonl");
    assert!(edited.iter().any(|record| record["toedit"]["changed"] != 0));
    // The same edits, whatever the output.
    let rows = place.run("revert out.parquet --output back.jsonl").done();
    assert!(rows.stderr.contains("8 documents"), "{}", rows.stderr);
    place.run("revert out.parquet --output back.parquet").done();
    place.run("revert out.jsonl --output lines.jsonl").done();
    assert_eq!(place.read("back.jsonl"), place.read("lines.jsonl"));
    assert_eq!(lines(&place, "back.parquet"), lines(&place, "in.parquet"));
    place.run("verify out.parquet back.parquet").done();
    let texts = |records: Vec<serde_json::Value>| -> Vec<_> {
        records.into_iter().map(|mut record| record["text"].take()).collect()
    };
    place.edit("--input out.parquet --output again.jsonl --resample-above 2 --no-metadata").done();
    assert_eq!(texts(place.records("again.jsonl")), texts(edited));
}

#[test]
fn ids_go_into_a_column_of_their_own() {
    let place = Place::with_sample(3);
    place.edit(&format!("--input in.jsonl --output both.parquet --emit both {MANY}")).done();
    place.edit(&format!("--input in.jsonl --output ids.parquet --emit ids {MANY}")).done();
    let both = lines(&place, "both.parquet");
    let ids = lines(&place, "ids.parquet");
    for (both, ids) in both.iter().zip(&ids) {
        assert!(both["text"].is_string() && ids.get("text").is_none());
        assert!(both["input_ids"].as_array().is_some_and(|both| !both.is_empty()));
        assert_eq!(both["input_ids"], ids["input_ids"]);
    }
    // Ids are scored without a tokenizer, and edited in their column.
    place.edit(&format!("--input ids.parquet --output out.parquet --provenance {MANY}")).done();
    place.run("revert out.parquet --output back.parquet").done();
    assert_eq!(lines(&place, "back.parquet"), ids);
}

#[test]
fn a_folder_and_scores() {
    let place = Place::with_sample(4);
    place.edit("--input in.jsonl --output corpus/a.parquet --resample-above 2 --no-metadata").exits_with(1);
    std::fs::create_dir(place.path("corpus")).unwrap();
    place.edit("--input in.jsonl --output corpus/a.parquet --resample-above 2 --no-metadata").done();
    place.put("corpus/b.jsonl", place.bytes("in.jsonl"));
    place.edit(&format!("--input corpus --output out {MANY}")).done();
    assert!(place.path("out/a.parquet").is_file() && place.path("out/b.jsonl").is_file());
    place.score("--input corpus --output scores").done();
    let nll = |name: &str| -> Vec<_> {
        place.records(name).into_iter().map(|record| record["nll"].clone()).collect()
    };
    assert_eq!(nll("scores/a.jsonl"), nll("scores/b.jsonl"));
    place
        .edit(&format!("--input corpus --output one.parquet {MANY}"))
        .fails(&["one is Parquet, the other is not"]);
    place.score("--input corpus/a.parquet --output x.parquet").fails(&["expected .jsonl"]);
    place.put("cut.parquet", &place.bytes("corpus/a.parquet")[..500]);
    place
        .edit("--input cut.parquet --output never.parquet")
        .fails(&["cut.parquet", "does not end with PAR1"]);
}

#[test]
fn bad_rows_follow_the_policy() {
    let place = Place::new();
    // The second record is ids beside texts: a null text for whoever reads texts alone.
    let long = "x ".repeat(100);
    place.put(
        "in.jsonl",
        format!("{{\"text\":\"one\",\"n\":1}}\n{{\"text\":\"{long}\"}}\n{{\"text\":\"three\"}}\n"),
    );
    place.edit("--input in.jsonl --output in.parquet --resample-above 2 --no-metadata").done();
    let limit = "--input in.parquet --max-document-bytes 150";
    place.edit(&format!("{limit} --output stop.parquet")).fails(&["in.parquet:2: ", "more than 150 bytes"]);
    place.edit(&format!("{limit} --output skip.parquet --on-error skip {MANY}")).exits_with(3);
    assert_eq!(lines(&place, "skip.parquet").len(), 2);
    let reject = place.json("skip.parquet.rejects");
    assert_eq!((reject["line"].as_u64(), reject["file"].as_str()), (Some(2), Some("in.parquet")));
    assert!(reject["raw"].as_str().unwrap().contains(&long));
    place.edit(&format!("{limit} --output pass.parquet --on-error pass --emit ids {MANY}")).exits_with(3);
    let passed = lines(&place, "pass.parquet");
    assert_eq!(passed.len(), 3);
    assert_eq!(passed[1]["text"].as_str(), Some(&*long));
    assert!(passed[0]["text"].is_null() && passed[0]["input_ids"].is_array());
}

#[test]
fn a_killed_run_is_resumed_to_the_same_bytes() {
    let place = Place::new();
    let sample = place.read("sample.jsonl");
    place.put("in.jsonl", sample.repeat(3));
    place.edit("--input in.jsonl --output in.parquet --resample-above 2 --no-metadata").done();
    let words = format!(
        "edit --model tiny --input in.parquet --provenance --frame-bytes 20000 --batch-tokens 512 {MANY}"
    );
    place.run(&format!("{words} --output whole.parquet")).done();
    for delay in [5, 60, 200, 400] {
        let mut child = place.command(&format!("{words} --output out.parquet --quiet")).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(delay));
        child.kill().unwrap();
        child.wait().unwrap();
        place.run(&format!("{words} --output out.parquet --resume")).done();
        assert!(place.bytes("out.parquet") == place.bytes("whole.parquet"), "killed after {delay} ms");
        place.run("verify out.parquet").done();
        std::fs::remove_file(place.path("out.parquet")).unwrap();
        std::fs::remove_file(place.path("out.parquet.manifest")).unwrap();
    }
}

/// All of Arrow's types beside the text, four kinds of text column, old and new encodings.
#[test]
fn pyarrow_reads_what_is_written() {
    let Some(python) = std::env::var_os("TOEDIT_PARQUET_PYTHON") else {
        eprintln!("TOEDIT_PARQUET_PYTHON is not set: nothing tested");
        return;
    };
    let place = Place::new();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/parquet.py");
    let check = |words: &str| {
        let mut command = Command::new(&python);
        command.arg(&script).args(words.split_whitespace()).current_dir(place.folder.path());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
    };
    check("write .");
    for kind in ["string", "large_string", "string_view", "dictionary", "old", "empty"] {
        let words = format!("--input in-{kind}.parquet --provenance --frame-bytes 5000 {MANY}");
        place.edit(&format!("{words} --output out-{kind}.parquet")).done();
        check(&format!("compare in-{kind}.parquet out-{kind}.parquet toedit"));
        place.run(&format!("revert out-{kind}.parquet --output back-{kind}.parquet")).done();
        check(&format!("same in-{kind}.parquet back-{kind}.parquet"));
        place.edit(&format!("{words} --output both-{kind}.parquet --emit both")).done();
        check(&format!("compare in-{kind}.parquet both-{kind}.parquet input_ids toedit"));
        place.edit(&format!("{words} --output out-{kind}.jsonl")).done();
        check(&format!("lines in-{kind}.parquet out-{kind}.jsonl"));
    }
    // A row is the same document as a line: the same edits.
    check("table sample.jsonl sample.parquet");
    place.edit(&format!("--input sample.parquet --output rows.jsonl {MANY}")).done();
    place.edit(&format!("--input sample.jsonl --output lines.jsonl {MANY}")).done();
    assert_eq!(place.records("rows.jsonl"), place.records("lines.jsonl"));
}
