//! `toedit edit`: what becomes of a record.

use serde_json::{Value, json};

use crate::Place;

/// Settings that change many tokens.
pub const MANY: &str = "--resample-above 0.3 --temperature 2";
/// Settings that change nearly every token.
pub const ALL: &str = "--resample-above 0 --exclude-original";

#[test]
fn without_an_edit_the_bytes_are_the_inputs() {
    let place = Place::new();
    let sample = place.read("sample.jsonl");
    let outcome = place.edit("--input sample.jsonl --output - --rule p>1:drop --no-metadata").done();
    assert!(outcome.stdout == sample);
    assert!(outcome.stderr.contains("0 eligible, 0 changed"), "{}", outcome.stderr);

    let outcome = place.edit("--input sample.jsonl --output - --rule p>1:drop").done();
    for (line, original) in outcome.stdout.lines().zip(sample.lines()) {
        let start = format!("{},\"toedit\":{{\"tokens\":", original.strip_suffix('}').unwrap());
        assert!(line.starts_with(&start) && line.ends_with("}}"), "{line}");
    }
}

#[test]
fn a_record_keeps_everything_but_text_and_metadata() {
    let place = Place::with_input(concat!(
        r#"{ "id" : "x" ,"n":1.00e+2, "text" : "The United States of America and the United States", "#,
        r#""toedit":{"old":1} , "u":"\u00e9\/", "deep":[{"toedit":2}] }"#,
        "\r\n",
    ));
    let outcome = place.edit(&format!("--input in.jsonl --output - {ALL}")).done();
    let line = outcome.stdout.strip_suffix('\n').unwrap();
    let (start, rest) = line.split_once(r#""text" : ""#).unwrap();
    assert_eq!(start, r#"{ "id" : "x" ,"n":1.00e+2, "#);
    let (text, rest) = rest.split_once("\" , \"u\"").unwrap();
    assert_ne!(text, "The United States of America and the United States");
    let (middle, metadata) = rest.split_once(r#","toedit":"#).unwrap();
    assert_eq!(middle, r#":"\u00e9\/", "deep":[{"toedit":2}]"#);
    let metadata: Value = serde_json::from_str(metadata.trim_end().strip_suffix('}').unwrap()).unwrap();
    assert!(metadata["changed"].as_u64() > Some(0) && metadata.get("old").is_none(), "{metadata}");
}

#[test]
fn unedited_escapes_keep_their_spelling() {
    let place = Place::new();
    place.put("in.jsonl", escaped(&place));
    let words = "--input in.jsonl --output - --resample-above 0.9 --exclude-original";
    let out = place.edit(words).done().stdout;
    assert!(out.starts_with(r#"{"text":"caf\u00e9 \ud83d\ude00 \/ \u0047eography"#), "{out}");
    assert!(out.contains(r#" \u0041","n": 1.0,"toedit":{"#), "{out}");
    assert_ne!(serde_json::from_str::<Value>(&out).unwrap()["toedit"]["changed"], 0);
}

/// A text that the model knows well in its middle, with escapes that JSON does not need at its ends.
pub fn escaped(place: &Place) -> String {
    let facts = place.records("sample.jsonl")[0]["text"].to_string();
    let facts = facts.trim_matches('"').strip_prefix('G').unwrap();
    format!(r#"{{"text":"caf\u00e9 \ud83d\ude00 \/ \u0047{facts} \u0041","n": 1.0}}"#) + "\n"
}

#[test]
fn what_is_emitted_is_text_ids_or_both() {
    let place = Place::with_sample(3);
    let edit =
        |words: &str| place.edit(&format!("--input in.jsonl --output - {MANY} {words}")).done().records();
    let [text, ids, both] = ["text", "ids", "both"].map(|form| edit(&format!("--emit {form}")));
    assert_eq!(edit(""), text);
    for ((text, ids), both) in text.iter().zip(&ids).zip(&both) {
        assert!(text["text"].is_string() && text.get("input_ids").is_none());
        assert!(ids.get("text").is_none());
        let tokens = ids["toedit"]["tokens"].as_u64().unwrap() as usize;
        assert_eq!(ids["input_ids"].as_array().unwrap().len(), tokens);
        assert_eq!((&both["text"], &both["input_ids"]), (&text["text"], &ids["input_ids"]));
        assert_eq!((&text["toedit"], &text["id"]), (&ids["toedit"], &ids["id"]));
    }
    for record in edit("--no-metadata") {
        assert!(record.get("toedit").is_none());
    }
}

/// Ids need no tokenizer, and come out where the text would.
#[test]
fn ids_in_ids_out() {
    let place = Place::with_sample(2);
    place.copy_model();
    std::fs::remove_file(place.path("copy/tokenizer.json")).unwrap();
    let scored = place.score("--input in.jsonl --output - --per-token").done().records();
    let lines =
        scored.iter().map(|record| format!("{}\n", json!({"k": 1, "input_ids": record["input_ids"]})));
    place.put("ids.jsonl", lines.collect::<String>());
    for form in ["text", "ids", "both"] {
        let words =
            format!("edit --model copy --input ids.jsonl --output - {MANY} --emit {form} --bos always");
        let outcome = place.run(&words).done();
        for (line, original) in outcome.stdout.lines().zip(&scored) {
            assert!(
                line.starts_with(r#"{"input_ids":["#) && line.contains(r#"],"k":1,"toedit":{"#),
                "{line}"
            );
            let record: Value = serde_json::from_str(line).unwrap();
            let [new, old] = [&record, original].map(|record| record["input_ids"].as_array().unwrap());
            let changed = new.iter().zip(old).filter(|(new, old)| new != old).count();
            assert_eq!((new.len(), json!(changed)), (old.len(), record["toedit"]["changed"].clone()));
            assert!(changed > 0 && record.get("text").is_none());
        }
    }
    let outcome = place.run("edit --model copy --input in.jsonl --output -");
    outcome.fails(&["in.jsonl:1", "tokenizer.json", "input_ids"]);
}

#[test]
fn the_text_may_have_another_name() {
    let place = Place::with_input("{\"text\":5,\"body\":\"The United States of America\"}\n");
    let outcome = place.edit(&format!("--input in.jsonl --output - --text-field body {MANY}")).done();
    assert!(outcome.stdout.starts_with(r#"{"text":5,"body":""#), "{}", outcome.stdout);
    let score = place.score("--input in.jsonl --output - --text-field body").done();
    assert_eq!(score.records()[0]["tokens"], outcome.records()[0]["toedit"]["tokens"]);
    for field in ["id", "input_ids", "toedit"] {
        let outcome = place.edit(&format!("--input in.jsonl --output - --text-field {field}"));
        outcome.fails_with(2, &[&format!("`{field}`")]);
    }
}

#[test]
fn what_lies_beyond_the_window_is_passed_through() {
    let text = "The President of the United States of America. ".repeat(30);
    let place = Place::with_input(&format!("{}\n", json!({ "text": text })));
    let words = format!("--input in.jsonl --output - {MANY} --max-length 64 --overlap 32");
    let [whole, cut] = ["", "--truncate"]
        .map(|way| place.edit(&format!("{words} {way} --provenance")).done().records().remove(0));
    let count = |record: &Value, name: &str| record["toedit"][name].as_u64().unwrap();
    assert_eq!((count(&cut, "windows"), count(&cut, "scored")), (1, 63));
    assert_eq!(count(&whole, "scored"), count(&whole, "tokens"));
    assert!(count(&cut, "changed") < count(&whole, "changed"));
    let edits = cut["toedit"]["edits"].as_array().unwrap();
    assert!(edits.iter().all(|edit| edit["position"].as_u64().unwrap() < 63));
    // The first window's edits do not depend on what follows it.
    assert_eq!(edits[..], whole["toedit"]["edits"].as_array().unwrap()[..edits.len()]);
    assert!(cut["text"].as_str().unwrap().ends_with(&text[text.len() / 2..]));
}

#[test]
fn the_seed_decides_the_draws() {
    let place = Place::with_sample(2);
    let edit = |words: &str| place.edit(&format!("--input in.jsonl --output - {MANY} {words}")).done().stdout;
    let [default, zero, one] = ["", "--seed 0", "--seed 1"].map(edit);
    assert!(default == zero && zero != one);
    assert!(edit("--seed 18446744073709551615") != one);
    // Equal documents with equal ids are edited equally, whatever stands between them.
    let sample = place.read("in.jsonl");
    place.put("twice.jsonl", format!("{sample}{{\"text\":\"between\"}}\n{sample}"));
    let twice = place.edit(&format!("--input twice.jsonl --output - {MANY}")).done().stdout;
    assert!(twice.starts_with(&zero) && twice.ends_with(&zero));
}
