//! Which tokens are edited and how replacements are drawn.

use serde_json::{Value, json};

use crate::Place;

/// The summary of an edit of nothing, which tells the settings.
fn settings(place: &Place, words: &str) -> Value {
    place.put("empty.jsonl", "");
    place.edit(&format!("--input empty.jsonl --output - --summary s.json --overwrite {words}")).done();
    place.json("s.json")["edit"].clone()
}

/// The `toedit` object's counts, summed by the summary.
fn counts(place: &Place, words: &str) -> [u64; 4] {
    place.edit(&format!("--input in.jsonl --output - --summary s.json --overwrite {words}")).done();
    let summary = place.json("s.json");
    ["scored", "eligible", "changed", "dropped"].map(|name| summary[name].as_u64().unwrap())
}

#[test]
fn strategies_are_rules_and_a_temperature() {
    let place = Place::new();
    for (words, rules, temperature) in [
        ("", json!(["p>=0.99:resample"]), 1.5),
        ("--strategy up-revise", json!(["p>=0.99:resample"]), 1.5),
        ("--strategy low-drop-up-revise", json!(["p>=0.99:resample", "p<0.001:drop"]), 1.0),
        ("--strategy filtering", json!(["p<0.001:drop"]), 1.5),
        ("--strategy filtering --temperature 0.7", json!(["p<0.001:drop"]), 0.7),
        ("--strategy low-drop-up-revise --resample-above 0.5", json!(["p>=0.5:resample"]), 1.0),
    ] {
        let edit = settings(&place, words);
        assert_eq!((&edit["rules"], &edit["temperature"]), (&rules, &json!(temperature)), "{words}");
    }
}

#[test]
fn a_parameter_of_another_sampler_is_wrong_usage() {
    let place = Place::with_input("");
    for words in
        ["--top-p 0.9", "--sampler full --top-k 64", "--sampler rejection --top-p 0.5", "--sampler top-p"]
    {
        place.edit(&format!("--input in.jsonl --output - {words}")).fails_with(2, &["--top-"]);
    }
    place
        .edit("--input in.jsonl --output - --sampler top-p --top-p 0.9 --top-k 4")
        .fails_with(2, &["--top-k"]);
}

#[test]
fn full_rules_go_before_short_ones_and_resampling_before_dropping() {
    let place = Place::new();
    let words = "--drop-below 0.2 --resample-below 0.1 --drop-above 0.9 --rule 0.2<=p<0.3:keep --resample-above 0.5 \
                 --rule p>0.99:drop";
    let expected =
        ["0.2<=p<0.3:keep", "p>0.99:drop", "p>=0.5:resample", "p<0.1:resample", "p>=0.9:drop", "p<0.2:drop"];
    assert_eq!(settings(&place, words)["rules"], json!(expected));
}

#[test]
fn rules_that_cannot_be_read_are_wrong_usage() {
    let place = Place::with_input("");
    for rule in ["p=1:drop", "p>=0.5", "p>=0.5:explode", "0.5<=p<0.2:drop", "p>=x:drop"] {
        place.edit(&format!("--input in.jsonl --output - --rule {rule}")).fails_with(2, &["expected"]);
    }
}

#[test]
fn the_first_rule_that_holds_decides() {
    let place = Place::with_sample(3);
    let [scored, eligible, changed, dropped] = counts(&place, "--resample-above 0");
    assert_eq!((eligible, dropped), (scored, 0));
    assert!(changed > 0);
    assert_eq!(counts(&place, "--rule p>=0:keep --resample-above 0 --drop-below 1")[1..], [0, 0, 0]);
    assert_eq!(counts(&place, "--resample-above 1.5 --drop-below 0")[1..], [0, 0, 0]);

    let [_, above, _, _] = counts(&place, "--resample-above 0.5");
    let [_, below, _, _] = counts(&place, "--resample-below 0.5");
    assert_eq!(above + below, scored);
    let [_, middle, _, _] = counts(&place, "--rule 0.1<=p<0.5:resample");
    let [_, low, _, _] = counts(&place, "--rule p<0.1:resample");
    assert_eq!(middle + low, below);

    let [_, eligible, changed, dropped] = counts(&place, "--drop-above 0.5");
    assert_eq!((eligible, changed), (above, 0));
    assert!(0 < dropped && dropped <= above);
    let both = counts(&place, "--resample-above 0.5 --drop-above 0.2 --exclude-original");
    assert!(both[2] > 0 && both[3] > 0 && both[1] > above, "{both:?}");
}

#[test]
fn every_sampler_draws() {
    let place = Place::with_sample(3);
    let outputs: Vec<String> = ["top-k", "top-k --top-k 2", "top-p --top-p 0.8", "full", "rejection"]
        .iter()
        .map(|sampler| {
            let words = format!("--input in.jsonl --output - --resample-above 0.2 --sampler {sampler}");
            let outcome = place.edit(&words).done();
            assert!(outcome.records().iter().any(|record| record["toedit"]["changed"] != 0), "{sampler}");
            outcome.stdout
        })
        .collect();
    for (i, output) in outputs.iter().enumerate() {
        assert!(!outputs[..i].contains(output), "sampler {i} is like one before");
    }
    assert_eq!(
        settings(&place, "--sampler top-p --top-p 0.8")["sampler"],
        json!({"name": "top-p", "value": 0.8})
    );
    assert_eq!(settings(&place, "--top-k 3")["sampler"], json!({"name": "top-k", "value": 3}));
    assert_eq!(settings(&place, "--sampler rejection")["sampler"]["name"], "rejection");
}

/// At a temperature near 0 the most likely token is drawn, which the original mostly is at p > 1/2.
#[test]
fn temperature_spreads_the_draws() {
    let place = Place::with_sample(3);
    let changed =
        |temperature: &str| counts(&place, &format!("--resample-above 0.51 --temperature {temperature}"))[2];
    let [cold, warm, hot] = ["0.01", "1", "20"].map(changed);
    assert!(cold == 0 && 0 < warm && warm < hot, "{cold} {warm} {hot}");
}

#[test]
fn the_original_can_be_left_out() {
    let place = Place::with_sample(3);
    for sampler in ["top-k", "full", "rejection"] {
        let words = format!("--resample-above 0.5 --sampler {sampler} --exclude-original");
        let [_, eligible, changed, _] = counts(&place, &words);
        let summary = place.json("s.json");
        let kept: u64 =
            ["not_editable", "no_alternative"].map(|name| summary[name].as_u64().unwrap()).iter().sum();
        assert_eq!(changed + kept, eligible, "{sampler}");
        assert!(changed > 0 && summary["edit"]["exclude_original"] == true);
    }
}

#[test]
fn settings_that_change_nothing_are_said_to() {
    let place = Place::with_sample(1);
    for (words, warned) in [
        ("--sampler top-p --top-p 0.9", true),
        ("--top-k 1", true),
        ("--sampler top-p --top-p 0.995", false),
        ("--sampler top-p --top-p 0.9 --resample-above 0.5", false),
        ("--sampler top-p --top-p 0.9 --quiet", false),
        ("", false),
    ] {
        let outcome = place.edit(&format!("--input in.jsonl --output - {words}")).done();
        let found = outcome.stderr.contains("keeps only the original token where p >= 0.99");
        assert_eq!(found, warned, "{words}: {}", outcome.stderr);
        if warned {
            assert!(outcome.stderr.contains(" 0 changed"), "{}", outcome.stderr);
        }
    }
}
