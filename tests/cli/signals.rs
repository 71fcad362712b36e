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
    while place.unfinished().is_empty() {
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

/// What was durable stays, and a later run goes on behind it to the bytes of one that was not stopped.
#[test]
fn a_signal_stops_the_run_and_resume_goes_on() {
    let place = Place::with_sample(4);
    let input = place.bytes("in.jsonl");
    place.edit("--input in.jsonl --output edited.jsonl --provenance").done();
    let edited = place.bytes("edited.jsonl");
    let score = "score --model tiny --input - --output out.jsonl --batch-tokens 64 --frame-bytes 100";
    let edit = "edit --model tiny --input - --output out.jsonl --batch-tokens 64 --frame-bytes 100";
    let revert = "revert - --output out.jsonl --frame-bytes 100";
    for (words, input) in [(score, &input), (edit, &input), (revert, &edited)] {
        place.run_with(words, input).done();
        let whole = place.bytes("out.jsonl");
        for (name, number) in [("-INT", 2), ("-TERM", 15)] {
            for file in ["out.jsonl", "out.jsonl.manifest"] {
                std::fs::remove_file(place.path(file)).unwrap();
            }
            let child = start(&place, words, input);
            signal(&child, name);
            let (status, stderr) = end(child);
            assert_eq!(status, Some(128 + number), "{words}: {stderr}");
            assert_eq!(stderr, format!("toedit: stopped by signal {number}\n"));
            let left = place.unfinished();
            assert!(left.len() == 2 && left.iter().all(|(name, _)| name == "out.jsonl"), "{left:?}");
            place.run_with(&format!("{words} --resume"), input).done();
            assert!(place.bytes("out.jsonl") == whole, "{words}");
            assert_eq!(place.names(), ["edited.jsonl", "in.jsonl", "out.jsonl"]);
        }
        for file in ["out.jsonl", "out.jsonl.manifest"] {
            std::fs::remove_file(place.path(file)).unwrap();
        }
    }
}

/// At moments of its own choosing, once or twice: loading, reading, writing.
#[test]
fn signals_at_ten_moments() {
    let place = Place::with_sample(12);
    let words = "--input in.jsonl --output whole.jsonl.gz --batch-tokens 64 --frame-bytes 1000";
    let begun = Instant::now();
    place.edit(words).done();
    let whole = begun.elapsed();
    let words = words.replace("whole", "out");
    for moment in 0..10 {
        let mut command = place.command(&format!("edit --model tiny {words} --resume"));
        let child =
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        sleep(whole * moment / 12);
        signal(&child, "-TERM");
        if moment % 2 == 1 {
            signal(&child, "-TERM");
        }
        let (status, stderr) = end(child);
        // Before the handlers are there the signal itself ends the process; after the last frame it comes too late.
        assert!([None, Some(143), Some(0)].contains(&status), "{status:?}: {stderr}");
    }
    place.edit(&format!("{words} --resume")).done();
    assert!(place.bytes("out.jsonl.gz") == place.bytes("whole.jsonl.gz"));
    assert_eq!(place.names(), ["in.jsonl", "out.jsonl.gz", "whole.jsonl.gz"]);
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
