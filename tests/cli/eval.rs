//! `toedit eval perplexity`: both means, against transformers' numbers and against `toedit score`.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;

use flate2::bufread::GzDecoder;
use serde_json::{Value, json};

use crate::common::folders::{shared, smollm2};
use crate::common::{FAMILIES, Golden};
use crate::{Outcome, Place};

impl Place {
    fn perplexity(&self, words: &str) -> Outcome {
        self.run(&format!("eval perplexity {words}"))
    }

    /// The summary of a run over `in.jsonl` with this model.
    #[track_caller]
    fn figures(&self, model: &str, words: &str) -> Value {
        let words = format!("--model {model} --input in.jsonl --dtype f32 --summary figures.json {words}");
        self.perplexity(&words).done();
        self.json("figures.json")
    }
}

#[track_caller]
fn assert_near(found: &Value, expected: f64, limit: f64) {
    let found = found.as_f64().unwrap();
    assert!((found / expected - 1.0).abs() <= limit, "{found} against {expected}");
}

fn mean(values: &[f32]) -> f64 {
    values.iter().map(|value| f64::from(*value)).sum::<f64>() / values.len() as f64
}

/// Documents of unequal length: prefixes of the reference's rows, which are scored as the rows are.
fn prefixes(golden: &Golden) -> Vec<(&[u32], &[f32])> {
    let documents = golden.documents();
    [(0, 33), (1, 5), (0, 1), (1, 20), (0, 2), (1, 33), (0, 9)]
        .into_iter()
        .map(|(row, len)| (&documents[row][..len], &golden.row("logprobs", row)[..len - 1]))
        .collect()
}

#[test]
fn both_means_agree_with_transformers() {
    for family in FAMILIES {
        let (golden, place) = (Golden::load(family), Place::new());
        symlink(&golden.folder, place.path("golden")).unwrap();
        let documents = prefixes(&golden);
        let lines: String =
            documents.iter().map(|(ids, _)| format!("{}\n", json!({ "input_ids": ids }))).collect();
        place.put("in.jsonl", lines);

        let all: Vec<f32> = documents.iter().flat_map(|document| document.1).copied().collect();
        let by_tokens = (-mean(&all)).exp();
        let summary = place.figures("golden", "");
        assert_near(&summary["perplexity"], by_tokens, 1e-4);
        assert_eq!(summary["token_weighted_perplexity"], summary["perplexity"]);
        assert_eq!((&summary["documents"], &summary["scored"]), (&json!(7), &json!(all.len())));
        assert_eq!((&summary["batch_mean"], &summary["batches"]), (&json!(false), &json!(null)));

        for (size, batches) in [(1, 6), (2, 4), (3, 3), (8, 1)] {
            let means: Vec<f64> = documents
                .chunks(size)
                .map(|batch| batch.iter().flat_map(|document| document.1).copied().collect::<Vec<_>>())
                .filter(|logprobs| !logprobs.is_empty())
                .map(|logprobs| mean(&logprobs))
                .collect();
            let expected = (-means.iter().sum::<f64>() / means.len() as f64).exp();
            let summary = place.figures("golden", &format!("--batch-mean --batch-size {size}"));
            assert_near(&summary["perplexity"], expected, 1e-4);
            assert_near(&summary["token_weighted_perplexity"], by_tokens, 1e-4);
            assert_eq!((&summary["batches"], &summary["batch_size"]), (&json!(batches), &json!(size)));
        }
    }
}

/// A real model on real text.
#[test]
fn a_real_model_agrees_with_transformers() {
    let Some(reference) = shared("golden/smollm2/dev.jsonl.gz") else { return };
    let place = Place::new();
    symlink(smollm2().unwrap(), place.path("smollm2")).unwrap();
    let file = BufReader::new(File::open(reference).unwrap());
    let (mut text, mut logprobs) = (String::new(), Vec::new());
    for line in BufReader::new(GzDecoder::new(file)).lines() {
        let record: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let own: Vec<f64> = record["logprobs"].as_array().unwrap().iter().filter_map(Value::as_f64).collect();
        if own.len() < 160 {
            text += &format!("{}\n", json!({ "text": record["text"] }));
            logprobs.extend(own);
        }
    }
    place.put("in.jsonl", text);
    let summary = place.figures("smollm2", "--bos never");
    assert_eq!(summary["scored"], logprobs.len());
    assert_near(&summary["perplexity"], (-logprobs.iter().sum::<f64>() / logprobs.len() as f64).exp(), 1e-4);
}

#[test]
fn figures_are_those_of_score() {
    let place = Place::with_sample(6);
    let figures = place.figures("tiny", "--max-length 64 --overlap 16");
    let score = "--input in.jsonl --output lines.jsonl --summary score.json --dtype f32";
    place.score(&format!("{score} --max-length 64 --overlap 16")).done();
    let score = place.json("score.json");
    for name in ["documents", "tokens", "scored", "windows", "nll", "perplexity", "fingerprint", "max_length"]
    {
        assert_eq!(figures[name], score[name], "{name}");
    }
    assert_eq!(figures["command"], "eval perplexity");
}

#[test]
fn the_mean_over_batches_sees_the_start_of_documents() {
    let place = Place::with_input(&format!("{}\n", json!({ "text": "one two three ".repeat(600) })));
    let own = |words: &str| {
        let summary = place.figures("tiny", words);
        (
            summary["max_length"].as_u64().unwrap(),
            summary["truncate"] == true,
            summary["scored"].as_u64().unwrap(),
        )
    };
    let (_, truncated, scored) = own("");
    assert!(!truncated && scored > 1024);
    // The model has 512 positions, one of them for the token that begins a text.
    assert_eq!(own("--batch-mean"), (512, true, 511));
    assert_eq!(own("--batch-mean --max-length 100"), (100, true, 99));
}

#[test]
fn the_figure_is_printed() {
    let place = Place::with_sample(3);
    let outcome = place.perplexity("--model tiny --input in.jsonl").done();
    assert!(outcome.stdout.is_empty());
    let last = outcome.stderr.lines().last().unwrap();
    assert!(last.starts_with("3 documents, ") && last.contains(" scored, perplexity "), "{last}");
    let outcome = place.perplexity("--model tiny --input in.jsonl --batch-mean --batch-size 2").done();
    assert!(outcome.stderr.trim_end().ends_with(" as a mean over batches of 2"), "{}", outcome.stderr);
    let outcome = place.perplexity("--model tiny --input in.jsonl --quiet --summary -").done();
    assert!(outcome.stderr.is_empty());
    let summary: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert!(summary["perplexity"].as_f64().unwrap() > 1.0);
    assert_eq!(place.names(), ["in.jsonl"]);
}

#[test]
fn nothing_scored_has_no_perplexity() {
    let place = Place::with_input("{\"input_ids\":[5]}\n{\"input_ids\":[]}\n");
    for words in ["", "--batch-mean"] {
        let summary = place.figures("tiny", words);
        assert_eq!((&summary["perplexity"], &summary["scored"]), (&Value::Null, &json!(0)));
    }
    let outcome = place.perplexity("--model tiny --input in.jsonl").done();
    assert!(outcome.stderr.contains("perplexity none"), "{}", outcome.stderr);
}

#[test]
fn wrong_usage_and_bad_records_are_named() {
    let place = Place::with_input("{\"text\":\"a\"}\n{\"txt\":\"b\"}\n");
    place.perplexity("--model tiny --input in.jsonl").fails(&["in.jsonl:2"]);
    place.perplexity("--model tiny --input in.jsonl --summary in.jsonl").fails(&["in.jsonl", "input"]);
    place.perplexity("--model no/such --input in.jsonl --batch-mean").fails(&["no/such"]);
    let outcome = place.perplexity("");
    assert_eq!(outcome.status, 2);
    assert!(outcome.stderr.contains("--model") && outcome.stderr.contains("toedit eval perplexity"));
    assert_eq!(place.run("eval").status, 2);
    assert_eq!(place.perplexity("--batch-size 0").status, 2);
}

#[test]
fn settings_come_from_a_file() {
    let place = Place::with_sample(3);
    place.put(
        "run.toml",
        "model = \"tiny\"\n[eval.perplexity]\nbatch-mean = true\nbatch-size = 2\n[edit]\ntop-k = 3\n",
    );
    let words = "--input in.jsonl --config run.toml --summary s.json";
    place.perplexity(words).done();
    let summary = place.json("s.json");
    assert_eq!((&summary["batch_size"], &summary["batches"]), (&json!(2), &json!(2)));
    for (text, part) in [
        ("[eval]\nbatch-mean = true\n", "batch-mean"),
        ("[eval.nothing]\nx = 1\n", "unknown table `nothing`"),
        ("[eval.perplexity]\ntop-k = 1\n", "unknown key `top-k`"),
        ("[perplexity]\nbatch-mean = true\n", "unknown table `perplexity`"),
    ] {
        place.put("run.toml", text);
        let outcome = place.perplexity(words);
        assert!(outcome.status == 2 && outcome.stderr.contains(part), "{text}: {}", outcome.stderr);
    }
}
