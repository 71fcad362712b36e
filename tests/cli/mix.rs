//! `toedit mix`: shares of tokens from whole documents, carried over byte for byte.

use serde_json::{Value, json};
use toedit::tokenizer::Tokenizer;

use crate::{Outcome, Place};

/// Records of ids whose `id` says where they come from, each with `lens`' number of tokens.
fn corpus(name: &str, lens: impl Iterator<Item = usize>) -> String {
    let record = |(index, len): (usize, usize)| {
        format!(
            "{{\"n\": 1.0e2, \"id\":\"{name}{index}\",\"input_ids\":{:?}, \"x\":\"\\u00e9\"}}\n",
            vec![7; len]
        )
    };
    lens.enumerate().map(record).collect()
}

/// 300 human documents of 1 to 40 tokens and 200 synthetic ones of 5 to 24.
fn place() -> Place {
    let place = Place::new();
    place.put("human.jsonl", corpus("h", (0..300).map(|index| index * 7 % 40 + 1)));
    place.put(
        "synthetic.jsonl.gz",
        crate::formats::gzip(corpus("s", (0..200).map(|index| index * 3 % 20 + 5)).as_bytes()),
    );
    place
}

const BOTH: &str = "mix --human human.jsonl --synthetic synthetic.jsonl.gz --output out.jsonl";

fn mix(place: &Place, words: &str) -> Outcome {
    place.run(&format!("{BOTH} {words}"))
}

fn tokens(lines: &[Value], name: &str) -> u64 {
    let of_corpus = lines.iter().filter(|line| line["id"].as_str().unwrap().starts_with(name));
    of_corpus.map(|line| line["input_ids"].as_array().unwrap().len() as u64).sum()
}

#[test]
fn shares_are_exact_to_one_document_and_lines_are_as_they_were() {
    let place = place();
    let inputs = [place.read("human.jsonl"), corpus("s", (0..200).map(|index| index * 3 % 20 + 5))].concat();
    let inputs: std::collections::HashSet<_> = inputs.lines().collect();
    for (share, human) in [("0", 0), ("0.25", 500), ("0.5", 1000), ("0.75", 1500), ("1", 2000)] {
        let words = format!("--human-share {share} --tokens 2000 --overwrite --summary s.json");
        let outcome = mix(&place, &words).done();
        let lines = place.read("out.jsonl");
        assert!(lines.lines().all(|line| inputs.contains(line)));
        assert_eq!(lines.lines().collect::<std::collections::HashSet<_>>().len(), lines.lines().count());
        let records = place.records("out.jsonl");
        let found = [tokens(&records, "h"), tokens(&records, "s")];
        assert!(
            found[0].abs_diff(human) <= 20 && found[1].abs_diff(2000 - human) <= 12,
            "{share}: {found:?}"
        );
        let summary = place.json("s.json");
        assert_eq!(summary["human"]["chosen_tokens"], found[0]);
        assert_eq!(summary["synthetic"]["chosen_tokens"], found[1]);
        assert_eq!(
            (&summary["documents"], &summary["tokens"]),
            (&records.len().into(), &(found[0] + found[1]).into())
        );
        let reached = found[0] as f64 / (found[0] + found[1]) as f64;
        assert!((summary["human_share"].as_f64().unwrap() - reached).abs() < 1e-12);
        assert!(outcome.stderr.contains(&format!(
            "{} documents, {} tokens",
            records.len(),
            found[0] + found[1]
        )));
    }
}

#[test]
fn the_seed_decides_and_threads_do_not() {
    let place = place();
    let run = |words: &str| {
        let words = format!("--human-share 0.4 --tokens 1500 --overwrite --summary s.json {words}");
        mix(&place, &words).done();
        let mut summary = place.json("s.json");
        summary.as_object_mut().unwrap().remove("seconds");
        (place.read("out.jsonl"), summary)
    };
    let first = run("--seed 5 --threads 1");
    assert_eq!(run("--seed 5 --threads 2"), first);
    let verified = place.run("verify out.jsonl").done();
    assert!(
        verified.stdout.starts_with("ok: out.jsonl: ") && verified.stdout.contains(" records, "),
        "{}",
        verified.stdout
    );
    let manifest = place.json("out.jsonl.manifest");
    assert_eq!((&manifest["settings"]["seed"], &manifest["settings"]["command"]), (&5.into(), &"mix".into()));
    assert_eq!(manifest["inputs"][1]["records"], 200);
    assert!(manifest["inputs"][0]["sha256"].as_str().is_some_and(|hash| hash.len() == 64));
    let other = run("--seed 6");
    assert_ne!(other.0, first.0);
    assert_ne!(other.1["content"], first.1["content"]);
    assert_eq!(other.1["human"]["content"], first.1["human"]["content"]);
    // Both corpora all along: in each third of the lines.
    let records = place.records("out.jsonl");
    for part in records.chunks_exact(records.len() / 3) {
        let human = tokens(part, "h") as f64 / (tokens(part, "h") + tokens(part, "s")) as f64;
        assert!((human - 0.4).abs() < 0.15, "{human}");
    }
}

#[test]
fn a_tokenizer_counts_text() {
    let place = Place::new();
    let lines: Vec<String> = place.read("sample.jsonl").lines().map(str::to_owned).collect();
    place.put("a.jsonl", lines[..lines.len() / 2].join("\n"));
    place.put("b.jsonl", lines[lines.len() / 2..].join("\n") + "\n");
    place.put("c.txt", "One more text.");
    let words = "mix --model tiny --human a.jsonl c.txt --synthetic b.jsonl --human-share 0.5 --tokens 3000 --output out.jsonl.zst --summary s.json";
    place.run(words).done();
    let summary = place.json("s.json");
    let tokenizer = Tokenizer::from_file(place.path("tiny/tokenizer.json")).unwrap();
    let count = |text: &str| tokenizer.encode(text).unwrap().len() as u64;
    let text =
        |line: &String| serde_json::from_str::<Value>(line).unwrap()["text"].as_str().unwrap().to_owned();
    let human: u64 = lines[..lines.len() / 2].iter().map(|line| count(&text(line))).sum();
    assert_eq!(summary["human"]["tokens"], human + count("One more text."));
    let out = zstd::decode_all(&place.bytes("out.jsonl.zst")[..]).unwrap();
    let out = String::from_utf8(out).unwrap();
    let all: Vec<&str> = lines.iter().map(String::as_str).chain([r#"{"text":"One more text."}"#]).collect();
    assert!(out.lines().all(|line| all.contains(&line)));
    let total: u64 = out.lines().map(|line| count(&text(&line.to_owned()))).sum();
    assert_eq!(summary["tokens"], total);
    assert_eq!(summary["human"]["inputs"], json!(["a.jsonl", "c.txt"]));
}

#[test]
fn what_is_missing_too_small_or_in_the_way_is_named() {
    let place = place();
    let refused = |words: &str, status: i32, part: &str| {
        let outcome = place.run(words);
        assert_eq!(outcome.status, status, "{words}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(part), "{words}: {}", outcome.stderr);
        assert!(!place.path("out.jsonl").exists());
    };
    refused("mix", 2, "missing --human PATH");
    refused("mix --human human.jsonl --human-share 1 --tokens 9", 2, "missing --output");
    let rest = "--human-share 0.5 --tokens 100";
    refused(&format!("mix --human human.jsonl --output out.jsonl {rest}"), 2, "missing --synthetic");
    refused(&format!("mix --human human.jsonl --synthetic - --output out.jsonl {rest}"), 2, "more than once");
    refused(
        &format!("mix --human human.jsonl --synthetic synthetic.jsonl.gz --output out {rest}"),
        2,
        "JSON lines",
    );
    let same = "mix --human human.jsonl --synthetic synthetic.jsonl.gz --output human.jsonl --overwrite";
    refused(&format!("{same} {rest}"), 1, "both input and output");
    refused(&format!("{BOTH} --human-share 0.5 --tokens 100000"), 2, "50000 human tokens are wanted");
    refused(&format!("{BOTH} --human-share 1.5 --tokens 100"), 2, "from 0 to 1");
    refused(&format!("{BOTH} --human-share 0.5 --tokens 0"), 2, "--tokens");
    refused(&format!("{BOTH} {rest} --summary human.jsonl"), 1, "human.jsonl");
    place.put("text.jsonl", "{\"text\":\"no ids\"}\n");
    refused(
        "mix --human text.jsonl --output out.jsonl --human-share 1 --tokens 1",
        1,
        "text.jsonl:1: no `input_ids`",
    );
    place.put("out.jsonl.manifest", "");
    mix(&place, rest).fails(&["out.jsonl.manifest", "exists already"]);
    place.put("out.jsonl", "");
    mix(&place, rest).fails(&["out.jsonl", "exists already"]);
    // One corpus is enough where nothing of the other is wanted; ids may stand beside a text.
    place.put("both.jsonl", "{\"text\":\"a\",\"input_ids\":[1,2,3]}\n");
    place.run("mix --human both.jsonl --human-share 1 --tokens 3 --output - --quiet").done();
}
