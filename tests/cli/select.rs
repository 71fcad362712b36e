//! `toedit select`: by importance weights and by perplexity.

use std::collections::HashSet;

use serde_json::{Value, json};
use toedit::analysis::{NgramStatistics, bucket_sums};
use toedit::select::{gumbel_top, log_ratios};

use crate::{Outcome, Place};

/// 60 documents of which every third is about cells; a target about cells.
fn place() -> Place {
    let place = Place::new();
    let text = |index: usize| match index % 3 {
        0 => format!("The cell membrane of organism {index} holds proteins."),
        1 => format!("Buy {index} cheap tickets today, buy now!"),
        _ => format!("Match {index} ended in a draw after extra time."),
    };
    let line =
        |index: usize| format!("{{\"n\":1.50, \"id\":\"d{index}\",\"text\":{}}}\n", json!(text(index)));
    place.put("raw.jsonl", (0..60).map(line).collect::<String>());
    place.put(
        "target.jsonl",
        "{\"text\":\"A membrane holds the cell.\"}\n{\"text\":\"Proteins of the cell membrane.\"}\n",
    );
    place
}

fn dsir(place: &Place, words: &str) -> Outcome {
    place.run(&format!("select dsir --input raw.jsonl --target target.jsonl {words}"))
}

fn texts(place: &Place, name: &str) -> Vec<String> {
    let text = |record: &Value| record["text"].as_str().unwrap().to_owned();
    place.records(name).iter().map(text).collect()
}

#[test]
fn dsir_takes_the_largest_noisy_weights() {
    let place = place();
    let outcome = dsir(&place, "--documents 20 --output out.jsonl --seed 4 --summary s.json").done();
    assert!(outcome.stderr.contains("20 of 60 documents chosen"), "{}", outcome.stderr);
    let buckets = |name: &str| {
        let mut statistics = NgramStatistics::default();
        let texts = texts(&place, name);
        statistics.add(NgramStatistics::count(texts.iter().map(String::as_str)));
        statistics.buckets().to_vec()
    };
    let ratios = log_ratios(&buckets("target.jsonl"), &buckets("raw.jsonl"));
    let raw = texts(&place, "raw.jsonl");
    let weights = bucket_sums(raw.iter().map(String::as_str), &ratios);
    let is_chosen = gumbel_top(&weights, 20, 4);
    let lines = place.read("raw.jsonl");
    let expected: String = lines
        .split_inclusive('\n')
        .zip(&is_chosen)
        .filter(|(_, is_chosen)| **is_chosen)
        .map(|(line, _)| line)
        .collect();
    assert_eq!(place.read("out.jsonl"), expected);
    place.run("verify out.jsonl").done();
    let rule = &place.json("out.jsonl.manifest")["settings"]["rule"];
    assert_eq!((&rule["seed"], &rule["wanted"]), (&4.into(), &20.into()));
    let content = rule["target_content"].as_str().unwrap();
    assert!(content.len() == 16 && content != place.json("s.json")["input_content"]);
    // That is what it is for.
    assert!(texts(&place, "out.jsonl").iter().filter(|text| text.contains("cell")).count() >= 18);
    let summary = place.json("s.json");
    assert_eq!((&summary["documents"], &summary["chosen"]), (&60.into(), &20.into()));
    let [all, chosen] =
        ["mean_log_weight", "chosen_mean_log_weight"].map(|name| summary[name].as_f64().unwrap());
    assert!((all - weights.iter().sum::<f64>() / 60.0).abs() < 1e-9 && chosen > all);
}

#[test]
fn the_same_seed_chooses_the_same_documents() {
    let place = place();
    let run = |words: &str| {
        dsir(&place, &format!("--documents 30 --output out.jsonl.zst --overwrite {words}")).done();
        place.bytes("out.jsonl.zst")
    };
    let first = run("--threads 1 --seed 1");
    assert_eq!(run("--threads 3 --seed 1"), first);
    assert_ne!(run("--seed 2"), first);
    dsir(&place, "--documents 100 --output all.jsonl").done();
    assert_eq!(place.read("all.jsonl"), place.read("raw.jsonl"));
}

#[test]
fn perplexities_are_chosen_by_range_and_by_quantile() {
    let place = place();
    place.score("--input raw.jsonl --output scores.jsonl").done();
    let perplexities: Vec<f64> =
        place.records("scores.jsonl").iter().map(|line| line["perplexity"].as_f64().unwrap()).collect();
    let mut sorted = perplexities.clone();
    sorted.sort_unstable_by(f64::total_cmp);
    let lines = place.read("raw.jsonl");
    let between = |low: f64, high: f64| -> String {
        let wanted = |(_, perplexity): &(&str, &f64)| (low..=high).contains(*perplexity);
        lines.split_inclusive('\n').zip(&perplexities).filter(wanted).map(|(line, _)| line).collect()
    };
    let run = |words: &str| {
        let words = format!(
            "select perplexity --input raw.jsonl --scores scores.jsonl --output out.jsonl --overwrite {words}"
        );
        place.run(&words).done();
        place.read("out.jsonl")
    };
    let (low, high) = ((sorted[9] + sorted[10]) / 2.0, (sorted[39] + sorted[40]) / 2.0);
    assert_eq!(run(&format!("--min-perplexity {low} --max-perplexity {high}")), between(low, high));
    assert_eq!(run(&format!("--max-perplexity {high}")), between(0.0, high));
    assert_eq!(run("--quantiles 0.25,0.75 --summary s.json"), between(sorted[14], sorted[44]));
    let summary = place.json("s.json");
    assert!((summary["max_perplexity"].as_f64().unwrap() / sorted[44] - 1.0).abs() < 1e-12);
    assert_eq!(run("--quantiles 0,1"), lines);
    let kept: HashSet<String> = run("--min-perplexity 1e6").lines().map(str::to_owned).collect();
    assert!(kept.len() < 60);
}

/// Ids of every kind, and lines where there are none.
#[test]
fn scores_are_told_apart_by_id_or_line() {
    let place = Place::with_input(
        "{\"id\":null,\"text\":\"a b\"}\n{\"id\": {\"n\": [1, 2]},\"text\":\"c d\"}\n\n{\"text\":\"e f\"}\n{\"id\":7.50,\"text\":\"g h\"}\n",
    );
    place.put("more.txt", "one text file");
    place.score("--input in.jsonl more.txt --output scores.jsonl").done();
    let words = "select perplexity --input in.jsonl more.txt --scores scores.jsonl --min-perplexity 1 --output out.jsonl";
    place.run(words).done();
    assert_eq!(place.records("out.jsonl").len(), 5);
}

#[test]
fn documents_without_a_perplexity_are_left_out() {
    let place = Place::with_input("{\"input_ids\":[5]}\n{\"input_ids\":[5,6,7]}\n");
    place.score("--input in.jsonl --output scores.jsonl").done();
    place.run("select perplexity --input in.jsonl --scores scores.jsonl --min-perplexity 1 --output out.jsonl --summary s.json").done();
    assert_eq!(place.read("out.jsonl"), "{\"input_ids\":[5,6,7]}\n");
    assert_eq!(place.json("s.json")["unscored_documents"], 1);
}

#[test]
fn scores_of_other_documents_are_refused() {
    let place = place();
    place.score("--input raw.jsonl --output scores.jsonl").done();
    let scores = place.read("scores.jsonl");
    let lines: Vec<&str> = scores.lines().collect();
    let refused = |lines: &[&str], parts: &[&str]| {
        place.put("other.jsonl", lines.join("\n"));
        let words =
            "select perplexity --input raw.jsonl --scores other.jsonl --max-perplexity 9 --output out.jsonl";
        place.run(words).fails(parts);
        assert!(!place.path("out.jsonl").exists());
    };
    refused(&lines[1..], &["other.jsonl:1", "not about raw.jsonl:1"]);
    refused(&lines[..59], &["raw.jsonl:60", "no line of the scores"]);
    refused(&[&lines[..], &lines[..1]].concat(), &["other.jsonl:61", "do not have"]);
    refused(&["{\"id\":\"d0\"}"], &["other.jsonl:1", "missing field"]);
}

#[test]
fn wrong_usage_is_named() {
    let place = place();
    let refused = |words: &str, part: &str| {
        let outcome = place.run(words);
        assert_eq!(outcome.status, 2, "{words}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(part), "{words}: {}", outcome.stderr);
    };
    refused("select", "dsir");
    refused("select dsir", "missing --input PATH");
    refused("select dsir --input raw.jsonl --target - --documents 3 --output out.jsonl", "more than once");
    refused("select perplexity --input raw.jsonl --scores target.jsonl --output o.jsonl", "--quantiles A,B");
    refused("select perplexity --quantiles 0.5,0.2", "smaller number first");
    refused("select perplexity --min-perplexity 9 --max-perplexity 2", "9 exceeds --max-perplexity 2");
    refused("select perplexity --quantiles 0.5,0.7 --min-perplexity 3", "cannot be used with");
    dsir(&place, "--documents 3 --output raw.jsonl --overwrite")
        .fails(&["raw.jsonl", "both input and output"]);
    dsir(&place, "--documents 3 --output target.jsonl --overwrite")
        .fails(&["target.jsonl", "both input and output"]);
    place.put("run.toml", "[select.dsir]\ndocuments = 5\n");
    dsir(&place, "--config run.toml --output out.jsonl").done();
    assert_eq!(place.records("out.jsonl").len(), 5);
}
