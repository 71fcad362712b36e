//! Odd and malformed inputs: either edited without loss, or refused by file and line.

use serde_json::json;

use crate::Place;
use crate::edit::MANY;
use crate::formats::gzip;

/// Runs `edit` on `bytes` as a file.
fn edit(bytes: impl AsRef<[u8]>) -> crate::Outcome {
    let place = Place::new();
    place.put("in.jsonl", bytes);
    place.edit(&format!("--input in.jsonl --output - {MANY}"))
}

#[test]
fn malformed_records_are_named() {
    for (record, parts) in [
        (&b"{\"text\":"[..], &["EOF"][..]),
        (b"{\"text\":\"a\"} x", &["trailing"]),
        (b"[1]", &["object"]),
        (b"\"text\"", &["object"]),
        (b"{\"id\":1}", &["`text`", "`input_ids`"]),
        (b"{\"text\":5}", &["`text`", "integer"]),
        (b"{\"text\":null}", &["`text`"]),
        (b"{\"text\":\"a\",\"text\":\"b\"}", &["`text`", "twice"]),
        (b"{\"text\":\"\\ud800 \"}", &["`text`", "lone surrogate"]),
        (b"{\"text\":\"a\xff\"}", &["invalid utf-8"]),
        (b"{\"text\":\"a\nb\"}", &["byte"]),
        (b"{\"input_ids\":[1,-3]}", &["`input_ids`", "-3"]),
        (b"{\"input_ids\":[1,1.5]}", &["`input_ids`"]),
        (b"{\"input_ids\":\"1\"}", &["`input_ids`"]),
        (b"{\"input_ids\":[5,6,4096]}", &["4096", "position 2"]),
        (b"{\"input_ids\":[4294967295]}", &["4294967295"]),
    ] {
        let input = [b"{\"text\":\"a\"}\n\n", record, b"\n"].concat();
        let parts = [&["in.jsonl:3: "], parts].concat();
        let place = Place::new();
        place.put("in.jsonl", &input);
        place.edit("--input in.jsonl --output out.jsonl").fails(&parts);
        assert_eq!(place.names().iter().filter(|name| *name == "out.jsonl").count(), 0);
        place.score("--input in.jsonl --output out.jsonl").fails(&parts);
    }
}

/// What is carried through is not taken apart.
#[test]
fn deep_nesting_is_no_stack_overflow() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let out = edit(format!("{{\"x\":{deep},\"text\":\"a\"}}\n")).done().stdout;
    assert!(out.starts_with(&format!("{{\"x\":{deep},\"text\":\"a\",\"toedit\":")));
    let place = Place::with_input(&format!("{{\"text\":\"a\",\"toedit\":{deep}}}\n"));
    let outcome = place.run("revert in.jsonl --output -").exits_with(1);
    assert!(outcome.stderr.starts_with("toedit: in.jsonl:1: member `toedit`"), "{}", outcome.stderr);
}

#[test]
fn compressed_input_that_was_cut() {
    let place = Place::new();
    let compressed = gzip(&place.bytes("sample.jsonl"));
    place.put("in.jsonl.gz", &compressed[..compressed.len() - 100]);
    place.score("--input in.jsonl.gz --output out.jsonl").fails(&["in.jsonl.gz", "too early", "byte"]);
    place.put("in.jsonl.gz", "");
    place.score("--input in.jsonl.gz --output out.jsonl").fails(&["in.jsonl.gz", "empty"]);
    assert!(!place.path("out.jsonl").exists());
}

#[test]
fn inputs_without_documents() {
    for bytes in ["", "\n", " \n\r\n\t\n"] {
        let outcome = edit(bytes).done();
        assert_eq!(outcome.stdout, "");
        assert!(outcome.stderr.starts_with("0 documents, 0 tokens"), "{}", outcome.stderr);
    }
}

#[test]
fn line_ends_are_not_part_of_the_text() {
    let lines = ["{\"text\":\"The United States of America\"}", "{\"text\":\"a b c\"}"];
    let expected = edit(lines.join("\n") + "\n").done().stdout;
    assert_eq!(expected.lines().count(), 2);
    for input in
        [lines.join("\n"), format!("\n{}\n\n  \n", lines.join("\n")), format!("\u{feff}{}", lines.join("\n"))]
    {
        assert_eq!(edit(input).done().stdout, expected);
    }
    let windows = edit(lines.join("\r\n") + "\r\n").done();
    assert_eq!(windows.records(), crate::records(&expected));
}

#[test]
fn texts_with_little_or_nothing_in_them() {
    for (text, tokens) in [("", 0), ("a", 1), ("<|endoftext|>", 1), ("<|endoftext|><|endoftext|>", 2)] {
        let place = Place::with_input(&format!("{}\n", json!({ "text": text })));
        for words in [MANY, "--resample-above 0 --sampler full", "--drop-below 1.1"] {
            let record =
                place.edit(&format!("--input in.jsonl --output - {words}")).done().records().remove(0);
            let counts = &record["toedit"];
            assert_eq!(counts["tokens"], tokens, "{text}");
            if text != "a" {
                // A special token is never edited.
                assert_eq!(
                    (&record["text"], &counts["changed"], &counts["dropped"]),
                    (&json!(text), &json!(0), &json!(0))
                );
            }
        }
    }
}

#[test]
fn odd_characters_stay_valid() {
    let text = "\u{0}\u{1b}[31m שלום 👨‍👩‍👧‍👦 e\u{301}\u{200f} \u{feff} \u{10ffff} नमस्ते\r\n\t<|endoftext|> the United States";
    let place = Place::with_input(&format!("{}\n", json!({ "text": text })));
    for words in ["--resample-above 0 --sampler full --temperature 5", "--drop-below 1.1", "--drop-above 0"] {
        place.edit(&format!("--input in.jsonl --output e.jsonl --overwrite --provenance {words}")).done();
        assert_ne!(place.records("e.jsonl")[0]["text"], text);
        assert_eq!(place.run("revert e.jsonl --output -").done().records()[0]["text"], text, "{words}");
    }
}

#[test]
fn two_megabytes_without_a_space() {
    let text = "ab".repeat(1 << 20);
    let place = Place::with_input(&format!("{}\n", json!({ "text": text })));
    let words = format!("--input in.jsonl --output - --truncate {MANY}");
    let record = place.edit(&words).done().records().remove(0);
    assert!(record["text"].as_str().unwrap().ends_with(&text[text.len() / 2..]));
    assert_eq!((&record["toedit"]["windows"], &record["toedit"]["scored"]), (&json!(1), &json!(511)));
}

/// A normalizer that deletes text without saying where leaves nothing to go by.
#[test]
fn documents_that_cannot_be_aligned_are_passed_through() {
    let line = "{\"text\":\"The  United States of America\", \"n\":1}\n";
    let place = Place::with_input(&format!("{line}{{\"text\":\"The United States of America\"}}\n"));
    place.copy_model();
    let delete = json!({"type": "Replace", "pattern": {"String": "  "}, "content": ""});
    place.change("copy/tokenizer.json", |json| json["normalizer"] = delete);
    let words = "edit --model copy --input in.jsonl --resample-above 0 --exclude-original";
    let outcome = place.run(&format!("{words} --output out.jsonl --summary s.json")).exits_with(3);
    assert!(
        outcome.stderr.contains("2 documents") && outcome.stderr.contains("1 passed through"),
        "{}",
        outcome.stderr
    );
    let out = place.read("out.jsonl");
    assert!(out.starts_with(line.trim_end().strip_suffix('}').unwrap()), "{out}");
    let records = place.records("out.jsonl");
    assert_eq!((&records[0]["toedit"]["scored"], &records[0]["toedit"]["changed"]), (&json!(0), &json!(0)));
    assert!(records[0]["toedit"]["tokens"].as_u64() > Some(0));
    assert_ne!(records[1]["toedit"]["changed"], 0);
    let summary = place.json("s.json");
    assert_eq!(summary["documents"], 2);
    assert_eq!(summary["passed_through"].as_object().unwrap().values().collect::<Vec<_>>(), [1]);
    let outcome = place.run(&format!("{words} --diff")).exits_with(3);
    assert!(outcome.stdout.contains("1 passed through"), "{}", outcome.stdout);
    let outcome = place.run(&format!("{words} --dry-run")).done();
    assert!(outcome.stdout.contains("1 document would be passed through"), "{}", outcome.stdout);
    // Scoring needs no alignment.
    place.run("score --model copy --input in.jsonl --output -").done();
}

/// Provenance makes a record much longer than the text that it was made from.
#[test]
fn the_limit_for_one_document_is_a_flag() {
    let place = Place::with_sample(1);
    let bytes = place.bytes("in.jsonl").len();
    let words = |limit: usize| format!("--input in.jsonl --output - --max-document-bytes {limit}");
    for limit in [1, bytes - 2] {
        place.score(&words(limit)).fails(&["in.jsonl:1", &format!("{limit} bytes"), "--max-document-bytes"]);
        place.edit(&words(limit)).fails(&["in.jsonl:1", "--max-document-bytes"]);
    }
    place.score(&words(bytes)).done();
    place.score(&words(0)).exits_with(2);

    place.edit("--input in.jsonl --output edited.jsonl --provenance --resample-above 0").done();
    assert!(place.bytes("edited.jsonl").len() > bytes);
    let words = format!("revert edited.jsonl --output - --max-document-bytes {bytes}");
    place.run(&words).fails(&["edited.jsonl:1", "--max-document-bytes"]);
}

/// Longer than the default of the other commands, which `revert` does not share.
#[test]
fn revert_reads_records_of_any_length() {
    let place = Place::new();
    let counts = "\"tokens\":0,\"scored\":0,\"eligible\":0,\"changed\":0,\"dropped\":0,\"not_editable\":0";
    let line = |more: &str| format!("{{\"x\":\"{}\",\"text\":\"\"{more}}}\n", "x".repeat(65 << 20));
    let edited = line(&format!(",\"toedit\":{{{counts},\"no_alternative\":0,\"windows\":0,\"edits\":[]}}"));
    place.put("edited.jsonl.gz", gzip(edited.as_bytes()));
    place.score("--input edited.jsonl.gz --output -").fails(&["edited.jsonl.gz:1", "--max-document-bytes"]);
    place.run("revert edited.jsonl.gz --output back.jsonl").done();
    assert!(place.read("back.jsonl") == line(""));
}
