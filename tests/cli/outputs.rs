//! A run as a whole: what it writes, what it says, and how it ends.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::edit::{ALL, MANY};
use crate::{Place, run};

#[test]
fn an_existing_output_is_refused_before_anything_is_loaded() {
    let place = Place::with_sample(1);
    place.put("out.jsonl", "precious");
    place.put("out/in.jsonl", "precious");
    for output in ["out.jsonl", "out"] {
        for command in ["score --model nonexistent --input", "edit --model nonexistent --input", "revert"] {
            let words = format!("{command} in.jsonl --output {output}");
            place.run(&words).fails(&[output, "exists already", "--overwrite"]);
        }
    }
    assert_eq!((place.read("out.jsonl"), place.read("out/in.jsonl")), ("precious".into(), "precious".into()));
    // A run that fails leaves the old output, too.
    place
        .run("edit --model nonexistent --input in.jsonl --output out.jsonl --overwrite")
        .fails(&["nonexistent"]);
    place.put("bad.jsonl", "{");
    place.edit("--input bad.jsonl --output out.jsonl --overwrite").fails(&["bad.jsonl:1"]);
    assert_eq!(place.read("out.jsonl"), "precious");
    place.edit("--input in.jsonl --output out.jsonl --overwrite").done();
    assert_eq!(place.records("out.jsonl").len(), 1);
    let mode = |name: &str| fs::metadata(place.path(name)).unwrap().permissions().mode();
    assert_eq!(mode("out.jsonl"), mode("in.jsonl"));
}

#[test]
fn other_errors_that_need_no_model() {
    let place = Place::with_sample(1);
    let edit = |words: &str| place.run(&format!("edit --model nonexistent --input in.jsonl {words}"));
    edit("--output no/such/out.jsonl").fails(&["no/such"]);
    edit("--output out.jsonl --summary no/such/s.json").fails(&["no/such/s.json"]);
    edit("--output out.jsonl --summary .").fails(&[".: a folder"]);
    edit("--output out.jsonl --text-field toedit").fails_with(2, &["`toedit`"]);
    edit("--output out.jsonl --rule p").fails_with(2, &["rule `p`"]);
    place.run("score --model nonexistent --input gone.jsonl --output -").fails(&["gone.jsonl"]);
    assert_eq!(place.names(), ["in.jsonl"]);
}

#[test]
fn a_diff_shows_edits_and_writes_nothing() {
    let place = Place::with_sample(6);
    let diff = |words: &str| place.edit(&format!("--input in.jsonl {MANY} {words}")).done();
    let titles =
        |out: &str| out.lines().filter(|line| line.contains(" tokens, ") && line.contains('·')).count();
    for (words, shown) in [("--diff", 6), ("--diff 2", 2), ("--diff 100 --output out.jsonl", 6)] {
        let outcome = diff(words);
        assert_eq!((titles(&outcome.stdout), outcome.stderr.as_str()), (shown, ""), "{words}");
        assert!(outcome.stdout.contains("[-") && outcome.stdout.contains("{+"), "{}", outcome.stdout);
        assert!(outcome.stdout.trim_end().ends_with(" changed"), "{}", outcome.stdout);
        assert!(outcome.stdout.lines().last().unwrap().starts_with("6 documents, "));
        assert!(!outcome.stdout.contains('\x1b'));
    }
    assert_eq!(place.edit("--input in.jsonl --diff --rule p>1:drop").done().stdout.lines().count(), 1);
    place.put("ids.jsonl", "{\"input_ids\":[970,308,460,402,322,26,374]}\n");
    let outcome = place.edit("--input ids.jsonl --diff --resample-above 0 --exclude-original").done();
    assert!(
        outcome.stdout.contains("ids.jsonl:1") && outcome.stdout.contains("1: [-308-]{+"),
        "{}",
        outcome.stdout
    );
    assert_eq!(place.names(), ["ids.jsonl", "in.jsonl"]);
}

#[test]
fn names_in_a_diff_cannot_drive_a_terminal() {
    let text = "The United States of America";
    let named = json!({"id": "\"\u{9b}2J\"", "text": text});
    let place = Place::with_input(&format!("{named}\n"));
    place.put("a\u{1b}[2J.jsonl", format!("{}\n", json!({ "text": text })));
    let mut command = place.command(&format!("edit --model tiny --diff {ALL} --input in.jsonl"));
    let out = run(
        {
            command.arg("a\u{1b}[2J.jsonl");
            command
        },
        b"",
    )
    .done()
    .stdout;
    assert!(out.starts_with("\\\"\\u{9b}2J\\\" · "), "{out}");
    assert!(out.contains("a\\u{1b}[2J.jsonl:1 · ") && !out.contains(['\u{1b}', '\u{9b}']), "{out}");
}

#[test]
fn a_text_file_is_not_asked_to_hold_more_than_text() {
    let place = Place::new();
    place.put("in/a.txt", "The United States");
    place.put("in/b.jsonl", "{\"text\":\"a\"}\n");
    let edit = |words: &str| place.run(&format!("edit --model nonexistent {words}"));
    for flag in ["--provenance", "--emit ids", "--emit both"] {
        for (input, output) in [("in", "out"), ("in/a.txt", "out.txt"), ("in/b.jsonl", "out.txt.gz")] {
            let words = format!("--input {input} --output {output} {flag}");
            edit(&words).fails_with(2, &[".txt", "text file", flag, ".jsonl"]);
        }
        place.edit(&format!("--input in --output out.jsonl --overwrite {flag}")).done();
    }
    place.edit("--input in --output out").done();
}

/// What is printed cannot drive the terminal, and is coloured on one unless `NO_COLOR` forbids it.
#[test]
fn colour_is_for_terminals() {
    let place =
        Place::with_input(&format!("{}\n", json!({"text": "\u{1b}[2J The United States of America"})));
    let program = env!("CARGO_BIN_EXE_toedit");
    let line = format!("{program} edit --model tiny --input in.jsonl --diff {ALL}");
    let on_terminal = |no_color: &str| {
        let mut command = Command::new("script");
        command.args(["-qec", &line, "/dev/null"]).current_dir(place.path("")).env("NO_COLOR", no_color);
        run(command, b"").done().stdout
    };
    if Command::new("script").arg("--version").output().is_err() {
        return eprintln!("skipped: no `script` to give the command a terminal");
    }
    let (coloured, plain) = (on_terminal(""), on_terminal("1"));
    let red = "\x1b[31m";
    assert!(coloured.contains(red) && !coloured.contains("[-"), "{coloured}");
    assert!(plain.contains("[-\\u{1b}-]") && !plain.contains(red), "{plain}");
    assert!([coloured, plain].iter().all(|out| !out.contains("\x1b[2J")));
}

#[test]
fn a_dry_run_counts_and_writes_nothing() {
    let place = Place::with_sample(4);
    let words = format!("--input in.jsonl {MANY} --dry-run --output out.jsonl");
    let outcome = place.edit(&words).done();
    let tokens: u64 = place
        .score("--input in.jsonl --output -")
        .done()
        .records()
        .iter()
        .map(|record| record["tokens"].as_u64().unwrap())
        .sum();
    assert!(outcome.stdout.starts_with(&format!("4 documents, {tokens} tokens, ")), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("eligible") && outcome.stdout.contains("changed"), "{}", outcome.stdout);
    assert_eq!(place.names(), ["in.jsonl"]);
    place.put("empty.jsonl", "");
    assert!(place.edit("--input empty.jsonl --dry-run").done().stdout.starts_with("0 documents, 0 tokens"));
    place.put("bad.jsonl", "{\"text\":1}\n");
    place.edit("--input bad.jsonl --dry-run").fails(&["bad.jsonl:1"]);
}

/// Adds up a count over the records of an output.
fn sum(records: &[Value], name: &str) -> u64 {
    records.iter().map(|record| record["toedit"].get(name).unwrap_or(&record[name]).as_u64().unwrap()).sum()
}

#[test]
fn the_summary_adds_up() {
    let place = Place::with_sample(6);
    let words = "--resample-above 0.3 --drop-below 0.001 --seed 7 --batch-tokens 500 --threads 2 --top-k 4";
    let words = format!("--input in.jsonl --output out.jsonl --summary s.json {words}");
    let outcome = place.edit(&words).done();
    let (summary, records) = (place.json("s.json"), place.records("out.jsonl"));
    assert_eq!(summary["documents"], records.len());
    let names =
        ["tokens", "scored", "eligible", "changed", "dropped", "not_editable", "no_alternative", "windows"];
    for name in names {
        assert_eq!(summary[name], sum(&records, name), "{name}");
    }
    assert!(summary["dropped"].as_u64() > Some(0) && summary["changed"].as_u64() > Some(0));
    let [eligible, changed] = ["eligible", "changed"].map(|name| summary[name].as_u64().unwrap());
    assert!(
        outcome.stderr.trim_end().ends_with(&format!("{eligible} eligible, {changed} changed")),
        "{}",
        outcome.stderr
    );
    let expected = json!({
        "command": "edit", "version": env!("CARGO_PKG_VERSION"), "model": "tiny", "device": "cpu", "threads": 2,
        "batch_tokens": 500, "max_length": 512, "overlap": 256, "truncate": false, "bos": "auto", "passed_through": {},
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&summary[name], value, "{name}");
    }
    assert_eq!((&summary["edit"]["seed"], &summary["edit"]["sampler"]["value"]), (&json!(7), &json!(4)));
    check_times(&summary);

    place.score("--input in.jsonl --output scores.jsonl --summary s.json --overwrite").done();
    let (summary, records) = (place.json("s.json"), place.records("scores.jsonl"));
    assert_eq!((&summary["command"], &summary["documents"]), (&json!("score"), &json!(records.len())));
    for name in ["tokens", "scored"] {
        assert_eq!(summary[name], sum(&records, name));
    }
    let nll: f64 = records.iter().map(|record| record["nll"].as_f64().unwrap()).sum();
    let perplexity = (nll / summary["scored"].as_f64().unwrap()).exp();
    assert!((summary["perplexity"].as_f64().unwrap() / perplexity - 1.0).abs() < 1e-9);
    check_times(&summary);
    let mode = |name: &str| fs::metadata(place.path(name)).unwrap().permissions().mode();
    assert_eq!(mode("s.json"), mode("in.jsonl"));
}

fn check_times(summary: &Value) {
    let [load, seconds, rate, tokens] = ["load_seconds", "seconds", "tokens_per_second", "tokens"]
        .map(|name| summary[name].as_f64().unwrap());
    assert!(load > 0.0 && seconds > 0.0 && (rate * seconds / tokens - 1.0).abs() < 1e-9, "{summary}");
}

#[test]
fn what_is_said_and_in_what_form() {
    let place = Place::with_sample(1);
    let warned = "--sampler top-p --top-p 0.9";
    let edit = |words: &str| place.edit(&format!("--input in.jsonl --output - {warned} {words}"));
    let plain = edit("").done();
    assert_eq!(plain.stderr.lines().count(), 2);
    assert!(!plain.stderr.contains('\x1b'));
    let quiet = edit("--quiet").done();
    assert_eq!((quiet.stderr.as_str(), &quiet.stdout), ("", &plain.stdout));
    assert_eq!(place.score("--input in.jsonl --output - --quiet").done().stderr, "");

    let lines = crate::records(&edit("--log-format json").done().stderr);
    assert_eq!(lines.len(), 2);
    assert!(lines[0]["fields"]["message"].as_str().unwrap().contains("top-p 0.9"));
    assert_eq!(lines[1]["summary"]["documents"], 1);
    let failed = place.score("--input gone.jsonl --output - --log-format json").exits_with(1);
    let lines = crate::records(&failed.stderr);
    assert!(lines.len() == 1 && lines[0]["error"].as_str().unwrap().contains("gone.jsonl"));

    // Errors are told in any case.
    place.score("--input gone.jsonl --output - --quiet").fails(&["gone.jsonl"]);
    edit("--summary -").fails_with(2, &["standard output", "not both"]);
    let outcome = place.edit("--input in.jsonl --output out.jsonl --quiet --summary -").done();
    let summary: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!((summary["documents"].as_u64(), outcome.stderr.as_str()), (Some(1), ""));
}

#[test]
fn a_summary_replaces_no_input_and_no_output() {
    let place = Place::with_sample(1);
    place.put("s.json", "precious");
    fs::create_dir(place.path("folder")).unwrap();
    symlink("in.jsonl", place.path("link.json")).unwrap();
    for command in ["score --model nonexistent --input", "edit --model nonexistent --input", "revert"] {
        let run = |words: &str| place.run(&format!("{command} in.jsonl {words}"));
        for summary in ["in.jsonl", "folder/../in.jsonl", "link.json", "out.jsonl", "folder/../out.jsonl"] {
            let words = format!("--output out.jsonl --overwrite --summary {summary}");
            run(&words).fails(&[summary, "input or output"]);
        }
        run("--output folder --summary folder/in.jsonl").fails(&["folder/in.jsonl", "input or output"]);
        run("--output - --summary -").fails_with(2, &["standard output", "not both"]);
        run("--output - --overwrite --summary /dev/null").fails(&["/dev/null", "not a regular file"]);
    }
    assert_eq!(place.read("s.json"), "precious");
    place
        .edit("--input in.jsonl --diff --summary in.jsonl --overwrite")
        .fails(&["in.jsonl", "input or output"]);
    place.edit("--input in.jsonl --dry-run --summary s.json").done();
    assert_eq!(place.read("s.json"), "precious");
    place.edit("--input in.jsonl --diff --summary s.json").done();
    assert_eq!(place.json("s.json")["documents"], 1);
}

#[test]
fn one_is_not_several() {
    let place = Place::with_input("{\"text\":\"a\"}\n");
    let said = place.edit("--input in.jsonl --output out.jsonl").done().stderr;
    assert!(said.starts_with("1 document, 1 token at "), "{said}");
    assert!(place.edit("--input in.jsonl --dry-run").done().stdout.starts_with("1 document, 1 token, "));
    assert_eq!(place.run("revert out.jsonl --output -").done().stderr, "1 document, 0 tokens reverted\n");
}

/// As under `toedit … --output - | head -1`.
#[test]
fn a_reader_that_goes_away_ends_the_run_quietly() {
    let place = Place::new();
    for words in [
        "score --model tiny --input sample.jsonl --output - --top-k 8",
        "edit --model tiny --input sample.jsonl --diff 100 --resample-above 0 --temperature 5",
    ] {
        let mut command = place.command(words);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = [0];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]), "{words}");
    }
}

#[test]
fn a_full_disk_is_an_error() {
    let place = Place::new();
    for words in [
        "score --model tiny --input sample.jsonl --output -",
        "edit --model tiny --input sample.jsonl --output -",
        "edit --model tiny --input sample.jsonl --diff --resample-above 0.5",
        "info",
        "completions bash",
        "edit --show-config",
    ] {
        let mut command = place.command(words);
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = command.stdout(full).stderr(Stdio::piped()).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{words}: {stderr}");
        assert!(
            stderr.lines().last().unwrap().starts_with("toedit: standard output: No space left"),
            "{stderr}"
        );
    }
}

/// A limit on the size of files stands in for a disk that fills up midway.
#[test]
fn an_output_that_cannot_be_finished_does_not_get_its_name() {
    let place = Place::new();
    let words = "score --model tiny --input sample.jsonl --output out.jsonl --per-token";
    place.run_under("ulimit -f 8; trap '' XFSZ", words).fails(&["out.jsonl", "File too large"]);
    let kinds = ["journal", "partial"].map(|kind| ("out.jsonl".to_owned(), kind.to_owned()));
    assert_eq!(place.unfinished(), kinds);
    // The next run begins afresh.
    place.score("--input sample.jsonl --output out.jsonl").done();
    assert_eq!((place.names(), place.records("out.jsonl").len()), (vec!["out.jsonl".to_owned()], 36));
}

/// Short documents come first, long ones with much overlap after the sample: each of their tokens takes longer.
#[test]
fn a_dry_run_estimates_by_what_the_model_sees() {
    let place = Place::new();
    let records =
        |count: usize, tokens: usize| format!("{}\n", json!({ "input_ids": vec![7; tokens] })).repeat(count);
    place.put("in.jsonl", records(300, 40) + &records(20, 5000));
    let words = "--input in.jsonl --dry-run --max-length 64 --overlap 60 --batch-tokens 4000";
    let said = place.edit(words).done().stdout;
    let number = |before: &str, after: &str| -> f64 {
        let (rest, _) = said.split_once(after).unwrap();
        rest.rsplit_once(before).unwrap().1.parse().unwrap()
    };
    let computed = number("tokens, ", " with the overlap of windows");
    let sample = number("tokens (", " with overlap)");
    let (took, about) = (number("took ", " s,"), number("about ", " s for everything"));
    assert!(computed / sample > 150.0, "{said}");
    // Both times are rounded.
    assert!((about - took * computed / sample).abs() < 0.005 * computed / sample + 0.6, "{said}");
}
