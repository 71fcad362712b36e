//! Records that cannot be used: the run stops at them, sets them aside, or passes them through.

use serde_json::{Value, json};

use crate::Place;
use crate::formats::gzip;

/// Records that cannot be used, and what is said of them.
const BAD: &[(&[u8], &str)] = &[
    (b"{\"text\":", "EOF"),
    (b"{\"text\":\"a\"", "EOF"),
    (b"{\"text\":\"a\"} x", "trailing"),
    (b"{\"text\":\"a\"}{\"text\":\"b\"}", "trailing"),
    (b"[1]", "object"),
    (b"\"text\"", "object"),
    (b"null", "object"),
    (b"NaN", "expected value"),
    (b"{}", "`text`"),
    (b"{\"id\":1,\"n\":{\"text\":\"nested\"}}", "`text`"),
    (b"{\"Text\":\"a\"}", "`text`"),
    (b"{\"text\":null}", "`text`"),
    (b"{\"text\":5}", "integer"),
    (b"{\"text\":[\"a\"]}", "`text`"),
    (b"{\"text\":\"a\",\"text\":\"b\"}", "twice"),
    (b"{\"text\":\"a\",\"te\\u0078t\":\"b\"}", "twice"),
    (b"{\"id\":1,\"text\":\"a\",\"id\":2}", "twice"),
    (b"{\"text\":\"\\ud800 \"}", "lone surrogate"),
    (b"{\"text\":\"\\udc00\"}", "surrogate"),
    (b"{\"text\":\"a\xff\"}", "invalid utf-8"),
    (b"{\"text\":\"a\",\"x\":\"\xc3\"}", "invalid utf-8"),
    (b"{\"text\":\"a\tb\"}", "control character"),
    (b"{\"text\":\"a\0b\"}", "control character"),
    (b"{\"text\":\"a\",\"x\":NaN}", "expected value"),
    (b"{\"text\":\"a\",\"x\":01}", "number"),
    (b"{\"text\":\"a\",}", "comma"),
    (b"{\"input_ids\":[1,-3]}", "-3"),
    (b"{\"input_ids\":\"1\"}", "`input_ids`"),
    (b"{\"input_ids\":[5,6,4096]}", "4096"),
    (b"{\"input_ids\":[4294967295]}", "4294967295"),
    (b"{\"messages\":[]}", "messages"),
];

const GOOD: &str = "{\"text\":\"The United States\",\"big\":123456789012345678901234567890}";

/// Good records before, between and behind the bad ones, and where each line begins.
fn corpus() -> (Vec<u8>, Vec<u64>) {
    let (mut bytes, mut offsets) = (Vec::new(), Vec::new());
    for (bad, _) in BAD {
        for line in [GOOD.as_bytes(), b"", bad] {
            offsets.push(bytes.len() as u64);
            bytes.extend([line, b"\n"].concat());
        }
    }
    bytes.extend(GOOD.as_bytes());
    (bytes, offsets)
}

/// The bytes that a reject line holds.
fn raw(reject: &Value) -> Vec<u8> {
    match &reject["raw"] {
        Value::String(text) => text.clone().into_bytes(),
        bytes => {
            let hex = bytes["hex"].as_str().unwrap();
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
        }
    }
}

#[test]
fn bad_records_stop_the_run_unless_asked() {
    for (record, what) in BAD {
        let place = Place::new();
        place.put("in.jsonl", [GOOD.as_bytes(), b"\n\n", record, b"\n"].concat());
        for words in ["", "--on-error stop"] {
            place
                .edit(&format!("--input in.jsonl --output out.jsonl {words}"))
                .fails(&["in.jsonl:3: ", what]);
            assert!(!place.path("out.jsonl").exists() && !place.path("out.jsonl.rejects").exists());
        }
    }
}

#[test]
fn bad_records_are_set_aside_with_place_reason_and_bytes() {
    let place = Place::new();
    let (corpus, offsets) = corpus();
    place.put("in.jsonl.gz", gzip(&corpus));
    for (command, output) in [("edit", "out.jsonl"), ("score", "scores.jsonl.gz")] {
        let words = format!("{command} --model tiny --input in.jsonl.gz --output {output} --on-error skip");
        let outcome = place.run(&format!("{words} --summary s.json --frame-bytes 300")).exits_with(3);
        let (bad, good) = (BAD.len(), BAD.len() + 1);
        assert!(outcome.stderr.contains(&format!("{} documents", bad + good)), "{}", outcome.stderr);
        assert!(outcome.stderr.contains(&format!("{bad} set aside")), "{}", outcome.stderr);
        let summary = place.json("s.json");
        assert_eq!((&summary["documents"], &summary["set_aside"]), (&json!(bad + good), &json!(bad)));
        let manifest = place.json(&format!("{output}.manifest"));
        assert_eq!(manifest["records"], json!({"written": good, "passed": 0, "set_aside": bad}));
        assert_eq!(manifest["inputs"][0]["records"], bad + good);
        let rejects = place.records(&format!("{output}.rejects"));
        assert_eq!(rejects.len(), bad);
        for (number, (reject, (record, what))) in rejects.iter().zip(BAD).enumerate() {
            assert_eq!((&reject["file"], &reject["line"]), (&json!("in.jsonl.gz"), &json!(3 * number + 3)));
            assert_eq!(reject["byte_offset"], offsets[3 * number + 2]);
            assert!(reject["reason"].as_str().unwrap().contains(what), "{reject}");
            assert_eq!(raw(reject), *record, "{reject}");
        }
        place.run(&format!("verify {output}")).done();
    }
    assert_eq!(place.records("out.jsonl").len(), BAD.len() + 1);
    assert!(place.read("out.jsonl").lines().all(|line| line.contains("123456789012345678901234567890")));
}

#[test]
fn bad_records_are_passed_through_as_they_are() {
    let place = Place::new();
    let (corpus, _) = corpus();
    place.put("in.jsonl", &corpus);
    let words =
        "--input in.jsonl --output out.jsonl --on-error pass --no-metadata --rule p>1:drop --summary s.json";
    let outcome = place.edit(words).exits_with(3);
    assert!(outcome.stderr.contains(&format!("{} passed through", BAD.len())), "{}", outcome.stderr);
    let lines = |bytes: &[u8]| -> Vec<Vec<u8>> {
        bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect()
    };
    assert_eq!(lines(&place.bytes("out.jsonl")), lines(&corpus));
    let records = place.json("out.jsonl.manifest")["records"].clone();
    assert_eq!(records, json!({"written": 2 * BAD.len() + 1, "passed": BAD.len(), "set_aside": 0}));
    assert!(!place.path("out.jsonl.rejects").exists());
    let passed = place.json("s.json")["passed_through"].clone();
    assert_eq!(passed.as_object().unwrap().values().collect::<Vec<_>>(), [&json!(BAD.len())]);
    // Nothing was lost, so nothing is gone: the same again changes nothing.
    place.run("verify out.jsonl").done();

    place
        .score("--input in.jsonl --output - --on-error pass")
        .exits_with(3)
        .records()
        .iter()
        .enumerate()
        .for_each(|(number, line)| assert_eq!(line.get("error").is_some(), number % 2 == 1, "{line}"));
}

#[test]
fn good_but_odd_records_are_not_refused() {
    let odd = [
        "{\"text\":\"\"}",
        "{\"text\":\" \"}",
        "{\"text\":\"a\"}\r",
        "{\"te\\u0078t\":\"a\"}",
        "{\"text\":\"a\",\"id\":7}",
        "{\"text\":\"a\",\"id\":7}",
        "{\"text\":\"nul \\u0000\"}",
        "{\"text\":\"a\",\"other\":\"\\ud800\"}",
    ];
    let place = Place::with_input(&format!("\u{feff}\n{}", odd.join("\n\n \n")));
    place.edit("--input in.jsonl --output out.jsonl --on-error skip --no-metadata --rule p>1:drop").done();
    assert_eq!(place.read("out.jsonl"), odd.map(|line| format!("{line}\n")).concat());
    assert!(!place.path("out.jsonl.rejects").exists());
}

#[test]
fn a_line_without_end_is_set_aside_without_being_held() {
    let place = Place::new();
    let long = format!("{{\"text\":\"{}\"}}", "x".repeat(32 << 20));
    place.put("in.jsonl.gz", gzip(format!("{GOOD}\n{long}\n{GOOD}\n").as_bytes()));
    for policy in ["skip", "pass"] {
        let words = format!(
            "--input in.jsonl.gz --output {policy}.jsonl --on-error {policy} --max-document-bytes 1000000"
        );
        place.edit(&format!("{words} --summary s.json")).exits_with(3);
        let reject = place.records(&format!("{policy}.jsonl.rejects")).remove(0);
        assert_eq!((&reject["line"], &reject["cut"]), (&json!(2), &json!(true)));
        assert!(long.as_bytes().starts_with(&raw(&reject)) && raw(&reject).len() == 64 << 10);
        assert_eq!(place.records(&format!("{policy}.jsonl")).len(), 2);
        assert!(place.json("s.json")["peak_memory_bytes"].as_u64().unwrap_or(0) < 128 << 20);
    }
}

#[test]
fn text_files_that_cannot_be_read() {
    let place = Place::new();
    place.put("in/a.txt", "The United States");
    place.put("in/b.txt", b"caf\xe9");
    place.edit("--input in --output out").fails(&["b.txt:1", "utf-8"]);
    std::fs::remove_dir_all(place.path("out")).unwrap();
    place.edit("--input in --output out --on-error skip").exits_with(3);
    assert!(place.path("out/a.txt").exists() && !place.path("out/b.txt").exists());
    assert_eq!(raw(&place.records("out/b.txt.rejects")[0]), b"caf\xe9");
    let lines = place.run("verify out").done().stdout;
    assert!(lines.contains("ok: out/b.txt: 0 records, 1 set aside"), "{lines}");
    place.edit("--input in --output out --on-error skip --resume").done();
    place.edit("--input in --output passed --on-error pass").exits_with(3);
    assert_eq!(place.bytes("passed/b.txt"), b"caf\xe9");
    place.edit("--input in --output all.jsonl --on-error pass").exits_with(3);
    assert_eq!((place.records("all.jsonl").len(), place.records("all.jsonl.rejects").len()), (1, 1));
}

#[test]
fn texts_without_a_tokenizer_are_records_that_cannot_be_used() {
    let place = Place::with_input(&format!("{GOOD}\n{{\"input_ids\":[1,2,3]}}\n"));
    place.copy_model();
    std::fs::remove_file(place.path("copy/tokenizer.json")).unwrap();
    let words = "edit --model copy --input in.jsonl --output out.jsonl";
    place.run(words).fails(&["in.jsonl:1", "no tokenizer.json"]);
    place.run(&format!("{words} --on-error skip")).exits_with(3);
    assert_eq!(raw(&place.records("out.jsonl.rejects")[0]), GOOD.as_bytes());
    assert_eq!(place.records("out.jsonl").len(), 1);
}

#[test]
fn what_is_set_aside_needs_a_place() {
    let place = Place::with_input("{\"text\":5}\n");
    place.edit("--input in.jsonl --output - --on-error skip").fails_with(2, &["--on-error skip", "--output"]);
    let passed = place.edit("--input in.jsonl --output - --on-error pass").exits_with(3);
    assert_eq!(passed.stdout, "{\"text\":5}\n");
    let shown = place.edit("--input in.jsonl --diff --on-error skip").exits_with(3);
    assert!(shown.stdout.contains("1 set aside"), "{}", shown.stdout);
    let counted = place.edit("--input in.jsonl --dry-run --on-error skip").done();
    assert!(counted.stdout.contains("1 record cannot be used"), "{}", counted.stdout);
    assert_eq!(place.names(), ["in.jsonl"]);
    place.put("out.jsonl.rejects", "precious");
    place
        .edit("--input in.jsonl --output out.jsonl --on-error skip")
        .fails(&["out.jsonl.rejects", "exists already"]);
}

#[test]
fn a_record_that_cannot_be_reverted_is_set_aside() {
    let place = Place::with_sample(2);
    place.edit("--input in.jsonl --output edited.jsonl --provenance --resample-above 0.3").done();
    let edited = place.read("edited.jsonl");
    place.put("mixed.jsonl", format!("{GOOD}\n{edited}"));
    place.run("revert mixed.jsonl --output back.jsonl").fails(&["mixed.jsonl:1", "no `toedit`"]);
    place.run("revert mixed.jsonl --output back.jsonl --on-error skip --resume").exits_with(3);
    assert_eq!(place.read("back.jsonl"), place.read("in.jsonl"));
    assert_eq!(raw(&place.records("back.jsonl.rejects")[0]), GOOD.as_bytes());
}
