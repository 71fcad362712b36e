//! `toedit score`: lines, figures per token, windows, and what must not matter.

use serde_json::{Value, json};

use crate::Place;

const TEXT: &str = "The President of the United States of America spoke to the people of the United States.";

fn line(text: &str) -> String {
    format!("{}\n", json!({ "text": text }))
}

/// An array of numbers and nulls.
fn numbers(record: &Value, name: &str) -> Vec<Option<f64>> {
    record[name].as_array().unwrap().iter().map(Value::as_f64).collect()
}

#[test]
fn a_line_has_the_id_or_the_line_number() {
    let place = Place::with_input(concat!(
        "{\"id\": \"a\\u0062\", \"text\": \"one two\"}\n\n",
        "{\"text\": \"three\", \"id\": 7.0}\n",
        "{\"text\": \"four\"}\n",
    ));
    let outcome = place.score("--input in.jsonl --output -").done();
    let starts = [r#"{"id":"a\u0062","tokens":"#, r#"{"id":7.0,"tokens":"#, r#"{"index":3,"tokens":"#];
    assert_eq!(outcome.stdout.lines().count(), starts.len());
    for (line, start) in outcome.stdout.lines().zip(starts) {
        assert!(line.starts_with(start), "{line}");
    }
    for record in outcome.records() {
        let (nll, scored) = (record["nll"].as_f64().unwrap(), record["scored"].as_f64().unwrap());
        let perplexity = record["perplexity"].as_f64().unwrap();
        assert!((perplexity - (nll / scored).exp()).abs() <= 1e-9 * perplexity, "{record}");
        assert_eq!(record.as_object().unwrap().len(), 5, "{record}");
    }
}

#[test]
fn figures_per_token_agree_with_each_other() {
    let place = Place::with_input(&line(TEXT));
    let words = "--input in.jsonl --output - --per-token --entropy --rank --top-k 3 --bos never";
    let record = &place.score(words).done().records()[0];
    let tokens = record["tokens"].as_u64().unwrap() as usize;
    let [ids, logprobs, entropy, rank] =
        ["input_ids", "logprobs", "entropy", "rank"].map(|name| numbers(record, name));
    for column in [&ids, &logprobs, &entropy, &rank] {
        assert_eq!(column.len(), tokens);
    }
    let top = record["top"].as_array().unwrap();
    assert_eq!(
        (top.len(), logprobs[0], entropy[0], rank[0], &top[0]),
        (tokens, None, None, None, &json!(null))
    );
    let total: f64 = logprobs.iter().flatten().sum();
    assert!((record["nll"].as_f64().unwrap() + total).abs() < 1e-3);
    for i in 1..tokens {
        let candidates = top[i].as_array().unwrap();
        assert_eq!(candidates.len(), 3);
        let value = |k: usize| candidates[k][1].as_f64().unwrap();
        assert!(value(0) >= value(1) && value(1) >= value(2) && value(0) <= 0.0);
        assert!((0.0..=4096f64.ln()).contains(&entropy[i].unwrap()));
        let rank = rank[i].unwrap() as usize;
        let place_in_top = candidates.iter().position(|candidate| candidate[0].as_f64() == ids[i]);
        assert_eq!(place_in_top, (rank <= 3).then(|| rank - 1), "token {i}");
        if rank <= 3 {
            assert!((value(rank - 1) - logprobs[i].unwrap()).abs() < 1e-5);
        }
    }
}

#[test]
fn each_flag_adds_its_array() {
    let place = Place::with_input(&line("a b"));
    let base = ["id", "index", "nll", "perplexity", "scored", "tokens"];
    for (flag, expected) in [
        ("", vec![]),
        ("--per-token", vec!["input_ids", "logprobs"]),
        ("--entropy", vec!["entropy", "input_ids", "logprobs"]),
        ("--rank", vec!["input_ids", "logprobs", "rank"]),
        ("--top-k 1", vec!["input_ids", "logprobs", "top"]),
    ] {
        let record = place.score(&format!("--input in.jsonl --output - {flag}")).done().records().remove(0);
        let mut names: Vec<_> = record.as_object().unwrap().keys().cloned().collect();
        names.retain(|name| !base.contains(&name.as_str()));
        assert_eq!(names, expected, "{flag}");
    }
}

#[test]
fn the_first_token_is_scored_where_something_stands_before_it() {
    let place = Place::with_input(&line(TEXT));
    let score =
        |words: &str| place.score(&format!("--per-token --output - {words}")).done().records().remove(0);
    let auto = score("--input in.jsonl");
    place.put("ids.jsonl", format!("{}\n", json!({ "input_ids": auto["input_ids"] })));
    let tokens = auto["tokens"].as_u64().unwrap();
    for (words, scored) in [
        ("--input in.jsonl --bos auto", tokens),
        ("--input in.jsonl --bos always", tokens),
        ("--input in.jsonl --bos never", tokens - 1),
        ("--input ids.jsonl --bos auto", tokens - 1),
        ("--input ids.jsonl --bos always", tokens),
        ("--input ids.jsonl --bos never", tokens - 1),
    ] {
        let record = score(words);
        assert_eq!(
            (record["tokens"].as_u64(), record["scored"].as_u64()),
            (Some(tokens), Some(scored)),
            "{words}"
        );
        let like = if scored == tokens { auto.clone() } else { score("--input in.jsonl --bos never") };
        assert_eq!(record["logprobs"], like["logprobs"], "{words}");
    }
    assert!(auto["logprobs"][0].is_number());
}

#[test]
fn a_model_without_bos_has_none_to_put_first() {
    let place = Place::with_input(&line("a"));
    place.copy_model();
    place.change("copy/config.json", |config| config["bos_token_id"] = Value::Null);
    let outcome = place.run("score --model copy --input in.jsonl --output - --bos always");
    outcome.fails(&["copy/config.json", "bos_token_id"]);
}

#[test]
fn nothing_scored_has_no_perplexity() {
    let place = Place::with_input("{\"text\":\"\"}\n{\"input_ids\":[5]}\n{\"input_ids\":[]}\n");
    for record in place.score("--input in.jsonl --output - --per-token").done().records() {
        assert_eq!((&record["scored"], &record["nll"]), (&json!(0), &json!(0.0)), "{record}");
        assert_eq!(record["perplexity"], Value::Null);
        assert_eq!(record["logprobs"].as_array().unwrap().len() as u64, record["tokens"].as_u64().unwrap());
    }
}

#[test]
fn long_documents_are_scored_in_windows() {
    let place = Place::with_input(&line(&TEXT.repeat(20)));
    let score = |words: &str| {
        let words = format!("--input in.jsonl --output - --per-token --summary s.json --overwrite {words}");
        let record = place.score(&words).done().records().remove(0);
        (record, place.json("s.json"))
    };
    let (whole, summary) = score("--max-length 64 --overlap 16");
    let tokens = whole["tokens"].as_u64().unwrap();
    // The sequence has a token before the text; each window after the first covers 48 new ones.
    let windows = 1 + (tokens + 1 - 64).div_ceil(48);
    assert_eq!((&whole["scored"], &summary["scored"]), (&json!(tokens), &json!(tokens)));
    assert_eq!(summary["windows"], windows);
    assert_eq!((&summary["max_length"], &summary["overlap"]), (&json!(64), &json!(16)));

    let (cut, summary) = score("--max-length 64 --overlap 16 --truncate");
    assert_eq!((&cut["tokens"], &cut["scored"]), (&json!(tokens), &json!(63)));
    assert_eq!((&summary["windows"], &summary["truncate"]), (&json!(1), &json!(true)));
    let [cut, whole] = [cut, whole].map(|record| numbers(&record, "logprobs"));
    assert_eq!(cut[..63], whole[..63]);
    assert!(cut[63..].iter().all(Option::is_none));
    assert!(whole.iter().all(Option::is_some));

    let (_, summary) = score("");
    assert_eq!((&summary["max_length"], &summary["overlap"]), (&json!(512), &json!(256)));
    let (_, summary) = score("--max-length 100");
    assert_eq!(summary["overlap"], 50);
}

#[test]
fn windows_that_make_no_sense_are_wrong_usage() {
    let place = Place::with_input(&line("a"));
    let score = |words: &str| place.score(&format!("--input in.jsonl --output - {words}"));
    score("--max-length 8 --overlap 8").fails_with(2, &["overlap"]);
    score("--overlap 512").fails_with(2, &["overlap"]);
    score("--max-length 513").fails_with(2, &["513", "512"]);
}

/// Batches, threads and mapped files are matters of speed.
#[test]
fn the_bytes_depend_on_the_input_alone() {
    let place = Place::with_sample(5);
    let ways = [
        "",
        "--batch-tokens 1 --threads 1",
        "--batch-tokens 333 --threads 3",
        "--batch-tokens 100000",
        "--mmap",
    ];
    for command in [
        "score --entropy --rank --top-k 2",
        "edit --provenance --resample-above 0.2 --drop-below 0.001 --sampler full",
        "edit --resample-above 0.2 --max-length 64 --overlap 8 --sampler rejection",
    ] {
        let bytes = |way: &str| {
            place.run(&format!("{command} --model tiny --input in.jsonl --output - {way}")).done().stdout
        };
        let expected = bytes(ways[0]);
        assert!(!expected.is_empty());
        for way in &ways[1..] {
            assert!(bytes(way) == expected, "{command} {way}");
        }
    }
}

#[test]
fn the_dtype_moves_figures_a_little() {
    let place = Place::with_sample(2);
    let perplexity = |words: &str, dtype: Option<&str>| {
        let words = format!("--input in.jsonl --output - --summary s.json --overwrite --threads 2 {words}");
        place.score(&words).done();
        let summary = place.json("s.json");
        assert_eq!(summary["threads"], 2);
        assert!(dtype.is_none_or(|dtype| summary["dtype"] == dtype), "{summary}");
        summary["perplexity"].as_f64().unwrap()
    };
    let [f32, bf16] = ["f32", "bf16"].map(|dtype| perplexity(&format!("--dtype {dtype}"), Some(dtype)));
    assert!(f32 != bf16 && (f32 / bf16 - 1.0).abs() < 0.02, "{f32} {bf16}");
    let auto = perplexity("--dtype auto --device cpu", None);
    assert!(auto == f32 || auto == bf16);
}
