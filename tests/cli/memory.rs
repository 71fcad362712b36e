//! Memory is bounded by window, batch and model, whatever the size of the corpus.

use serde_json::json;

use crate::Place;
use crate::formats::{gzip, zstd};

/// A record of a megabyte, nearly all of it in a field that is carried through.
fn record(text: &str) -> String {
    format!("{{\"x\":\"{}\",\"text\":{}}}\n", "x".repeat(1 << 20), json!(text))
}

/// Half a gigabyte in records that have next to no tokens.
#[test]
fn memory_does_not_grow_with_what_is_carried_through() {
    let place = Place::new();
    place.put("in.jsonl.gz", gzip(record("a").as_bytes()).repeat(512));
    for command in ["score", "edit"] {
        let words = format!("{command} --model tiny --input in.jsonl.gz --output {command}.jsonl.gz");
        place.run(&format!("{words} --threads 1 --summary {command}.json")).done();
        let summary = place.json(&format!("{command}.json"));
        assert_eq!(summary["documents"], 512);
        // Null where the system does not say.
        let peak = summary["peak_memory_bytes"].as_u64().unwrap_or(0);
        assert!(peak < 256 << 20, "{command}: {peak} bytes");
    }
}

/// Four gigabytes within half a gigabyte of addresses, which thread stacks and the allocator's reserves share.
#[test]
fn a_corpus_many_times_the_limit_on_memory() {
    let place = Place::new();
    let text = "The United States of America is a country primarily located in North America.";
    place.put("in.jsonl.zst", zstd(record(text).as_bytes()).repeat(4096));
    let words = "edit --model tiny --input in.jsonl.zst --output out.jsonl.zst --threads 1 --summary s.json";
    place.run_under("ulimit -v 524288", words).done();
    assert_eq!(place.json("s.json")["documents"], 4096);
    place.run("verify out.jsonl.zst").done();
}

/// Ten gigabytes of zeros, compressed: one line without an end, and good records on either side.
#[test]
fn bombs_of_ten_gigabytes() {
    const GOOD: &str = "{\"text\":\"The United States of America\"}\n";
    let zeros = vec![0; 64 << 20];
    for (name, compress) in [("in.jsonl.gz", gzip as fn(&[u8]) -> Vec<u8>), ("in.jsonl.zst", zstd)] {
        let place = Place::new();
        let parts = [
            compress(GOOD.as_bytes()),
            compress(&zeros).repeat(160),
            compress(b"\n"),
            compress(GOOD.as_bytes()),
        ];
        place.put(name, parts.concat());
        assert!(place.bytes(name).len() < 100 << 20);
        let words = format!("edit --model tiny --input {name} --output out.jsonl --threads 1");
        place.run(&words).fails(&[&format!("{name}:2"), "--max-document-bytes"]);
        place.run_under("ulimit -v 524288", &format!("{words} --on-error skip --overwrite")).exits_with(3);
        assert_eq!((place.records("out.jsonl").len(), place.records("out.jsonl.rejects").len()), (2, 1));
    }
}
