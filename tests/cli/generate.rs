//! `toedit generate`: records with texts, what must not matter, and what is refused.

use serde_json::{Value, json};

use crate::{Outcome, Place};

impl Place {
    /// `toedit generate` with the model.
    fn generate(&self, words: &str) -> Outcome {
        self.run(&format!("generate --model tiny {words}"))
    }
}

const INPUT: &str = concat!(
    "{\"id\": \"a\", \"text\": \"The President of the\", \"x\": 1.0}\n",
    "{\"input_ids\": [5, 6, 7, 8], \"y\": [ 2 ]}\n",
    "{\"text\": \"caf\\u00e9\", \"output\": null, \"toedit\": {}}\n",
);

fn text<'a>(record: &'a Value, name: &str) -> &'a str {
    record[name].as_str().unwrap_or_else(|| panic!("no {name} in {record}"))
}

#[test]
fn texts_and_ids_go_into_members_beside_what_is_there() {
    let place = Place::with_input(INPUT);
    let outcome = place.generate("--input in.jsonl --max-new-tokens 6 --ignore-eos --quiet").done();
    let lines: Vec<_> = outcome.stdout.lines().collect();
    assert!(lines[0].starts_with(r#"{"id": "a", "text": "The President of the", "x": 1.0,"output":""#));
    assert!(
        lines[1]
            .starts_with(r#"{"input_ids": [5, 6, 7, 8], "y": [ 2 ],"finish_reason":"length","output_ids":["#)
    );
    assert!(
        lines[2].starts_with(r#"{"text": "caf\u00e9", "output": ""#)
            && lines[2].contains(r#", "toedit": {},"#)
    );
    let records = outcome.records();
    assert!(!text(&records[0], "output").is_empty() && text(&records[2], "finish_reason") == "length");
    assert_eq!(records[1]["output_ids"].as_array().unwrap().len(), 6);
    assert_eq!(outcome.stderr, "");
}

#[test]
fn a_corpus_goes_on_from_its_beginnings() {
    let place = Place::with_sample(6);
    let common = "--input in.jsonl --prefix-tokens 5 --max-new-tokens 8 --ids --temperature 0.8 --seed 3";
    let output = place.generate(common).done().records();
    let texts = place.generate(&format!("{common} --emit text")).done().records();
    let documents = place.generate(&format!("{common} --emit document")).done().records();
    for (((before, output), alone), document) in
        place.records("in.jsonl").iter().zip(&output).zip(&texts).zip(&documents)
    {
        let new = text(output, "output");
        assert_eq!(text(output, "text"), text(before, "text"));
        assert_eq!(text(alone, "text"), new);
        let prefix = text(document, "text").strip_suffix(new).unwrap();
        assert!(!prefix.is_empty() && text(before, "text").starts_with(prefix), "{prefix}");
        assert_eq!(output["output_ids"], document["output_ids"]);
        assert!(alone["output"].is_null() && alone["finish_reason"].is_null());
        assert_eq!(alone["id"], before["id"]);
    }
}

#[test]
fn documents_from_nothing_differ_by_their_numbers() {
    let place = Place::new();
    place.generate("--documents 12 --max-new-tokens 10 --output out.jsonl").done();
    let records = place.records("out.jsonl");
    let ids: Vec<_> = records.iter().map(|record| record["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, (0..12).collect::<Vec<_>>());
    let mut texts: Vec<_> = records.iter().map(|record| text(record, "text")).collect();
    texts.sort_unstable();
    texts.dedup();
    assert_eq!(texts.len(), 12);
    assert!(records.iter().all(|record| record.as_object().unwrap().len() == 2));
    let fewer = place.generate("--documents 5 --max-new-tokens 10").done().records();
    assert_eq!(fewer, records[..5]);
    place.run("verify out.jsonl").done();
}

#[test]
fn neither_batch_nor_threads_nor_neighbours_matter() {
    let place = Place::with_sample(20);
    let words = "--input in.jsonl --prefix-tokens 9 --max-new-tokens 12 --logprobs --repetition-penalty 1.1";
    let expected = place.generate(&format!("{words} --batch-size 64")).done().stdout;
    for others in ["--batch-size 1 --threads 1", "--batch-size 3 --threads 3", "--batch-size 20 --threads 2"]
    {
        assert_eq!(place.generate(&format!("{words} {others}")).done().stdout, expected, "{others}");
    }
    let lines: String = expected.split_inclusive('\n').rev().collect();
    let reversed: String = place.read("in.jsonl").split_inclusive('\n').rev().collect();
    place.put("in.jsonl", reversed);
    assert_eq!(place.generate(words).done().stdout, lines);
}

#[test]
fn samples_of_a_prompt_are_numbered() {
    let place = Place::with_input(INPUT);
    let words = "--input in.jsonl --max-new-tokens 6 --ids";
    let one = place.generate(words).done().records();
    let three = place.generate(&format!("{words} --samples 3")).done().records();
    for (one, three) in one.iter().zip(&three) {
        assert_eq!(three["output_ids"][0], one["output_ids"]);
        assert_eq!(three["output_ids"].as_array().unwrap().len(), 3);
        assert_ne!(three["output_ids"][0], three["output_ids"][1]);
        assert_eq!(three["finish_reason"].as_array().unwrap().len(), 3);
    }
    assert_eq!(three[0]["output"][0], one[0]["output"]);
    place
        .generate(&format!("{words} --samples 2 --emit text"))
        .fails_with(2, &["--samples 2", "--emit output"]);
}

#[test]
fn log_probabilities_are_those_of_scoring() {
    let place = Place::with_input("{\"input_ids\": [5, 6, 7, 8]}\n");
    let words =
        "--input in.jsonl --emit document --ids --logprobs --max-new-tokens 20 --dtype f32 --ignore-eos";
    place.generate(&format!("{words} --output out.jsonl")).done();
    let record = &place.records("out.jsonl")[0];
    assert_eq!(record["input_ids"].as_array().unwrap().len(), 24);
    let scored = &place.score("--input out.jsonl --output - --per-token --dtype f32").done().records()[0];
    assert_eq!(
        scored["logprobs"].as_array().unwrap()[4..],
        record["output_logprobs"].as_array().unwrap()[..]
    );
}

#[test]
fn a_stop_text_ends_a_text_and_is_left_out() {
    let place = Place::with_sample(4);
    let words = "--input in.jsonl --prefix-tokens 4 --max-new-tokens 30 --ignore-eos";
    let whole = place.generate(words).done().records();
    let stopped = place.generate(&format!("{words} --stop e --stop i")).done().records();
    for (whole, stopped) in whole.iter().zip(&stopped) {
        let whole = text(whole, "output");
        let end = whole.find(['e', 'i']);
        assert_eq!(text(stopped, "output"), &whole[..end.unwrap_or(whole.len())]);
        assert_eq!(text(stopped, "finish_reason"), if end.is_some() { "stop" } else { "length" });
    }
}

#[test]
fn the_text_of_a_prompt_is_shown() {
    let place = Place::with_input("{\"text\": \"The President\"}\n");
    let expected = place.generate("--input in.jsonl --max-new-tokens 9").done().records();
    let mut command = place.command("generate --model tiny --max-new-tokens 9 --quiet --prompt");
    command.arg("The President");
    let shown = crate::run(command, b"").done();
    assert_eq!(shown.stdout, format!("{}\n", text(&expected[0], "output")));
    assert_eq!(shown.stderr, "");
}

#[test]
fn prompts_that_leave_no_room_are_named_and_set_aside() {
    let long: String = vec!["The President"; 30].join(" ");
    let place = Place::with_input(&format!("{}\n{{\"text\": \"a\"}}\n", json!({ "text": long })));
    let words = "--input in.jsonl --max-length 20 --max-new-tokens 500 --ignore-eos --output out.jsonl";
    place.generate(words).fails(&["in.jsonl:1: a prompt of ", "up to 20 together"]);
    place.generate(&format!("{words} --on-error skip --overwrite --ids")).exits_with(3);
    let records = place.records("out.jsonl");
    assert_eq!(records.len(), 1);
    let tokens = records[0]["output_ids"].as_array().unwrap().len();
    assert!((18..20).contains(&tokens), "{tokens}");
    assert_eq!(place.records("out.jsonl.rejects").len(), 1);
}

#[test]
fn summaries_and_resumed_runs_cover_all_of_the_output() {
    let place = Place::with_sample(8);
    let words = "--input in.jsonl --prefix-tokens 3 --max-new-tokens 5 --ignore-eos --output out.jsonl";
    let outcome = place.generate(&format!("{words} --summary s.json")).done();
    assert!(outcome.stderr.starts_with("8 documents, 40 tokens at "), "{}", outcome.stderr);
    let summary = place.json("s.json");
    let expected = json!({"command": "generate", "documents": 8, "texts": 8, "prompt_tokens": 24, "generated_tokens": 40, "stopped": 0, "max_new_tokens": 5, "seed": 0});
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&summary[name], value, "{name}");
    }
    place.generate(&format!("{words} --resume")).done();
    place.generate(&format!("{words} --resume --seed 1")).fails_with(1, &["seed"]);
    let words = "--max-new-tokens 4 --output none.jsonl --resume --documents";
    place.generate(&format!("{words} 9")).done();
    let outcome = place.generate(&format!("{words} 9")).done();
    assert!(outcome.stderr.contains("9 done before"), "{}", outcome.stderr);
    place.generate(&format!("{words} 10")).fails_with(1, &["documents"]);
}

#[test]
fn what_does_not_go_together_is_wrong_usage() {
    let place = Place::with_input(INPUT);
    for (words, part) in [
        ("", "--prompt TEXT, --input PATH"),
        ("--input in.jsonl --documents 3", "cannot be used with"),
        ("--prompt x --output out.jsonl", "cannot be used with"),
        ("--documents 3 --top-p 0", "above 0"),
        ("--documents 3 --stop=", "--stop: an empty text"),
        ("--input in.jsonl --text-field output", "--text-field output"),
        ("--documents 2 --max-length 99999", "max length 99999"),
    ] {
        let outcome = place.generate(words);
        assert_eq!((outcome.status, outcome.stdout.as_str()), (2, ""), "{words}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(part), "{words}: {}", outcome.stderr);
    }
    place.put("in.txt", "The President");
    place.generate("--input in.txt --output out.txt").fails_with(2, &["out.txt", "text"]);
    place.generate("--input in.txt --output out.txt --emit document --max-new-tokens 4").done();
    assert!(place.read("out.txt").starts_with("The President"));
}
