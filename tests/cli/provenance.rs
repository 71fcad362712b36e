//! `--provenance`: every edit with its place in both texts.

use serde_json::Value;

use crate::Place;

/// A token's bytes as provenance writes them.
fn piece(value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => text.clone().into_bytes(),
        _ => {
            let hex = value["hex"].as_str().unwrap();
            (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
        }
    }
}

fn number(edit: &Value, name: &str) -> usize {
    edit[name].as_u64().unwrap() as usize
}

/// Checks each edit of a record against both texts, and that nothing else differs.
fn check(before: &str, record: &Value) {
    let after = record["text"].as_str().unwrap().as_bytes();
    let edits = record["toedit"]["edits"].as_array().unwrap();
    let (mut rebuilt, mut copied, mut next) = (Vec::new(), 0, 0);
    for edit in edits {
        assert!(number(edit, "position") >= next, "{edit}");
        next = number(edit, "position") + 1;
        let (old, new) = (piece(&edit["old"]), piece(&edit["new"]));
        let [start, end] = ["byte_start", "byte_end"].map(|name| number(edit, name));
        let [out_start, out_end] = ["out_byte_start", "out_byte_end"].map(|name| number(edit, name));
        assert_eq!(
            (&before.as_bytes()[start..end], &after[out_start..out_end]),
            (&old[..], &new[..]),
            "{edit}"
        );
        assert_eq!(edit["new_id"].is_null(), edit["p_new"].is_null());
        assert_ne!(edit["old_id"], edit["new_id"]);
        let p = edit["p_old"].as_f64().unwrap();
        assert!(if edit["new_id"].is_null() { p < 0.002 } else { p >= 0.3 }, "{edit}");
        rebuilt.extend_from_slice(&before.as_bytes()[copied..start]);
        assert_eq!(rebuilt.len(), out_start);
        rebuilt.extend_from_slice(&new);
        copied = end;
    }
    rebuilt.extend_from_slice(&before.as_bytes()[copied..]);
    assert!(rebuilt == after, "{record}");
    let dropped = edits.iter().filter(|edit| edit["new_id"].is_null()).count();
    assert_eq!(
        (number(&record["toedit"], "dropped"), number(&record["toedit"], "changed")),
        (dropped, edits.len() - dropped)
    );
}

#[test]
fn edits_say_what_stood_where() {
    let place = Place::new();
    let words = "--resample-above 0.3 --drop-below 0.002 --sampler full --temperature 3 --provenance";
    let records = place.edit(&format!("--input sample.jsonl --output - {words}")).done().records();
    let originals = place.records("sample.jsonl");
    assert_eq!(records.len(), originals.len());
    for (record, original) in records.iter().zip(&originals) {
        check(original["text"].as_str().unwrap(), record);
    }
    let edits = records.iter().flat_map(|record| record["toedit"]["edits"].as_array().unwrap());
    let hex = edits.filter(|edit| edit["old"]["hex"].is_string() && edit["new"]["hex"].is_string()).count();
    assert!(hex > 0, "no edit inside a character");
}

#[test]
fn edits_of_ids_have_no_bytes() {
    let place =
        Place::with_input("{\"input_ids\":[970,308,460,402,322,26,374,3260,287,263,298,438,356,78]}\n");
    let words = "--input in.jsonl --output - --provenance --resample-above 0 --exclude-original";
    let record = place.edit(words).done().records().remove(0);
    let edits = record["toedit"]["edits"].as_array().unwrap();
    assert_eq!(edits.len(), 13);
    for edit in edits {
        assert_eq!(record["input_ids"][number(edit, "position")], edit["new_id"]);
        let names: Vec<_> = edit.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, ["new_id", "old_id", "p_new", "p_old", "position"]);
    }
}

#[test]
fn without_the_flag_there_are_counts_only() {
    let place = Place::with_sample(1);
    let record = place.edit("--input in.jsonl --output -").done().records().remove(0);
    let names: Vec<_> = record["toedit"].as_object().unwrap().keys().map(String::as_str).collect();
    let expected =
        ["changed", "dropped", "eligible", "no_alternative", "not_editable", "scored", "tokens", "windows"];
    assert_eq!(names, expected);
}
