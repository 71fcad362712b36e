//! `toedit revert`: the original, from edited records.

use serde_json::{Value, json};

use crate::Place;
use crate::edit::escaped;

/// Settings that change and drop many tokens, characters taken apart included.
const HEAVY: &str = "--resample-above 0.3 --drop-below 0.005 --sampler full --temperature 3 --provenance";

fn has_escapes(line: &str) -> bool {
    line.contains("\\u") || line.contains("\\/")
}

#[test]
fn the_whole_sample_comes_back() {
    let place = Place::new();
    place.edit(&format!("--input sample.jsonl --output edited.jsonl {HEAVY}")).done();
    let outcome = place.run("revert edited.jsonl --output back.jsonl --summary s.json").done();
    let (back, sample) = (place.read("back.jsonl"), place.read("sample.jsonl"));
    assert_eq!(back.lines().count(), sample.lines().count());
    for (line, original) in back.lines().zip(sample.lines()) {
        if has_escapes(original) {
            // An escape inside a changed token comes back as the character it spells.
            let [line, original] = [line, original].map(|line| serde_json::from_str::<Value>(line).unwrap());
            assert_eq!(line, original);
        } else {
            assert_eq!(line, original);
        }
    }
    let edits = place
        .records("edited.jsonl")
        .iter()
        .map(|r| r["toedit"]["edits"].as_array().unwrap().len())
        .sum::<usize>();
    let summary = place.json("s.json");
    assert_eq!((&summary["documents"], &summary["reverted"]), (&json!(back.lines().count()), &json!(edits)));
    assert_eq!(outcome.stderr, format!("36 documents, {edits} tokens reverted\n"));
}

#[test]
fn escapes_outside_the_edits_keep_their_spelling() {
    let place = Place::new();
    place.put("in.jsonl", escaped(&place));
    let words = "--input in.jsonl --output edited.jsonl --resample-above 0.9 --exclude-original --provenance";
    place.edit(words).done();
    assert_ne!(place.records("edited.jsonl")[0]["toedit"]["changed"], 0);
    assert_eq!(place.run("revert edited.jsonl --output -").done().stdout, place.read("in.jsonl"));
}

#[test]
fn ids_come_back_in_every_form() {
    let place = Place::with_sample(4);
    let ids = place.score("--input in.jsonl --output - --per-token").done().records();
    for form in ["ids", "both"] {
        place
            .edit(&format!("--input in.jsonl --output edited.jsonl --overwrite --emit {form} {HEAVY}"))
            .done();
        let back = place.run("revert edited.jsonl --output -").done().records();
        for ((back, ids), original) in back.iter().zip(&ids).zip(place.records("in.jsonl")) {
            assert_eq!(back["input_ids"], ids["input_ids"]);
            assert_eq!(back.get("text"), original.get("text").filter(|_| form == "both"));
            assert!(back.get("toedit").is_none());
        }
    }
    // Ids in, ids out, the same.
    let lines = ids.iter().map(|record| format!("{{\"input_ids\":{},\"k\":1}}\n", record["input_ids"]));
    let lines: String = lines.collect();
    place.put("ids.jsonl", &lines);
    place.edit(&format!("--input ids.jsonl --output edited.jsonl --overwrite {HEAVY}")).done();
    assert_ne!(place.read("edited.jsonl"), lines);
    assert_eq!(place.run("revert edited.jsonl --output -").done().stdout, lines);
}

/// Ids that stood beside the text before the edit went through it, and go through its reversal.
#[test]
fn ids_that_were_not_edited_stay() {
    let line = "{\"text\":\"The President of the United States of America\",\"input_ids\":[1, 2,3]}\n";
    let place = Place::with_input(line);
    place.edit(&format!("--input in.jsonl --output edited.jsonl {HEAVY}")).done();
    assert!(place.read("edited.jsonl").contains("\"input_ids\":[1, 2,3]"));
    assert_eq!(place.run("revert edited.jsonl --output -").done().stdout, line);
}

#[test]
fn compressed_from_standard_input_and_under_another_name() {
    let place = Place::new();
    let sample = place.read("sample.jsonl").lines().take(2).collect::<Vec<_>>().join("\n") + "\n";
    place.put("in.jsonl", sample.replace("\"text\"", "\"body\""));
    place.edit(&format!("--input in.jsonl --output edited.jsonl.gz --text-field body {HEAVY}")).done();
    place.run("revert edited.jsonl.gz --output back.jsonl --text-field body").done();
    assert!(place.bytes("back.jsonl") == place.bytes("in.jsonl"));
    let outcome =
        place.run_with("revert - --output - --text-field body --quiet", &place.bytes("edited.jsonl.gz"));
    assert_eq!((outcome.stdout.as_bytes(), outcome.stderr.as_str()), (&place.bytes("in.jsonl")[..], ""));
    place.run("revert edited.jsonl.gz --output -").fails(&["edited.jsonl.gz:1", "`text`"]);
}

#[test]
fn records_that_cannot_be_reverted_are_named() {
    let record = |changed: u64, edits: &str| {
        format!(
            "{{\"text\":\"ab\",\"toedit\":{{\"tokens\":2,\"scored\":2,\"eligible\":1,\"changed\":{changed},\"dropped\":0,\
             \"not_editable\":0,\"no_alternative\":0,\"windows\":1{edits}}}}}\n"
        )
    };
    let edit = |start: u64, new: &str| {
        format!(
            ",\"edits\":[{{\"position\":0,\"byte_start\":0,\"byte_end\":1,\"out_byte_start\":{start},\
             \"out_byte_end\":{},\"old_id\":1,\"new_id\":2,\"old\":\"x\",\"new\":\"{new}\",\"p_old\":1.0,\"p_new\":0.1}}]",
            start + 1
        )
    };
    for (line, part) in [
        ("{\"text\":\"a\"}\n".to_owned(), "no `toedit` object"),
        ("{\"text\":\"a\",\"toedit\":5}\n".to_owned(), "member `toedit`"),
        ("{\"text\":\"a\",\"toedit\":{}}\n".to_owned(), "member `toedit`"),
        (record(1, ""), "--provenance"),
        (record(1, &edit(0, "z")), "other bytes"),
        (record(1, &edit(1, "b")), "do not agree"),
        (record(1, &edit(18_446_744_073_709_551_614, "a")), "outside the text"),
        (
            record(1, ",\"edits\":[{\"position\":0,\"old_id\":1,\"new_id\":2,\"p_old\":1.0,\"p_new\":0.1}]"),
            "no bytes",
        ),
    ] {
        let place = Place::with_input(&format!("{}{line}", record(0, "")));
        place.run("revert in.jsonl --output back.jsonl").fails(&["in.jsonl:2", part]);
        assert!(!place.unfinished().is_empty() && !place.path("back.jsonl").exists());
    }
    let place = Place::with_input(&record(1, &edit(0, "a")));
    assert_eq!(place.run("revert in.jsonl --output -").done().stdout, "{\"text\":\"xb\"}\n");
}

#[test]
fn a_text_file_has_no_provenance() {
    let place = Place::new();
    place.put("edited.txt", "The United States");
    place.run("revert edited.txt --output back.txt").fails(&["edited.txt:1", "no `toedit` object"]);
}
