//! Formats and places: what is read, and where it comes out.

use std::fs;
use std::io::{Read, Write};

use serde_json::json;

use crate::Place;
use crate::edit::{ALL, MANY};

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    flate2::bufread::GzDecoder::new(bytes).read_to_end(&mut out).unwrap();
    out
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 1).unwrap()
}

/// The edited `in.jsonl` of a place.
fn edited(place: &Place, words: &str) -> String {
    place.edit(&format!("--output - {MANY} {words}")).done().stdout
}

#[test]
fn compression_is_recognised_by_content() {
    let place = Place::with_sample(2);
    let plain = place.bytes("in.jsonl");
    place.put("in.jsonl.gz", gzip(&plain));
    place.put("in.jsonl.zst", zstd(&plain));
    place.put("members.jsonl.gz", plain.split_inclusive(|&b| b == b'\n').flat_map(gzip).collect::<Vec<_>>());
    place.put("liar.jsonl", gzip(&plain));
    place.put("honest.jsonl.gz", &plain);
    let expected = edited(&place, "--input in.jsonl");
    for name in ["in.jsonl.gz", "in.jsonl.zst", "members.jsonl.gz", "liar.jsonl", "honest.jsonl.gz"] {
        assert!(edited(&place, &format!("--input {name}")) == expected, "{name}");
        let outcome =
            place.run_with(&format!("edit --model tiny --input - --output - {MANY}"), &place.bytes(name));
        assert!(outcome.done().stdout == expected, "{name} on standard input");
    }
}

#[test]
fn the_outputs_name_asks_for_a_compression() {
    let place = Place::with_sample(2);
    let expected = edited(&place, "--input in.jsonl").into_bytes();
    for name in ["out.jsonl", "out.jsonl.gz", "out.json.zst"] {
        place.edit(&format!("--input in.jsonl --output {name} {MANY}")).done();
    }
    assert!(place.bytes("out.jsonl") == expected);
    let gz = place.bytes("out.jsonl.gz");
    assert!(gunzip(&gz) == expected);
    assert_eq!(gz[4..8], [0; 4], "a time stamp");
    let zst = place.bytes("out.json.zst");
    assert!(zstd::stream::decode_all(&zst[..]).unwrap() == expected);
    assert_eq!(zst[4] & 4, 4, "no checksum");
}

#[test]
fn a_folder_in_a_folder_out() {
    let place = Place::with_sample(2);
    let lines = place.bytes("in.jsonl");
    place.put("corpus/b/part.jsonl", &lines);
    place.put("corpus/a.jsonl.gz", gzip(&lines));
    place.put("corpus/c.json.zst", zstd(&lines));
    place.put("corpus/d.txt", "The United States of America");
    place.put("corpus/.hidden.jsonl", "not read");
    place.put("corpus/readme.md", "not read");
    let outcome = place.edit(&format!("--input corpus --output out {MANY}")).done();
    assert!(
        outcome.stderr.contains("readme.md") && !outcome.stderr.contains(".hidden"),
        "{}",
        outcome.stderr
    );
    let expected = edited(&place, "--input in.jsonl").into_bytes();
    assert!(place.bytes("out/b/part.jsonl") == expected);
    assert!(gunzip(&place.bytes("out/a.jsonl.gz")) == expected);
    assert!(zstd::stream::decode_all(&place.bytes("out/c.json.zst")[..]).unwrap() == expected);
    assert!(place.path("out/d.txt").is_file());
    let manifests = 3;
    assert_eq!(fs::read_dir(place.path("out")).unwrap().count(), 4 + manifests);

    // All into one file, in the order of the names.
    let one = edited(&place, "--input corpus");
    assert_eq!(one.lines().count(), 7);
    assert!(one.as_bytes().starts_with(&[&expected[..], &expected, &expected].concat()));

    // Lines about a text file are no text.
    place.score("--input corpus --output scores --quiet").done();
    assert_eq!(place.records("scores/d.jsonl")[0]["index"], 0);
    assert_eq!(place.records("scores/b/part.jsonl").len(), 2);
}

#[test]
fn several_inputs_into_one_file_or_a_folder() {
    let place = Place::with_sample(1);
    place.put("x/one.jsonl", place.bytes("in.jsonl"));
    place.put("two.jsonl", "{\"text\":\"The United States of America\"}\n");
    let parts = ["x/one.jsonl", "two.jsonl"].map(|name| edited(&place, &format!("--input {name}")));
    assert_eq!(edited(&place, "--input x/one.jsonl two.jsonl"), parts.concat());
    assert_eq!(edited(&place, "--input two.jsonl --input x/one.jsonl"), [&parts[1][..], &parts[0]].concat());
    let words = format!("edit --model tiny --input x/one.jsonl - --output out {MANY}");
    place.run_with(&words, &place.bytes("two.jsonl")).done();
    assert_eq!([place.read("out/one.jsonl"), place.read("out/stdin.jsonl")], parts);
}

#[test]
fn a_text_file_is_one_document() {
    let place = Place::new();
    let text = "The President of the United States of America\n\n\u{feff}spoke — to \"all\" of them.\r\n";
    place.put("in.txt", text);
    place.edit("--input in.txt --output same.txt --rule p>1:drop").done();
    assert_eq!(place.read("same.txt"), text);
    place.edit(&format!("--input in.txt --output out.txt {ALL}")).done();
    place.edit(&format!("--input in.txt --output out.jsonl {ALL}")).done();
    place.edit(&format!("--input in.txt --output body.jsonl --text-field body {ALL}")).done();
    assert_ne!(place.read("out.txt"), text);
    assert_eq!(place.records("out.jsonl")[0]["text"], place.read("out.txt"));
    assert_eq!(place.records("body.jsonl")[0]["body"], place.read("out.txt"));
    assert!(place.read("out.jsonl").starts_with("{\"text\":\"") && place.read("out.jsonl").ends_with("}}\n"));

    place.put("one.jsonl", format!("{}\n", json!({"id": 1, "text": text})));
    place.edit("--input one.jsonl --output one.txt --rule p>1:drop").done();
    assert_eq!(place.read("one.txt"), text);
    place.put("bad.txt", b"line one\nline \xff two");
    place.edit("--input bad.txt --output bad.out.txt").fails(&["bad.txt:2", "utf-8"]);
}

#[test]
fn what_a_text_file_cannot_hold() {
    let place = Place::with_sample(2);
    place.put("a.txt", "a");
    place.put("b.txt", "b");
    place.edit("--input in.jsonl --output out.txt").fails(&["out.txt", "one document"]);
    place.edit("--input a.txt b.txt --output out.txt").fails(&["out.txt", "2 files"]);
    place.score("--input a.txt --output out.txt").fails(&["out.txt", ".jsonl"]);
    assert!(!place.path("out.txt").exists());
}

#[test]
fn places_that_cannot_be_read() {
    let place = Place::with_sample(1);
    let edit = |words: &str| place.edit(&format!("--output out {words}"));
    edit("--input nothing.jsonl").fails(&["nothing.jsonl", "No such file"]);
    fs::create_dir(place.path("empty")).unwrap();
    edit("--input empty").fails(&["empty", "no .jsonl"]);
    edit("--input - -").fails_with(2, &["standard input"]);
    edit("--input /dev/null").fails(&["/dev/null"]);
    place.put("loop/a.jsonl", "");
    std::os::unix::fs::symlink("../loop", place.path("loop/again")).unwrap();
    edit("--input loop").fails(&["loop/again", "links back"]);
}

#[test]
fn places_that_cannot_be_written() {
    let place = Place::with_sample(1);
    place.put("a/x.jsonl", "");
    place.put("b/x.jsonl", "");
    place.edit("--input a b --output out").fails(&["out/x.jsonl", "inputs 1 and 2"]);
    place
        .edit("--input in.jsonl --output in.jsonl --overwrite")
        .fails(&["in.jsonl", "both input and output"]);
    for output in ["a/out", "a/out.jsonl"] {
        place.edit(&format!("--input a --output {output}")).fails(&["a", "contains the output"]);
    }
    place.edit("--input in.jsonl --output no/such/out.jsonl").fails(&["no/such"]);
    place.edit("--input in.jsonl --output out.gz").fails(&["out.gz", "format"]);
    place.edit("--input in.jsonl --output /dev/full").fails(&["/dev/full"]);
    assert_eq!(place.names(), ["a", "b", "in.jsonl"]);
}
