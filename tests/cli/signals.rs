//! SIGINT and SIGTERM, with standard input left open: nothing more would come without them.

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

#[test]
fn two_processes_do_not_write_one_output() {
    let place = Place::with_sample(4);
    let words = "score --model tiny --input - --output out.jsonl --batch-tokens 64";
    let first = start(&place, words, &place.bytes("in.jsonl"));
    place.score("--input in.jsonl --output out.jsonl").fails_with(75, &["out.jsonl", "another process"]);
    signal(&first, "-TERM");
    assert_eq!(end(first).0, Some(143));
}
