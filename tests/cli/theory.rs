//! `toedit theory`: the files that it writes, and what they say.

use serde_json::Value;

use crate::{Outcome, Place};

/// Small enough to take no time.
const SMALL: &str = "theory --samples 60 --dimension 3 --repetitions 40 --output out";

fn theory(place: &Place, words: &str) -> Outcome {
    place.run(&format!("{SMALL} {words}"))
}

#[test]
fn json_csv_and_plot_hold_the_same_simulation() {
    let place = Place::new();
    let outcome = theory(&place, "--summary sum.json").done();
    assert!(outcome.stdout.is_empty());
    for part in ["40 repetitions, V = 0.05", "disjoint, 0.1 each", "the collapse", "formula 11.000 V"] {
        assert!(outcome.stderr.contains(part), "{part}: {}", outcome.stderr);
    }
    let report = place.json("out/theory.json");
    assert_eq!(report, place.json("sum.json"));
    assert_eq!((&report["config"]["samples"], &report["config"]["seed"]), (&60.into(), &0.into()));
    assert_eq!(report["printed_bound"].as_f64().unwrap(), 2.0 * report["unit"].as_f64().unwrap());
    assert!(report["covers"].as_str().unwrap().contains("not the recursion"));
    let outcomes = report["outcomes"].as_array().unwrap();
    let csv = place.read("out/theory.csv");
    let rows: Vec<Vec<&str>> = csv.lines().skip(1).map(|line| line.split(',').collect()).collect();
    assert_eq!(rows.len(), 5 * 2 * 11);
    let figures = |outcome: &Value| {
        ["recursion", "estimator"].map(|name| outcome[name].as_array().unwrap().clone()).concat()
    };
    for (row, figure) in rows.iter().zip(outcomes.iter().flat_map(figures)) {
        for (column, name) in [(2, "generation"), (3, "error"), (4, "standard_error"), (5, "closed_form")] {
            let (in_csv, in_json) = (row[column].parse::<f64>().unwrap(), figure[name].as_f64().unwrap());
            assert!((in_csv - in_json).abs() <= 1e-14 * in_json, "{in_csv} {in_json}");
        }
    }
    let svg = place.read("out/theory.svg");
    assert!(svg.starts_with("<svg") && svg.contains("test error of w_n, in units of V"));
}

#[test]
fn the_same_settings_give_the_same_files() {
    let place = Place::new();
    let run = |words: &str| {
        theory(&place, &format!("--overwrite {words}")).done();
        ["theory.csv", "theory.svg"].map(|name| place.read(&format!("out/{name}")))
    };
    let first = run("--threads 1");
    assert_eq!(run("--threads 3"), first);
    assert_ne!(run("--seed 1"), first);
    let some = run("--schedule geometric --schedule all --share 0.3 --ratio 0.25 --generations 3");
    let masks: Vec<_> = some[0].lines().skip(1).map(|line| line.split(',').next().unwrap()).collect();
    assert!(
        masks[..6].iter().all(|mask| *mask == "geometric") && masks[6..].iter().all(|mask| *mask == "all")
    );
    assert_eq!(masks.len(), 12);
}

#[test]
fn wrong_usage_is_named_before_anything_is_written() {
    let place = Place::new();
    let refused = |words: &str, status: i32, part: &str| {
        let outcome = place.run(words);
        assert_eq!(outcome.status, status, "{}", outcome.stderr);
        assert!(outcome.stderr.contains(part), "{words}: {}", outcome.stderr);
        assert!(!place.path("out").exists());
    };
    refused("theory", 2, "missing --output PATH");
    refused("theory --output -", 2, "cannot be `-`");
    refused("theory --output out --share 0.2", 2, "disjoint masks");
    refused("theory --output out --schedule some", 2, "expected disjoint, random");
    refused("theory --output out --samples 10", 2, "10 samples of 20 features");
    refused("theory --output out --summary out", 1, "out");
    theory(&place, "").done();
    let before = place.read("out/theory.csv");
    theory(&place, "--seed 3").fails(&["theory.json", "exists already"]);
    assert_eq!(place.read("out/theory.csv"), before);
}
