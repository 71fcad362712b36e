//! SIGINT and SIGTERM, with standard input left open: nothing more would come without them.

use std::fs::File;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::Place;

const PATIENCE: Duration = Duration::from_secs(30);

/// Starts a command that reads standard input, and waits until it has begun to write.
fn start(place: &Place, words: &str, input: &[u8]) -> Child {
    let mut command = place.command(words);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(input).unwrap();
    let start = Instant::now();
    while !place.path(".out.jsonl.partial").exists() {
        assert!(start.elapsed() < PATIENCE, "{words}: nothing was written");
        sleep(Duration::from_millis(5));
    }
    child
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

/// The exit status and what was said. Standard input stays open until then.
fn end(mut child: Child) -> (Option<i32>, String) {
    let stdin = child.stdin.take();
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > PATIENCE {
            child.kill().unwrap();
        }
        sleep(Duration::from_millis(5));
    }
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_signal_stops_the_run() {
    let place = Place::with_sample(4);
    let input = place.bytes("in.jsonl");
    place.edit("--input in.jsonl --output edited.jsonl --provenance").done();
    let edited = place.bytes("edited.jsonl");
    let score = "score --model tiny --input - --output out.jsonl --batch-tokens 64";
    let edit = "edit --model tiny --input - --output out.jsonl --batch-tokens 64";
    let revert = "revert - --output out.jsonl";
    for (words, input) in [(score, &input), (edit, &input), (revert, &edited)] {
        for (name, number) in [("-INT", 2), ("-TERM", 15)] {
            let child = start(&place, words, input);
            signal(&child, name);
            let (status, stderr) = end(child);
            assert_eq!(status, Some(128 + number), "{words}: {stderr}");
            assert_eq!(stderr, format!("toedit: stopped by signal {number}\n"));
            assert_eq!(place.names(), [".out.jsonl.partial", "edited.jsonl", "in.jsonl"]);
            std::fs::remove_file(place.path(".out.jsonl.partial")).unwrap();
        }
    }
}

/// Standard input stays open and brings nothing more: the error is told nonetheless.
#[test]
fn a_failure_does_not_wait_for_more_input() {
    let place = Place::new();
    let input = "{\"input_ids\":[1,2,3]}\n{\"input_ids\":[1,99999]}\n{\"input_ids\":[1,2,3]}\n";
    let mut command = place.command("score --model tiny --input - --output out.jsonl --batch-tokens 2");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut work_fails = command.spawn().unwrap();
    work_fails.stdin.as_mut().unwrap().write_all(input.as_bytes()).unwrap();
    let (status, stderr) = end(work_fails);
    assert_eq!(status, Some(1), "{stderr}");
    assert!(stderr.contains("-:2: ") && stderr.contains("99999"), "{stderr}");

    let mut command = place.command("edit --model tiny --input - --output - --batch-tokens 2");
    let full = File::options().write(true).open("/dev/full").unwrap();
    command.stdin(Stdio::piped()).stdout(full).stderr(Stdio::piped());
    let mut write_fails = command.spawn().unwrap();
    // More than the writer holds back.
    let line = format!("{{\"x\":\"{}\",\"input_ids\":[1,2,3]}}\n", "x".repeat(1 << 20));
    write_fails.stdin.as_mut().unwrap().write_all(line.repeat(2).as_bytes()).unwrap();
    let (status, stderr) = end(write_fails);
    assert_eq!(status, Some(1), "{stderr}");
    assert!(stderr.contains("No space left"), "{stderr}");
}

#[test]
fn two_processes_do_not_write_one_output() {
    let place = Place::with_sample(4);
    let words = "score --model tiny --input - --output out.jsonl --batch-tokens 64";
    let first = start(&place, words, &place.bytes("in.jsonl"));
    place.score("--input in.jsonl --output out.jsonl").fails_with(75, &["out.jsonl", "another process"]);
    signal(&first, "-TERM");
    assert_eq!(end(first).0, Some(143));
}
