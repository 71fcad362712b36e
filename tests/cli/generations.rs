//! `--generations`: the output edited again, at once or run by run.

use serde_json::{Value, json};

use crate::Place;
use crate::edit::escaped;
use crate::sft::{FIELDS, conversations, place};

/// Settings that change and drop tokens.
const RULES: &str = "--resample-above 0.3 --drop-below 0.003 --temperature 2 --provenance";

/// Edits `in.jsonl` three times at once, and by three runs, and gives both outputs.
#[track_caller]
fn both_ways(place: &Place, words: &str) -> [String; 2] {
    let edit = |words: &str| place.run(&format!("edit {words} {RULES}")).done();
    edit(&format!("--input in.jsonl --output at-once.jsonl --overwrite --generations 3 {words}"));
    let mut input = "in.jsonl".to_owned();
    for generation in 0..3 {
        let output = format!("after-{generation}.jsonl");
        edit(&format!(
            "--input {input} --output {output} --overwrite --first-generation {generation} {words}"
        ));
        input = output;
    }
    [place.read("at-once.jsonl"), place.read(&input)]
}

#[test]
fn three_generations_at_once_are_three_runs() {
    let place = place();
    let lines =
        place.read("sample.jsonl").lines().take(3).map(|line| line.to_owned() + "\n").collect::<String>();
    let ids = "{\"k\":1,\"input_ids\":[5, 6,7,300,301,302,5,6,7,5,6,7]}\n";
    for (input, words) in [
        (escaped(&place) + &lines + ids, "--model tiny"),
        (conversations(&place), "--model copy"),
        (conversations(&place), "--model tiny --no-prompt-context"),
        (place.read("in.jsonl"), &*format!("--model tiny {FIELDS}")),
    ] {
        place.put("in.jsonl", &input);
        let [at_once, one_by_one] = both_ways(&place, words);
        assert!(at_once == one_by_one, "{words}:\n{at_once}\n{one_by_one}");
        assert_ne!(at_once, input);
        let field = if words.contains("--response-field") { "a" } else { "text" };
        let back = place.run(&format!("revert at-once.jsonl --output - --text-field {field}")).done().stdout;
        let plain = |text: &str| -> Vec<Value> {
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        assert_eq!(plain(&back), plain(&input), "{words}");
    }
}

#[test]
fn each_generation_is_counted() {
    let place = Place::with_sample(3);
    let outcome =
        place.edit(&format!("--input in.jsonl --output out.jsonl --generations 3 --summary s.json {RULES}"));
    let outcome = outcome.done();
    let (summary, records) = (place.json("s.json"), place.records("out.jsonl"));
    let generations = summary["generations"].as_array().unwrap();
    assert_eq!(generations.len(), 3);
    for (number, generation) in generations.iter().enumerate() {
        let sum = |name: &str| -> u64 {
            records.iter().map(|record| record["toedit"]["generations"][number][name].as_u64().unwrap()).sum()
        };
        for name in ["tokens", "scored", "eligible", "changed", "dropped"] {
            assert_eq!(generation[name], sum(name), "{name} of generation {number}");
        }
        let words = format!(
            "generation {number}: {} scored, {} eligible, {} changed",
            sum("scored"),
            sum("eligible"),
            sum("changed")
        );
        assert!(outcome.stderr.contains(&words), "{}", outcome.stderr);
        let edits = records.iter().flat_map(|record| record["toedit"]["edits"].as_array().unwrap());
        let own = edits.filter(|edit| edit["generation"].as_u64().unwrap_or(0) == number as u64).count();
        assert_eq!(own as u64, sum("changed") + sum("dropped"));
        assert!(own > 0);
    }
    for name in ["scored", "eligible", "changed", "dropped", "windows"] {
        let sum: u64 = generations.iter().map(|generation| generation[name].as_u64().unwrap()).sum();
        assert_eq!(summary[name], sum, "{name}");
    }
    // Tokens are those of the documents as they came.
    assert_eq!(summary["tokens"], generations[0]["tokens"]);

    let once =
        place.edit(&format!("--input in.jsonl --output once.jsonl --summary s.json --overwrite {RULES}"));
    assert!(!once.done().stderr.contains("generation"));
    assert!(place.json("s.json").get("generations").is_none());
    assert!(place.records("once.jsonl").iter().all(|record| record["toedit"].get("generations").is_none()));
}

#[test]
fn generations_draw_numbers_of_their_own() {
    let place = Place::with_sample(1);
    let edit = |generation: u32| {
        let words = format!(
            "--input in.jsonl --output - --no-metadata --resample-above 0 --first-generation {generation}"
        );
        place.edit(&words).done().stdout
    };
    assert_eq!(edit(1), edit(1));
    assert_ne!(edit(0), edit(1));
}

#[test]
fn an_earlier_run_that_does_not_fit_is_refused() {
    let place = Place::with_sample(1);
    let edit = |input: &str, words: &str| place.edit(&format!("--input {input} --output - {words}"));
    edit("in.jsonl", "--first-generation 1").fails(&["in.jsonl:1", "no `toedit` object"]);
    place.edit("--input in.jsonl --output once.jsonl").done();
    edit("once.jsonl", "--first-generation 2").fails(&["once.jsonl:1", "edited 1 times before, expected 2"]);
    edit("once.jsonl", "--first-generation 1 --provenance").fails(&["once.jsonl:1", "without --provenance"]);
    edit("once.jsonl", "--first-generation 1").done();
    place.put("bad.jsonl", json!({"text": "a", "toedit": 7}).to_string());
    edit("bad.jsonl", "--first-generation 1").fails(&["bad.jsonl:1", "member `toedit`"]);
    let ids = edit("in.jsonl", "--generations 2 --provenance --emit both");
    ids.fails_with(2, &["cannot restore the ids of several generations"]);
    edit("in.jsonl", "--generations 2 --emit both").done();
    for words in ["--generations 0", "--generations 1048577", "--first-generation 1048576"] {
        assert_eq!(edit("in.jsonl", words).status, 2, "{words}");
    }
    let past = edit("in.jsonl", "--first-generation 1048575 --generations 2");
    past.fails_with(2, &["generation 1048576"]);
}

#[test]
fn the_last_generation_is_shown() {
    let place = Place::with_sample(1);
    let shown = place
        .edit("--input in.jsonl --diff --generations 2 --resample-above 0.3 --temperature 2")
        .done()
        .stdout;
    assert!(shown.contains("[-") && shown.contains("generation 1: "), "{shown}");
}

#[test]
fn a_run_of_other_generations_is_not_resumed() {
    let place = Place::with_sample(2);
    let edit = |words: &str| place.edit(&format!("--input in.jsonl --output out.jsonl {RULES} {words}"));
    edit("--generations 2").done();
    edit("--generations 2 --resume").done();
    edit("--generations 3 --resume").fails(&["out.jsonl", "`generations`", "2", "3"]);
    edit("--generations 2 --first-generation 1 --resume").fails(&["out.jsonl", "`generation`"]);
    // A record that cannot go on is one record that cannot be used.
    let text = place.read("out.jsonl") + "{\"text\":\"never edited\"}\n";
    place.put("more.jsonl", text);
    let words =
        format!("--input more.jsonl --output next.jsonl --first-generation 2 --on-error skip {RULES}");
    let outcome = place.edit(&words).exits_with(3);
    assert!(outcome.stderr.contains("1 set aside"), "{}", outcome.stderr);
    assert_eq!(place.records("next.jsonl").len(), 2);
}
