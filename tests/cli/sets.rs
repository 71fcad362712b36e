//! `toedit eval choices` and `toedit eval lambada`: against transformers' numbers, and by hand.

use std::fs;
use std::io::{BufRead, BufReader, Write};

use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::common::folders::shared;
use crate::common::root;
use crate::{Outcome, Place};

const CHOICES: [&str; 3] = ["arc-challenge", "piqa", "pubmedqa"];

impl Place {
    /// `toedit eval` with the model, in f32 where nothing else is said.
    fn eval(&self, words: &str) -> Outcome {
        let dtype = if words.contains("--dtype") { "" } else { "--dtype f32" };
        self.run(&format!("eval {words} --model tiny {dtype}"))
    }

    /// The lines about the items of `in.jsonl`.
    #[track_caller]
    fn lines(&self, words: &str) -> Vec<Value> {
        self.eval(&format!("{words} --input in.jsonl --output -")).done().records()
    }

    /// The summary of a run over these inputs that ends with this status.
    #[track_caller]
    fn set_figures(&self, words: &str, status: i32) -> Value {
        self.eval(&format!("{words} --summary figures.json")).exits_with(status);
        self.json("figures.json")
    }
}

fn question(id: impl Into<Value>, context: &str, choices: &[&str], answer: usize) -> String {
    let id: Value = id.into();
    format!("{}\n", json!({ "id": id, "context": context, "choices": choices, "answer": answer }))
}

pub fn passage(context: &str, target: &str) -> String {
    format!("{}\n", json!({ "context": context, "target": target }))
}

/// A few questions, of unlike lengths and numbers of choices.
pub fn questions() -> String {
    [
        question("a", "The President of the United", &[" States", " Kingdom", " Nations of the world"], 0),
        question("b", "The people of", &[" the", " a long and happy life", " it"], 1),
        question(3, "In the year", &[" of our Lord", ".", " of the people"], 2),
        question("d", "He went to the", &[" river", " the"], 1),
        question(
            "e",
            "It is a matter of",
            &[" fact", " course", " state", " law", " no great consequence"],
            0,
        ),
    ]
    .concat()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

pub fn numbers(values: &Value) -> Vec<f64> {
    values.as_array().unwrap().iter().map(number).collect()
}

#[track_caller]
fn assert_near(found: &Value, expected: f64) {
    let found = number(found);
    assert!((found - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{found} against {expected}");
}

/// The first items of a set, as many as there are expected numbers.
fn first_items(name: &str, count: usize) -> Option<Vec<String>> {
    let file = fs::File::open(shared(&format!("eval/{name}.jsonl.gz"))?).unwrap();
    let lines = BufReader::new(GzDecoder::new(BufReader::new(file))).lines();
    Some(lines.take(count).map(Result::unwrap).collect())
}

/// `scripts/eval_golden.py` has made the numbers.
#[test]
fn log_likelihoods_equal_those_of_transformers() {
    let golden = fs::read(root().join("tests/data/evaluation.json")).unwrap();
    let golden: Value = serde_json::from_slice(&golden).unwrap();
    let mut compared = 0;
    for name in CHOICES.into_iter().chain(["lambada"]) {
        let expected = golden[name].as_object().unwrap();
        let Some(items) = first_items(name, expected.len()) else { return };
        let place = Place::with_input(&(items.join("\n") + "\n"));
        let measure = if name == "lambada" { name } else { "choices" };
        let lines = place.lines(&format!("{measure} --summary s.json"));
        assert_eq!(lines.len(), expected.len());
        for line in &lines {
            let found = match line.get("loglikelihood") {
                Some(one) => vec![number(one)],
                None => numbers(&line["loglikelihoods"]),
            };
            let expected = numbers(&expected[line["id"].as_str().unwrap()]);
            assert_eq!(found.len(), expected.len(), "{line}");
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() <= 1e-4, "{found} against {expected} in {line}");
            }
            compared += 1;
        }
        // The abstracts are longer than the tiny model's 512 positions.
        assert_eq!(place.json("s.json")["cut"].as_u64().unwrap() > 0, name == "pubmedqa", "{name}");
    }
    assert_eq!(compared, 200);
}

/// Without a shared context there is nothing to be read once: lines must be those of scoring each text by itself.
#[test]
fn a_choice_is_the_tail_of_the_whole_text() {
    let place = Place::with_input(&questions());
    let lines = place.lines("choices");
    let mut texts = Vec::new();
    for (text, line) in questions().lines().zip(&lines) {
        let item: Value = serde_json::from_str(text).unwrap();
        let choices = item["choices"].as_array().unwrap();
        for (index, choice) in choices.iter().enumerate() {
            let whole = format!("{}{}", item["context"].as_str().unwrap(), choice.as_str().unwrap());
            texts.push((
                whole,
                line["tokens"][index].as_u64().unwrap() as usize,
                &line["loglikelihoods"][index],
            ));
        }
    }
    let input: String = texts.iter().map(|(text, ..)| format!("{}\n", json!({ "text": text }))).collect();
    place.put("texts.jsonl", input);
    let scores = place.score("--input texts.jsonl --output - --per-token --dtype f32").done().records();
    assert_eq!(scores.len(), 16);
    for ((text, tokens, found), score) in texts.iter().zip(&scores) {
        let logprobs = &score["logprobs"].as_array().unwrap()[..];
        let own = logprobs[logprobs.len() - tokens..].iter().map(|value| f64::from(number(value) as f32));
        assert_eq!(number(found), own.fold(0.0, |sum, value| sum + value), "{text}");
    }
}

#[test]
fn lines_and_figures_follow_from_the_log_likelihoods() {
    let place = Place::with_input(&questions());
    let lines = place.lines("choices");
    assert_eq!(
        lines.iter().map(|line| line["id"].clone()).collect::<Vec<_>>(),
        ["a", "b", "", "d", "e"].map(|id| if id.is_empty() { json!(3) } else { json!(id) },)
    );
    assert_eq!(lines[0]["characters"], json!([6, 7, 20]));
    assert_eq!(lines[2]["characters"], json!([11, 1, 13]));
    let (mut right, mut right_norm) = (0.0, 0.0);
    for line in &lines {
        let (logs, characters) = (numbers(&line["loglikelihoods"]), numbers(&line["characters"]));
        let best = |value: &dyn Fn(usize) -> f64| {
            (0..logs.len()).rev().max_by(|a, b| value(*a).total_cmp(&value(*b)))
        };
        assert_eq!(line["prediction"], best(&|i| logs[i]).unwrap());
        assert_eq!(line["prediction_norm"], best(&|i| logs[i] / characters[i]).unwrap());
        right += f64::from(u8::from(line["prediction"] == line["answer"]));
        right_norm += f64::from(u8::from(line["prediction_norm"] == line["answer"]));
        assert_eq!(line.as_object().unwrap().len(), 7);
    }
    assert!(
        right != right_norm && right > 0.0 && right_norm > 0.0,
        "{right} {right_norm}: a test of nothing"
    );
    let figures = place.set_figures("choices --input in.jsonl", 0);
    for (name, right) in [("acc", right), ("acc_norm", right_norm)] {
        let share: f64 = right / 5.0;
        assert_near(&figures[name], share);
        assert_near(&figures[format!("{name}_stderr")], (share * (1.0 - share) / 4.0).sqrt());
    }
    assert_eq!(
        (&figures["items"], &figures["cut"], &figures["command"]),
        (&json!(5), &json!(0), &json!("eval choices"))
    );
}

#[test]
fn the_last_word_is_greedy_or_not() {
    let items = [
        ("The President of the United", " States"),
        ("The President of the United", " river"),
        ("In the", " of of"),
    ];
    let place = Place::with_input(&items.map(|(context, target)| passage(context, target)).concat());
    let lines = place.lines("lambada");
    assert_eq!(lines.iter().map(|line| line["is_greedy"] == true).collect::<Vec<_>>(), [true, false, false]);
    assert_eq!((&lines[1]["index"], &lines[2]["tokens"]), (&json!(1), &json!(2)));
    let figures = place.set_figures("lambada --input in.jsonl", 0);
    assert_near(&figures["acc"], 1.0 / 3.0);
    assert_near(&figures["acc_stderr"], (2.0 / 9.0 / 2.0f64).sqrt());
    let nlls: Vec<f64> = lines.iter().map(|line| -number(&line["loglikelihood"])).collect();
    let mean = nlls.iter().sum::<f64>() / 3.0;
    let variance = nlls.iter().map(|nll| (nll - mean).powi(2)).sum::<f64>() / 2.0;
    assert_near(&figures["perplexity"], mean.exp());
    assert_near(&figures["perplexity_stderr"], mean.exp() * (variance / 3.0).sqrt());
}

#[test]
fn neighbours_order_and_batches_do_not_matter() {
    let place = Place::with_input(&questions());
    for measure in ["choices", "lambada"] {
        if measure == "lambada" {
            let items = ["The President of the", "In the year of our", "He went to"];
            place.put("in.jsonl", items.map(|context| passage(context, " people")).concat());
        }
        for dtype in ["f32", "bf16"] {
            let base = format!("{measure} --dtype {dtype}");
            let lines = place.lines(&base);
            for words in ["--batch-tokens 1", "--batch-tokens 30", "--threads 1", "--max-length 100"] {
                assert_eq!(place.lines(&format!("{base} {words}")), lines, "{base} {words}");
            }
        }
    }
    place.put("in.jsonl", questions());
    let mut lines = place.lines("choices");
    let reversed: String = questions().lines().rev().map(|line| format!("{line}\n")).collect();
    place.put("in.jsonl", reversed);
    lines.reverse();
    assert_eq!(place.lines("choices"), lines);
}

/// More choices than go on side by side: they are those of items with some of them.
#[test]
fn any_number_of_choices() {
    let choices: Vec<String> = (0..150).map(|number| format!(" {number} people")).collect();
    let of = |choices: &[String]| {
        let choices: Vec<&str> = choices.iter().map(String::as_str).collect();
        question("x", "In the year of our Lord", &choices, 1)
    };
    let place = Place::with_input(&of(&choices));
    let all = numbers(&place.lines("choices")[0]["loglikelihoods"]);
    place.put("in.jsonl", choices.chunks(10).map(of).collect::<String>());
    let parts = place.lines("choices");
    assert_eq!(all, parts.iter().flat_map(|line| numbers(&line["loglikelihoods"])).collect::<Vec<_>>());
}

#[test]
fn with_an_empty_context_the_first_token_needs_a_bos() {
    let place = Place::with_input(&question("x", "", &["The President of", "The"], 0));
    let [without, with] = ["--bos never", "--bos always"].map(|bos| {
        let line = place.lines(&format!("choices {bos}")).remove(0);
        assert_eq!(line["tokens"], json!([3, 1]));
        numbers(&line["loglikelihoods"])
    });
    assert_eq!(without[1], 0.0);
    assert!(with[1] < -1.0 && with[0] < without[0]);
    place.put("texts.jsonl", "{\"text\":\"The President of\"}\n{\"text\":\"The\"}\n");
    for (bos, found) in [("never", without), ("always", with)] {
        let scores =
            place.score(&format!("--input texts.jsonl --output - --bos {bos} --dtype f32")).done().records();
        scores
            .iter()
            .zip(found)
            .for_each(|(score, found)| assert_near(&json!(-found), number(&score["nll"])));
    }
}

/// What stands before the window plays no part; the window holds all that is read, the last token being predicted only.
#[test]
fn long_contexts_lose_their_beginning() {
    let tail = " one two three four five six seven eight nine ten";
    let place = Place::new();
    let run = |head: &str, words: &str| {
        place.put("in.jsonl", question("x", &format!("{head}{tail}"), &[" people", " the"], 0));
        place.lines(&format!("choices --summary s.json {words}")).remove(0)
    };
    let whole = run("Once upon a time", "");
    assert_eq!(place.json("s.json")["cut"], 0);
    let cut = run("Once upon a time", "--bos never --max-length 8");
    let summary = place.json("s.json");
    assert_eq!((&summary["cut"], &summary["files"][0]["cut"]), (&json!(1), &json!(1)));
    assert!(summary["truncated"].as_u64().unwrap() > 0);
    assert_eq!(cut, run("Something else entirely and long", "--bos never --max-length 8"));
    assert_ne!(cut["loglikelihoods"], whole["loglikelihoods"]);
    assert_eq!(cut["tokens"], whole["tokens"]);
    // A text of as many tokens as fit, and one more, is not cut.
    let text = "The President of the United";
    place.put("texts.jsonl", format!("{}\n", json!({ "text": text })));
    let tokens =
        place.score("--input texts.jsonl --output - --bos never").done().records()[0]["tokens"].as_u64();
    for (max_length, is_cut) in [(tokens.unwrap(), 0), (tokens.unwrap() - 1, 1)] {
        place.put("in.jsonl", question("x", text, &[" States", " the"], 0));
        place.lines(&format!("choices --bos never --max-length {max_length} --summary s.json"));
        assert_eq!(place.json("s.json")["cut"], is_cut, "{max_length} of {tokens:?}");
    }
    place.put("in.jsonl", question("x", "a", &[tail, " the"], 0));
    place.eval("choices --input in.jsonl --max-length 8").fails(&[
        "in.jsonl:1",
        "choice 0",
        "reads 8 at once",
    ]);
}

#[test]
fn bad_items_are_named_by_file_and_line() {
    let good = questions();
    let good = good.lines().next().unwrap();
    let place = Place::new();
    for (bad, part) in [
        (r#"{"context":"a","choices":[" b"," c"]}"#, "field `answer` not found"),
        (r#"{"context":"a","choices":[" b"," c"],"answer":2}"#, "`answer`: 2, expected 0 to 1"),
        (r#"{"context":"a","choices":[" b"," c"],"answer":-1}"#, "`answer`: expected the number"),
        (r#"{"context":"a","choices":[" b"," c"],"answer":"B"}"#, "`answer`: expected the number"),
        (r#"{"context":"a","choices":[],"answer":0}"#, "`choices`: 0, expected at least 2"),
        (r#"{"context":"a","choices":[" b"],"answer":0}"#, "`choices`: 1, expected at least 2"),
        (r#"{"context":"a","choices":[" b",""],"answer":0}"#, "choice 1: empty"),
        (r#"{"context":"a","choices":[" "," b"],"answer":0}"#, "choice 0: empty"),
        (r#"{"context":"the year","choices":["s"," b"],"answer":0}"#, "choice 0: no token of its own"),
        (r#"{"context":"a","choices":[" b",7],"answer":0}"#, "`choices`: expected an array of strings"),
        (r#"{"context":"a","choices":{"A":" b"},"answer":0}"#, "`choices`: expected an array of strings"),
        (
            r#"{"context":"a","choices":[" b"," c"],"choices":[" b"," c"],"answer":0}"#,
            "`choices` occurs twice",
        ),
        (r#"{"context":"a","answer":0}"#, "field `choices` not found"),
        (r#"{"context":7,"choices":[" b"," c"],"answer":0}"#, "field `context`"),
        (r#"{"choices":[" b"," c"],"answer":0}"#, "`context`"),
        (r#"{"input_ids":[5,6],"choices":[" b"," c"],"answer":0}"#, "field `context` not found"),
        ("[1]", "JSON object"),
        ("{", "EOF"),
    ] {
        place.put("in.jsonl", format!("{good}\n{bad}\n"));
        place.eval("choices --input in.jsonl").fails(&["in.jsonl:2: ", part]);
    }
    for (bad, part) in [
        (r#"{"context":"a"}"#, "field `target` not found"),
        (r#"{"context":"a","target":[" b"]}"#, "field `target`: expected a string"),
        (r#"{"context":"a","target":""}"#, "field `target`: no token of its own"),
        (r#"{"context":"","target":" b"}"#, "an empty context"),
    ] {
        place.put("in.jsonl", format!("{}{bad}\n", passage("The", " people")));
        place.eval("lambada --input in.jsonl").fails(&["in.jsonl:2: ", part]);
    }
}

#[test]
fn bad_items_are_set_aside_or_passed_over() {
    let place = Place::with_input(&format!("{}{{\"context\":\"a\"}}\n", questions()));
    let figures = place.set_figures("choices --input sample.jsonl --on-error skip --output none.jsonl", 3);
    assert_eq!(
        (&figures["acc"], &figures["acc_stderr"], &figures["items"]),
        (&json!(null), &json!(null), &json!(0))
    );
    let figures = place.set_figures("choices --input in.jsonl --on-error skip --output out.jsonl", 3);
    assert_eq!((&figures["items"], &figures["set_aside"]), (&json!(5), &json!(1)));
    let skipped = place.records("out.jsonl");
    let figures = place.set_figures("choices --input in.jsonl --on-error pass --output passed.jsonl", 3);
    assert_eq!(
        (&figures["items"], &figures["set_aside"], &figures["documents"]),
        (&json!(5), &json!(0), &json!(6))
    );
    let mut passed = place.records("passed.jsonl");
    assert_eq!(
        passed.pop().unwrap(),
        json!({"index": 5, "error": "field `choices` not found, expected an array of strings"})
    );
    assert_eq!(passed, skipped);
}

#[test]
fn several_sets_are_rows_of_a_table() {
    let place = Place::with_input(&questions());
    let mut zipped = GzEncoder::new(Vec::new(), Compression::fast());
    zipped
        .write_all(question("z", "The President of the United", &[" States", " the"], 0).as_bytes())
        .unwrap();
    place.put("other.jsonl.gz", zipped.finish().unwrap());
    let outcome = place.eval("choices --input in.jsonl other.jsonl.gz --summary s.json").done();
    assert!(outcome.stdout.is_empty());
    let table: Vec<&str> = outcome.stderr.lines().collect();
    assert!(table[0].starts_with("6 documents, "), "{table:?}");
    for (line, start) in table[1..].iter().zip(["file ", "in.jsonl ", "other.jsonl.gz ", "all "]) {
        assert!(line.starts_with(start) && line.len() == table[1].len(), "{table:?}");
    }
    assert!(table[3].ends_with("     1  1.0000    none    1.0000    none"), "{table:?}");
    let summary = place.json("s.json");
    let files = summary["files"].as_array().unwrap();
    assert_eq!(
        (&files[0]["items"], &files[1]["items"], &summary["items"]),
        (&json!(5), &json!(1), &json!(6))
    );
    assert_eq!((&files[1]["acc"], &files[1]["acc_stderr"]), (&json!(1.0), &json!(null)));
    let share = |value: &Value| number(value);
    assert_near(&summary["acc"], (5.0 * share(&files[0]["acc"]) + 1.0) / 6.0);
    // An output for each input, and the figures again where all is done.
    let words = "choices --input in.jsonl other.jsonl.gz --output out --summary s.json --quiet";
    assert!(place.eval(words).done().stderr.is_empty());
    assert_eq!(
        (place.records("out/in.jsonl").len(), place.json("s.json")["acc"].clone()),
        (5, summary["acc"].clone())
    );
    place.eval(&format!("{words} --resume")).done();
    let resumed = place.json("s.json");
    assert_eq!((&resumed["files"], &resumed["resumed"]), (&summary["files"], &json!(6)));
}

#[test]
fn wrong_usage_and_settings_from_a_file() {
    let place = Place::with_input(&questions());
    for (words, part) in [
        ("choices", "missing --input"),
        ("choices --input in.jsonl --resume", "--resume is about an output"),
        ("lambada --input in.jsonl --on-error skip", "--on-error skip is about an output"),
        ("choices --input in.jsonl --output - --on-error skip", "name a file as --output"),
        ("choices --input in.jsonl --max-length 1", "--max-length"),
        ("choices --input in.jsonl --max-length 1000", "512"),
        ("choices --input in.jsonl --text-field text", "--text-field"),
        ("lambada --input in.jsonl --overlap 3", "--overlap"),
        ("choices --input in.jsonl --output - --summary -", "not both"),
    ] {
        let outcome = place.eval(words);
        assert!(outcome.status == 2 && outcome.stderr.contains(part), "{words}: {}", outcome.stderr);
    }
    place.eval("choices --input in.jsonl --output in.jsonl").fails(&["in.jsonl"]);
    place.put("run.toml", "[eval.choices]\ninput = [\"in.jsonl\"]\nmax-length = 100\n");
    assert_eq!(place.set_figures("choices --config run.toml", 0)["max_length"], 100);
}
