//! `toedit analyze`: tables, pictures and one JSON object about one corpus or two.

use serde_json::Value;
use toedit::analysis::{NgramStatistics, bucket, js_divergence};

use crate::{Outcome, Place};

/// The sample in two halves, `a.jsonl` and `b.jsonl`.
fn halves() -> Place {
    let place = Place::new();
    let sample = place.read("sample.jsonl");
    let lines: Vec<&str> = sample.lines().collect();
    let (a, b) = lines.split_at(lines.len() / 2);
    place.put("a.jsonl", a.join("\n"));
    place.put("b.jsonl.gz", crate::formats::gzip(b.join("\n").as_bytes()));
    place
}

fn analyze(place: &Place, words: &str) -> Outcome {
    place.run(&format!("analyze --output out {words}"))
}

/// The lines of a table after its head, in fields; none of them is quoted.
fn table(place: &Place, name: &str) -> Vec<Vec<String>> {
    let text = place.read(&format!("out/{name}"));
    text.lines().skip(1).map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

#[test]
fn two_corpora_side_by_side() {
    let place = halves();
    let words = "--input a.jsonl --against b.jsonl.gz --name human --against-name new --summary s.json";
    let outcome = analyze(&place, words).done();
    for part in ["human: ", "new: ", " different bigrams, entropy ", "Jensen-Shannon "] {
        assert!(outcome.stderr.contains(part), "{part}: {}", outcome.stderr);
    }
    let report = place.json("out/analysis.json");
    assert_eq!(report, place.json("s.json"));
    let texts = |name: &str| -> Vec<String> {
        let text = |record: &Value| record["text"].as_str().unwrap().to_owned();
        place.records(name).iter().map(text).collect()
    };
    let all = texts("sample.jsonl");
    let (first, second) = all.split_at(all.len() / 2);
    let of = |texts: &[String]| {
        let mut statistics = NgramStatistics::default();
        statistics.add(NgramStatistics::count(texts.iter().map(String::as_str)));
        statistics
    };
    let expected = [of(first), of(second)];
    for (index, name) in ["human", "new"].into_iter().enumerate() {
        let (corpus, statistics) = (&report["corpora"][index], &expected[index]);
        let ngrams = &corpus["ngrams"];
        assert_eq!((&corpus["name"], &corpus["scores"]), (&name.into(), &Value::Null));
        assert_eq!(ngrams["documents"], [first, second][index].len());
        assert_eq!(ngrams["text_bytes"], [first, second][index].iter().map(String::len).sum::<usize>());
        assert_eq!(ngrams["hashed"], statistics.buckets().iter().sum::<u64>());
        assert_eq!(ngrams["distinct"][1]["count"], statistics.distinct(2).count);
        assert_eq!(ngrams["top_bigrams"][0]["bigram"], statistics.top_bigrams(1)[0].bigram);
        assert_eq!(ngrams["top_bigrams"].as_array().unwrap().len(), 64);
        assert!((number(&ngrams["effective_buckets"]).ln() - number(&ngrams["entropy"])).abs() < 1e-9);
        let column: Vec<u64> =
            table(&place, "buckets.csv").iter().map(|row| row[index + 1].parse().unwrap()).collect();
        assert_eq!(column, statistics.buckets());
    }
    let shares = expected.each_ref().map(|statistics| toedit::analysis::distribution(statistics.buckets()));
    assert!((number(&report["divergences"]["js"]) - js_divergence(&shares[0], &shares[1])).abs() < 1e-12);
    for name in ["buckets.svg", "bigrams-40.svg", "bigrams-64.svg"] {
        let svg = place.read(&format!("out/{name}"));
        assert!(svg.starts_with("<svg") && svg.contains("human") && svg.contains("new"), "{name}");
        assert!(!svg.contains("NaN"), "{name}");
    }
    assert!(!place.path("out/perplexities.csv").exists());
}

#[test]
fn scores_become_histograms() {
    let place = Place::with_sample(6);
    place.score("--input in.jsonl --output scores.jsonl --per-token --dtype f32").done();
    analyze(&place, "--scores scores.jsonl").done();
    let report = place.json("out/analysis.json");
    let scores = &report["corpora"][0]["scores"];
    let lines = place.records("scores.jsonl");
    let probabilities: Vec<f64> = lines
        .iter()
        .flat_map(|line| line["logprobs"].as_array().unwrap())
        .filter_map(Value::as_f64)
        .map(|logprob| f64::from(logprob as f32).exp())
        .collect();
    assert_eq!((&scores["documents"], &scores["scored"]), (&6.into(), &probabilities.len().into()));
    let nll: f64 = lines.iter().map(|line| number(&line["nll"])).sum();
    assert!((number(&scores["perplexity"]) / (nll / probabilities.len() as f64).exp() - 1.0).abs() < 1e-9);
    for count in [10, 300] {
        let mut bins = vec![0u64; count];
        probabilities.iter().for_each(|p| bins[((p * count as f64) as usize).min(count - 1)] += 1);
        let rows = table(&place, "token-probabilities.csv");
        let rows = rows.iter().filter(|row| row[1] == count.to_string());
        assert!(rows.map(|row| row[4].parse::<u64>().unwrap()).eq(bins), "{count}");
    }
    let above = probabilities.iter().filter(|p| **p >= 0.9).count();
    let thresholds = scores["tokens"]["thresholds"].as_array().unwrap();
    let found = thresholds.iter().find(|threshold| threshold["condition"] == "p>=0.9").unwrap();
    assert_eq!(found["count"], above);
    let documents: u64 =
        table(&place, "perplexities.csv").iter().map(|row| row[3].parse::<u64>().unwrap()).sum();
    assert_eq!(documents, 6);
    for name in ["perplexities.svg", "token-probabilities-10.svg", "token-probabilities-300.svg"] {
        let svg = place.read(&format!("out/{name}"));
        assert!(svg.starts_with("<svg") && svg.contains("input") && !svg.contains("NaN"), "{name}");
    }
    // Without probabilities of tokens there are those of documents.
    place.score("--input in.jsonl --output plain.jsonl").done();
    analyze(&place, "--scores plain.jsonl --overwrite").done();
    let report = place.json("out/analysis.json");
    assert_eq!(report["corpora"][0]["scores"]["tokens"], Value::Null);
    assert_eq!(report["corpora"][0]["ngrams"], Value::Null);
}

#[test]
fn results_depend_on_neither_threads_nor_runs() {
    let place = halves();
    let run = |words: &str| {
        analyze(&place, &format!("--input a.jsonl --against b.jsonl.gz --overwrite {words}")).done();
        ["buckets.csv", "bigrams.csv", "buckets.svg", "bigrams-64.svg"]
            .map(|name| place.bytes(&format!("out/{name}")))
    };
    let first = run("--threads 1");
    assert_eq!(run("--threads 2"), first);
    assert_eq!(run("--threads 5"), first);
}

#[test]
fn odd_texts_make_valid_tables_and_pictures() {
    let place = Place::with_input(
        "{\"text\":\"\"}\n{\"text\":\"\\u0001 <b> & \\\"q\\\", x,y \\ud83d\\ude00 \\u0000\"}\n{\"text\":\"one\"}\n",
    );
    place.put("long.txt", "w".repeat(100_000) + " " + &"é".repeat(1000));
    analyze(&place, "--input in.jsonl long.txt").done();
    let bigrams = place.read("out/bigrams.csv");
    for line in ["input,4,\"& \"\"\",1,", ",\"\"\", x\",1,"] {
        assert!(bigrams.contains(line), "{line}");
    }
    // Very long ones are counted, but not named.
    assert!(bigrams.len() < 10_000);
    let buckets = table(&place, "buckets.csv");
    assert!(buckets[usize::from(bucket("one"))][1].parse::<u64>().unwrap() >= 1);
    let svg = place.read("out/bigrams-40.svg");
    assert!(
        svg.contains("&lt;") && !svg.chars().any(|character| character.is_control() && character != '\n'),
        "{svg}"
    );
    assert!(svg.len() < 100_000);
}

#[test]
fn what_cannot_be_analysed_is_named() {
    let place = Place::with_input("{\"text\":\"a\"}\n{\"input_ids\":[1,2]}\n");
    let refused = |words: &str, status: i32, part: &str| {
        let outcome = place.run(words);
        assert_eq!(outcome.status, status, "{words}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(part), "{words}: {}", outcome.stderr);
    };
    refused("analyze", 2, "missing --input PATH");
    refused("analyze --input in.jsonl --output -", 2, "cannot be `-`");
    refused("analyze --input in.jsonl --output out", 1, "in.jsonl:2: no text");
    refused("analyze --input - --against - --output out", 2, "only once");
    refused("analyze --scores in.jsonl --output out", 1, "in.jsonl:1: missing field");
    for (line, part) in [
        ("{\"tokens\":1,\"scored\":1,\"nll\":0.5,\"perplexity\":0.5}", "perplexity"),
        (
            "{\"tokens\":1,\"scored\":1,\"nll\":0.5,\"perplexity\":2,\"logprobs\":[0.5]}",
            "log-probability 0.5",
        ),
        ("{\"tokens\":1,\"scored\":1,\"nll\":0.5,\"perplexity\":2,\"logprobs\":[\"x\"]}", "expected"),
        ("[1]", "scores.jsonl:2"),
    ] {
        let good = "{\"index\":0,\"tokens\":1,\"scored\":0,\"nll\":0,\"perplexity\":null}\n";
        place.put("scores.jsonl", format!("{good}{line}\n"));
        refused("analyze --scores scores.jsonl --output out", 1, part);
    }
    assert!(!place.path("out/analysis.json").exists());
    place.put("good.jsonl", "{\"text\":\"a b\"}\n");
    analyze(&place, "--input good.jsonl").done();
    analyze(&place, "--input good.jsonl").fails(&["analysis.json", "exists already"]);
    place.put("folder/a.jsonl", "{\"text\":\"a b\"}\n");
    place.run("analyze --input folder --output folder/out").fails(&["folder", "contains the output"]);
}
