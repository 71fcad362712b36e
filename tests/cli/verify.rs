//! Outputs against their manifests.

use std::fs;

use crate::Place;

#[test]
fn one_line_for_each_output_and_status_1_if_any_fails() {
    let place = Place::with_sample(2);
    place.put("in/a.jsonl", place.bytes("in.jsonl"));
    place.put("in/sub/b.jsonl", "{\"text\":\"a\"}\n{\"text\":5}\n");
    place.edit("--input in --output out --on-error skip").exits_with(3);
    // More likely a summary than an output.
    place.put("out/s.json", "{}");
    let outcome = place.run("verify out").done();
    let lines: Vec<_> = outcome.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("ok: out/a.jsonl: 2 records, "), "{lines:?}");
    assert!(lines[1].starts_with("ok: out/sub/b.jsonl: 1 record, 1 set aside, "), "{lines:?}");
    place.run("verify out/a.jsonl out/sub").done();

    let fails = |part: &str| {
        let outcome = place.run("verify out").exits_with(1);
        let failed: Vec<_> = outcome.stdout.lines().filter(|line| line.starts_with("failed: ")).collect();
        assert!(failed.len() == 1 && failed[0].contains(part), "{part}: {}", outcome.stdout);
        assert_eq!(outcome.stderr, "");
    };
    let good = place.bytes("out/a.jsonl");
    let mut bad = good.clone();
    bad[20] ^= 1;
    place.put("out/a.jsonl", &bad);
    fails("out/a.jsonl: sha256 ");
    place.put("out/a.jsonl", &good[1..]);
    fails("its manifest says");
    fs::remove_file(place.path("out/a.jsonl")).unwrap();
    fails("out/a.jsonl: ");
    place.put("out/a.jsonl", &good);
    fs::remove_file(place.path("out/sub/b.jsonl.rejects")).unwrap();
    fails("b.jsonl.rejects");
    fs::remove_dir_all(place.path("out/sub")).unwrap();
    place.put("out/other.jsonl", "");
    fails("out/other.jsonl: has no manifest");
    fs::remove_file(place.path("out/other.jsonl")).unwrap();
    let words = "--input sample.jsonl --output out/late.jsonl --max-document-bytes 900 --frame-bytes 1";
    place.edit(words).fails(&["sample.jsonl"]);
    fails("out/late.jsonl: not finished");
    place.run("verify").exits_with(2);
    fs::create_dir(place.path("empty")).unwrap();
    place.run("verify empty").fails(&["empty", "no outputs"]);
    place.run("verify gone.jsonl").exits_with(1);
}

/// A folder of outputs is an input in turn.
#[test]
fn manifests_and_reject_files_are_no_inputs() {
    let place = Place::new();
    place.put("in/a.jsonl", "{\"text\":\"The United States\"}\n{\"text\":5}\n");
    place.edit("--input in --output out --on-error skip").exits_with(3);
    let outcome = place.edit("--input out --output again").done();
    assert!(
        outcome.stderr.starts_with("1 document, ") && outcome.stderr.lines().count() == 1,
        "{}",
        outcome.stderr
    );
}
