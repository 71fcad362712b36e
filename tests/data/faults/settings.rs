//! A resume with other settings or another input is refused, by name.

use std::fs;
use std::sync::Arc;

use serde_json::{Value, json};
use toedit::data::{Begin, Manifest};

use super::Scene;
use super::failing::Failing;
use crate::assert_error;

fn settings() -> Value {
    json!({"version": "0.1.0", "model": "0123456789abcdef", "seed": 0, "rules": ["p>=0.99:resample"], "on_error": "skip"})
}

#[test]
fn settings_that_differ_are_named_with_both_values() {
    let scene = Scene::new("out.jsonl.gz");
    let other = [
        ("version", json!("0.2.0")),
        ("model", json!("fedcba9876543210")),
        ("seed", json!(1)),
        ("rules", json!(["p>=0.9:resample"])),
        ("on_error", json!("pass")),
        ("shard", json!("0/2")),
    ];
    for what in ["unfinished", "finished"] {
        scene.clear();
        let fails = (what == "unfinished").then(|| Arc::new(Failing::new(40, 5)) as _);
        assert_eq!(scene.run_with(Begin::New, fails, settings()).is_err(), what == "unfinished");
        let before = scene.names();
        for (name, value) in &other {
            let mut changed = settings();
            changed[name] = value.clone();
            let then = settings().get(name).map_or("nothing".to_owned(), Value::to_string);
            let expected = format!("the {what} output cannot be resumed: `{name}` was {then} and is {value}");
            assert_error(scene.run_with(Begin::Resume, None, changed), "out.jsonl.gz", &expected);
            assert_eq!(scene.names(), before, "a refusal leaves everything as it was");
        }
        scene.run_with(Begin::Resume, None, settings()).unwrap();
        scene.assert_whole(what);
    }
}

/// Up to where a run stopped at a record, other ways to deal with such records would have made the same.
#[test]
fn a_run_that_stopped_at_a_record_can_skip_it() {
    let scene = Scene::new("out.jsonl");
    let settings = |on_error| json!({"on_error": on_error, "max_document_bytes": 100});
    scene.run_with(Begin::New, Some(Arc::new(Failing::new(30, 5))), settings("stop")).unwrap_err();
    scene.run_with(Begin::Resume, None, json!({"on_error": "skip", "max_document_bytes": 200})).unwrap();
    scene.assert_whole("skipped");
    assert_error(scene.run_with(Begin::Resume, None, settings("skip")), "out.jsonl", "`max_document_bytes`");
}

#[test]
fn an_input_that_changed_is_refused() {
    let scene = Scene::new("out.jsonl");
    let input = scene.folder.path().join("in/a.jsonl");
    let bytes = fs::read(&input).unwrap();
    let changed = |at: usize| {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        fs::write(&input, changed).unwrap();
    };
    scene.interrupt(40);
    // The same size, another character where frames were made of it.
    changed(10);
    assert_error(scene.run(Begin::Resume, None), "a.jsonl", "is not what it was");
    fs::write(&input, [&bytes[..], b"\n"].concat()).unwrap();
    assert_error(scene.run(Begin::Resume, None), "out.jsonl", "`input` was");
    fs::write(&input, &bytes).unwrap();
    scene.run(Begin::Resume, None).unwrap();
    scene.assert_whole("the input as it was");

    let modified = fs::metadata(&input).unwrap().modified().unwrap();
    changed(10);
    assert_error(scene.run(Begin::Resume, None), "a.jsonl", "`input` has changed");
    fs::write(&input, &bytes).unwrap();
    assert_ne!(fs::metadata(&input).unwrap().modified().unwrap(), modified);
    scene.run(Begin::Resume, None).unwrap();
    scene.assert_whole("a new time, the same bytes");
}

#[test]
fn what_is_there_without_a_manifest_is_not_taken_for_finished() {
    let scene = Scene::new("out.jsonl");
    fs::write(&scene.output, "precious").unwrap();
    assert_error(scene.run(Begin::Resume, None), "out.jsonl", "no manifest");
    assert_error(scene.run(Begin::New, None), "out.jsonl", "exists already");
    assert_eq!(fs::read(&scene.output).unwrap(), b"precious");
    assert_error(Manifest::verify(&scene.output), "out.jsonl", "no manifest");
    scene.run(Begin::Overwrite, None).unwrap();
    scene.assert_whole("overwritten");
    fs::write(&scene.output, "other").unwrap();
    assert_error(scene.run(Begin::Resume, None), "out.jsonl", "size");
}

/// Without `--resume` a run begins afresh, and what an earlier one left stays until it is not needed any more.
#[test]
fn a_run_begins_afresh_unless_it_is_to_be_resumed() {
    let scene = Scene::new("out.jsonl");
    scene.interrupt(40);
    let left = scene.working("partial");
    scene.run(Begin::New, Some(Arc::new(Failing::new(30, 5)))).unwrap_err();
    assert!(left.exists());
    let journals = scene.names().iter().filter(|name| name.ends_with("journal")).count();
    assert_eq!(journals, 2);
    // The one that came furthest is gone on with.
    let written = scene.run(Begin::Resume, None).unwrap();
    assert!(written.resumed > 20, "{written:?}");
    scene.assert_whole("resumed");
}

#[test]
fn what_a_killed_process_left_behind_goes() {
    let scene = Scene::new("out.jsonl");
    let left = ["lock", "0123456789abcdef.partial", "0123456789abcdef.whole", "0123456789abcdef.journal"];
    for run in [Begin::New, Begin::Resume] {
        for (name, again) in left.into_iter().zip([Begin::Resume, Begin::Resume, run, run]) {
            scene.clear();
            if again == Begin::Resume {
                scene.run(Begin::New, None).unwrap();
            }
            fs::write(scene.output.with_file_name(format!(".out.jsonl.{name}")), "").unwrap();
            scene.run(again, None).unwrap();
            scene.assert_whole((name, again));
        }
    }
}
