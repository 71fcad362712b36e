//! `toedit inspect`: edited records in a terminal, and as a page.

mod page;
mod records;

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::Place;
use records::{dropped, edit, edits, kept, lines, metadata, record, texts};

/// Settings that change and drop many tokens, characters taken apart included.
const HEAVY: &str = "--resample-above 0.3 --drop-below 0.005 --sampler full --temperature 3 --provenance";

/// The sample, edited.
fn edited_sample() -> Place {
    let place = Place::new();
    place.edit(&format!("--input sample.jsonl --output edited.jsonl {HEAVY}")).done();
    place
}

fn edits_of(record: &Value) -> &[Value] {
    record["toedit"]["edits"].as_array().unwrap()
}

#[test]
fn a_record_is_shown_with_its_edits() {
    let parts = [kept("One"), edit(" two", " 2"), kept(" three\n"), dropped("\n"), edit("é", "\"\u{1b}[2J")];
    let place = Place::with_input(&lines(&[record("a\u{7}b", &parts)]));
    let outcome = place.run("inspect in.jsonl").done();
    let expected = r#"a\u{7}b · in.jsonl:1 · 20 tokens, 19 scored, 1 dropped, 7 eligible, 2 changed
One[- two-]{+ 2+} three
[-\n-][-é-]{+"\u{1b}[2J+}
position      p old      p new  old → new
       1   0.750000    1.25e-5  " two" → " 2"
       3   0.750000          –  "\n" dropped
       4   0.750000    1.25e-5  "é" → "\"\u{1b}[2J"

"#;
    // The id comes as JSON spells it.
    assert_eq!(outcome.stdout, expected.replace("a\\u{7}b", "a\\u0007b"));
    assert_eq!(outcome.stderr, "1 document, 20 tokens, 19 scored, 1 dropped, 7 eligible, 2 changed\n");
}

#[test]
fn the_whole_sample_is_shown() {
    let place = edited_sample();
    let stdout = place.run("inspect edited.jsonl").done().stdout;
    let records = place.records("edited.jsonl");
    let blocks: Vec<_> = records
        .iter()
        .enumerate()
        .map(|(i, record)| {
            let title = format!("{} · edited.jsonl:{} · ", record["id"].as_str().unwrap(), i + 1);
            let at = stdout.find(&title).unwrap_or_else(|| panic!("no {title}"));
            assert!(at == 0 || stdout[..at].ends_with("\n\n"));
            at
        })
        .collect();
    assert!(blocks.is_sorted());
    for (i, record) in records.iter().enumerate() {
        let block = &stdout[blocks[i]..blocks.get(i + 1).copied().unwrap_or(stdout.len())];
        let list = block.rsplit_once("old → new\n").map_or("", |(_, list)| list);
        let positions: Vec<u64> =
            list.lines().map_while(|line| line.split_whitespace().next()?.parse().ok()).collect();
        let expected: Vec<u64> =
            edits_of(record).iter().map(|edit| edit["position"].as_u64().unwrap()).collect();
        assert_eq!(positions, expected, "{block}");
    }
    // A byte that is no character shows in the list; the text has whole characters.
    assert!(stdout.contains("\\xe") && !stdout.contains('\u{fffd}'));
    assert!(!stdout.contains('\u{1b}'));
}

#[test]
fn compressed_and_from_standard_input() {
    let place = edited_sample();
    let plain = place.run("inspect edited.jsonl --quiet").done();
    assert_eq!(plain.stderr, "");
    for name in ["edited.jsonl.gz", "edited.jsonl.zst"] {
        place.edit(&format!("--input sample.jsonl --output {name} {HEAVY}")).done();
        let shown = place.run(&format!("inspect {name}")).done().stdout;
        assert!(shown == plain.stdout.replace("edited.jsonl:", &format!("{name}:")));
        let piped = place.run_with("inspect -", &place.bytes(name)).done().stdout;
        assert!(piped == plain.stdout.replace("edited.jsonl:", "-:"));
    }
}

#[test]
fn records_of_ids() {
    let line = json!({"input_ids": [5, 9, 7], "toedit": metadata(&[
        json!({"position": 1, "old_id": 6, "new_id": 9, "p_old": 1.0, "p_new": 0.5}),
        json!({"position": 3, "old_id": 8, "new_id": null, "p_old": 1e-9, "p_new": null}),
    ])});
    let place = Place::with_input(&lines(&[line]));
    let stdout = place.run("inspect in.jsonl").done().stdout;
    let (_, shown) = stdout.split_once('\n').unwrap();
    let expected = "5 [-6-]{+9+} 7 [-8-]\n\
                    position      p old      p new  old → new\n\
                    \x20      1   1.000000   0.500000  6 → 9\n\
                    \x20      3    1.00e-9          –  8 dropped\n\n";
    assert_eq!(shown, expected);
}

#[test]
fn generations_are_shown_with_the_last_one_first() {
    let first = [kept("a "), edit("b", "c"), kept(" d")];
    let second = [edit("a", "x"), kept(" "), edit("c", "yy"), kept(" d")];
    assert_eq!(texts(&first)[1], texts(&second)[0]);
    let edits = [edits(&first, 0), edits(&second, 1)].concat();
    let line = json!({"id": 7, "text": texts(&second)[1], "toedit": metadata(&edits)});
    let place = Place::with_input(&lines(&[line]));
    let stdout = place.run("inspect in.jsonl").done().stdout;
    let shown: Vec<_> = stdout.lines().map(|line| line.rsplit("  ").next().unwrap()).skip(1).collect();
    let expected = [
        "generation 1",
        "[-a-]{+x+} [-c-]{+yy+} d",
        "old → new",
        "\"a\" → \"x\"",
        "\"c\" → \"yy\"",
        "generation 0",
        "a [-b-]{+c+} d",
        "old → new",
        "\"b\" → \"c\"",
        "",
    ];
    assert_eq!(shown, expected);
}

#[test]
fn what_is_not_known_is_said() {
    let place = Place::with_sample(2);
    place.edit("--input in.jsonl --output counts.jsonl --resample-above 0.3").done();
    let outcome = place.run("inspect counts.jsonl").done();
    assert_eq!(outcome.stdout.matches("edited without --provenance").count(), 2);
    assert!(outcome.stdout.contains(" eligible, ") && outcome.stderr.contains("; 2 without provenance"));
    let outcome = place.run("inspect in.jsonl").done();
    assert_eq!(outcome.stdout.matches("no `toedit` object").count(), 2);
    let texts = place.records("in.jsonl");
    assert!(texts.iter().all(|record| outcome.stdout.contains(record["text"].as_str().unwrap())));
    // Where nothing was edited, nothing is missing.
    place.edit("--input in.jsonl --output none.jsonl --rule p>1:drop").done();
    let outcome = place.run("inspect none.jsonl").done();
    assert!(!outcome.stdout.contains("provenance") && outcome.stderr.ends_with("0 eligible, 0 changed\n"));
    place.put("empty.jsonl", "");
    assert_eq!(place.run("inspect empty.jsonl").done().stdout, "");
    place.put("a.txt", "The text");
    assert!(place.run("inspect a.txt").done().stdout.starts_with("a.txt:1\nno `toedit` object"));
}

#[test]
fn provenance_that_does_not_fit_is_an_error_with_file_and_line() {
    let parts = [kept("a"), edit("b", "c"), kept("d")];
    let good = record("good", &parts);
    let changed = |path: &str, value: Value| {
        let mut bad = good.clone();
        *bad.pointer_mut(path).unwrap() = value;
        bad
    };
    for (bad, part) in [
        (changed("/text", json!("axd")), "other bytes"),
        (changed("/text", json!("")), "outside the text"),
        (changed("/toedit/edits/0/old", json!("bb")), "do not agree"),
        (changed("/toedit/edits/0/out_byte_start", json!(u64::MAX)), "outside the text"),
        (changed("/toedit/edits/0/old", json!({"hex": "ff"})), "not UTF-8"),
        (changed("/toedit/edits/0/old", json!({"hex": "0"})), "no bytes"),
        (changed("/toedit/edits/0/p_old", json!("?")), "member `toedit`"),
        (changed("/toedit/changed", json!(u64::MAX)), "18446744073709551615 tokens"),
        (changed("/toedit/edits", json!([])), "1 tokens were changed or dropped, but 0 edits"),
        (changed("/toedit", json!(5)), "member `toedit`"),
        (changed("/toedit", json!({})), "member `toedit`"),
        (changed("/text", json!(5)), "`text`"),
    ] {
        let place = Place::with_input(&lines(&[good.clone(), bad]));
        let outcome = place.run("inspect in.jsonl");
        assert!(outcome.stdout.starts_with("good") && outcome.status == 1, "{}", outcome.stdout);
        assert!(
            outcome.stderr.starts_with("toedit: in.jsonl:2: ") && outcome.stderr.contains(part),
            "{}",
            outcome.stderr
        );
        place.run("inspect in.jsonl --html page.html").fails(&["in.jsonl:2", part]);
        assert_eq!(place.names(), ["in.jsonl"]);
    }
    let ids = json!({"input_ids": [1], "toedit": metadata(&edits(&parts, 0))});
    Place::with_input(&lines(&[ids])).run("inspect in.jsonl").fails(&["in.jsonl:1", "new_id"]);
}

#[test]
fn wrong_usage_and_missing_files() {
    let place = Place::with_sample(1);
    place.run("inspect gone.jsonl").fails(&["gone.jsonl"]);
    place.run("inspect in.jsonl --text-field toedit").fails_with(2, &["`toedit`"]);
    for words in
        ["inspect", "inspect in.jsonl --limit 0", "inspect in.jsonl --overwrite", "inspect a.jsonl b.jsonl"]
    {
        assert_eq!(place.run(words).status, 2, "{words}");
    }
    place.run("inspect in.jsonl --max-document-bytes 100").fails(&["in.jsonl:1", "--max-document-bytes"]);
}

#[test]
fn a_limit_ends_the_reading() {
    let place = Place::with_input(&lines(&[record("a", &[kept("x")]), record("b", &[kept("y")])]));
    place.put("in.jsonl", place.read("in.jsonl") + "no record\n");
    let outcome = place.run("inspect in.jsonl --limit 2").done();
    assert!(outcome.stderr.starts_with("2 documents, 40 tokens, "));
    assert!(outcome.stdout.starts_with("a · ") && outcome.stdout.contains("\n\nb · "));
    place.run("inspect in.jsonl").exits_with(1);
}

#[test]
fn colour_is_for_those_who_ask() {
    let place = Place::with_input(&lines(&[record("a", &[kept("x\u{1b}[31m"), edit("b", "c")])]));
    let plain = place.run("inspect in.jsonl").done().stdout;
    assert_eq!(plain, place.run("inspect in.jsonl --color never").done().stdout);
    assert!(!plain.contains('\u{1b}') && plain.contains("x\\u{1b}[31m[-b-]{+c+}"));
    let coloured = place.run("inspect in.jsonl --color always").done().stdout;
    assert!(coloured.contains("\u{1b}[9m\u{1b}[31mb\u{1b}[0m\u{1b}[1m\u{1b}[32mc\u{1b}[0m"), "{coloured:?}");
    assert!(coloured.contains("x\\u{1b}[31m") && !coloured.contains("[-"));
    let json = place.run("inspect in.jsonl --log-format json").done().stderr;
    let summary: Value = serde_json::from_str(&json).unwrap();
    let expected = json!({
        "documents": 1, "edited": 1, "without_provenance": 0, "tokens": 20, "scored": 19, "eligible": 7, "changed": 1,
        "dropped": 0, "not_editable": 0, "no_alternative": 0, "windows": 1,
    });
    assert_eq!(summary["summary"], expected);
}

/// `head` reads a little and goes.
#[test]
fn a_reader_that_goes_away_ends_the_run_quietly() {
    let place = Place::with_input(&lines(&vec![record("a", &[kept(&"x".repeat(1000))]); 5000]));
    for html in ["", " --html - --limit 5000"] {
        let mut command = place.command(&format!("inspect in.jsonl{html}"));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(first.starts_with("a · in.jsonl:1") || first.starts_with("<!DOCTYPE"), "{first}");
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
    }
}
