//! `toedit collapse`: what each generation learns from, the table, and that a run goes on to the same table.

use std::collections::HashSet;
use std::fs;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use toedit::data::tokens::TokenShards;

use crate::{Outcome, Place};

/// Texts of up to 15 tokens for a model of next to no weights.
const SMALL: &str = "collapse --data in.jsonl --config-json small.json --tokenizer tiny --generations 2 --steps 3 \
                     --batch-size 4 --sequence-length 16 --tokens 1200 --prefix-tokens 3 --dtype f32 --threads 1 \
                     --output out";
/// What edits at all by models that know nothing.
const EDIT: &str = "--resample-above 0.0002";
const TABLES: [&str; 4] = ["collapse.json", "collapse.csv", "perplexity.svg", "concentration.svg"];
const PATIENCE: Duration = Duration::from_secs(30);

/// The sample, each document twice: a copy of a held-out document must not be learnt from either.
fn place() -> Place {
    let place = Place::new();
    let sample = place.read("sample.jsonl");
    place.put("in.jsonl", sample.repeat(2));
    let mut config = place.json("tiny/config.json");
    for (name, value) in [
        ("hidden_size", 16),
        ("intermediate_size", 16),
        ("num_hidden_layers", 1),
        ("num_attention_heads", 2),
        ("num_key_value_heads", 1),
        ("head_dim", 8),
        ("max_position_embeddings", 32),
    ] {
        config[name] = json!(value);
    }
    place.put("small.json", config.to_string());
    place
}

/// [`SMALL`] with other words, in place of those for the same flags.
fn words(other: &str) -> String {
    let given: Vec<_> = other.split_whitespace().filter(|word| word.starts_with("--")).collect();
    let small: Vec<_> = SMALL.split_whitespace().collect();
    let pairs = small[1..].chunks(2).filter(|pair| !given.contains(&pair[0])).flatten();
    let kept: Vec<_> = pairs.copied().collect();
    format!("collapse {} {other}", kept.join(" "))
}

fn collapse(place: &Place, other: &str) -> Outcome {
    place.run(&words(other))
}

fn tables(place: &Place) -> [Vec<u8>; 4] {
    TABLES.map(|name| place.bytes(&format!("out/{name}")))
}

/// The texts of a corpus, without the token that begins each.
fn texts(place: &Place, folder: &str) -> Vec<Vec<u32>> {
    let shards = TokenShards::open(&place.path(&format!("out/{folder}"))).unwrap();
    let texts: Vec<_> = (0..shards.documents()).map(|index| shards.document(index).unwrap().ids).collect();
    assert!(texts.iter().all(|ids| ids[0] == 0 && ids.len() <= 16), "{folder}");
    texts.into_iter().map(|ids| ids[1..].to_vec()).collect()
}

fn lengths(texts: &[Vec<u32>]) -> Vec<usize> {
    texts.iter().map(Vec::len).collect()
}

/// The row of a generation.
fn row(report: &Value, strategy: &str, generation: u64) -> Value {
    let is_it = |row: &&Value| row["strategy"] == strategy && row["generation"] == generation;
    report["rows"].as_array().unwrap().iter().find(is_it).unwrap().clone()
}

#[test]
fn one_command_makes_the_whole_table() {
    let place = place();
    let outcome = collapse(&place, &format!("{EDIT} --seeds 2 --summary sum.json")).done();
    assert!(outcome.stdout.is_empty());
    for part in ["seed 1, mix, generation 2: training", "24 of 24: ", " eligible, ", "after 2 generations"] {
        assert!(outcome.stderr.contains(part), "{part}: {}", outcome.stderr);
    }
    let report = place.json("out/collapse.json");
    let rows = report["rows"].as_array().unwrap();
    let names = ["replace", "accumulate", "mix", "edit"];
    let places =
        names.iter().flat_map(|name| (0..2).flat_map(move |seed| (0..3).map(move |g| (name, seed, g))));
    let found = rows.iter().map(|row| (&row["strategy"], row["seed"].as_i64(), row["generation"].as_i64()));
    for ((strategy, seed, generation), expected) in found.zip(places) {
        assert_eq!(
            (strategy.as_str(), seed, generation),
            (Some(*expected.0), Some(expected.1), Some(expected.2))
        );
    }
    assert_eq!((rows.len(), report["means"].as_array().unwrap().len()), (24, 12));
    let first = |seed: usize, strategy: usize| {
        let mut row = rows[strategy * 6 + seed * 3].clone();
        row["strategy"] = Value::Null;
        row
    };
    assert!((1..4).all(|strategy| first(1, strategy) == first(1, 0)), "one first generation for all");
    assert_ne!(first(0, 0)["perplexity"], first(1, 0)["perplexity"]);
    let csv = place.read("out/collapse.csv");
    assert_eq!(csv.lines().count(), 25);
    for (line, row) in csv.lines().skip(1).zip(rows) {
        let figure: f64 = line.split(',').nth(7).unwrap().parse().unwrap();
        assert_eq!(Some(figure), row["perplexity"].as_f64());
    }
    assert_eq!(place.json("sum.json")["rows"], report["rows"]);
    // What is not needed any more is gone; what another run needs to make the same is not asked for.
    for (folder, stays) in [
        ("seed-0/generation-0/model", true),
        ("seed-0/replace/generation-1/model", false),
        ("seed-0/replace/generation-1/synthetic", true),
        ("seed-0/edit/generation-1/data", false),
        ("seed-0/edit/generation-2/data", true),
    ] {
        assert_eq!(place.path(&format!("out/{folder}")).is_dir(), stays, "{folder}");
    }
    let whole = tables(&place);
    collapse(&place, &format!("{EDIT} --seeds 2 --overwrite --keep all --generate-batch-size 5")).done();
    assert!(tables(&place) == whole, "what is kept, and the batch, change nothing");
    assert!(place.path("out/seed-0/replace/generation-1/model").is_dir());
}

#[test]
fn each_generation_learns_from_what_its_strategy_says() {
    let place = place();
    collapse(&place, &format!("{EDIT} --keep all --human-share 0.25")).done();
    let report = place.json("out/collapse.json");
    let human = texts(&place, "human/train");
    let tokens: usize = lengths(&human).iter().sum();
    assert_eq!(tokens, 1200, "as many as asked for");
    let known: HashSet<_> = human.iter().collect();
    let first = texts(&place, "seed-0/generation-0/synthetic");
    for folder in ["replace", "accumulate", "mix"].map(|name| format!("seed-0/{name}/generation-1/synthetic"))
    {
        assert_eq!(lengths(&texts(&place, &folder)), lengths(&human), "{folder}");
    }
    assert_eq!(lengths(&first), lengths(&human), "a synthetic text for each human one");
    let is_human = |ids: &&Vec<u32>| ids.len() > 3 && known.contains(ids);
    assert_eq!(first.iter().filter(is_human).count(), 0);
    let beginnings = first
        .iter()
        .zip(&human)
        .filter(|(ours, theirs)| ours[..3.min(ours.len())] == theirs[..3.min(ours.len())]);
    assert!(beginnings.count() < human.len() / 4, "prompts are no part of what was written");
    for generation in [1, 2] {
        let (replace, accumulate) =
            (row(&report, "replace", generation), row(&report, "accumulate", generation));
        assert_eq!((&replace["tokens"], &replace["human_tokens"]), (&1200.into(), &0.into()));
        let all = (generation + 1) * 1200;
        assert_eq!((&accumulate["tokens"], &accumulate["human_tokens"]), (&all.into(), &1200.into()));
        assert_eq!(accumulate["texts"], (generation + 1) * human.len() as u64);
    }
    let mixture = texts(&place, "seed-0/mix/generation-1/data");
    let (ours, theirs): (Vec<_>, Vec<_>) = mixture.into_iter().partition(|ids| known.contains(ids));
    let written: HashSet<_> = first.iter().collect();
    assert!(theirs.iter().all(|ids| written.contains(ids)));
    let [ours, theirs] = [ours, theirs].map(|texts| lengths(&texts).iter().sum::<usize>());
    assert!(ours.abs_diff(300) <= 8 && theirs.abs_diff(900) <= 8, "{ours} human, {theirs} synthetic");
    assert_eq!(row(&report, "mix", 1)["human_tokens"], ours);
    assert_eq!(row(&report, "mix", 1)["tokens"], ours + theirs);
    let mut before = human;
    for generation in [1, 2] {
        let edited = texts(&place, &format!("seed-0/edit/generation-{generation}/data"));
        assert_eq!(lengths(&edited), lengths(&before), "editing keeps the number of tokens");
        let pairs = edited.iter().flatten().zip(before.iter().flatten());
        let changed = pairs.filter(|(new, old)| new != old).count();
        let edits = &row(&report, "edit", generation)["edits"];
        assert_eq!(edits["changed"], changed);
        assert!(changed > 0 && edits["eligible"].as_u64().unwrap() > changed as u64);
        before = edited;
    }
}

#[test]
fn held_out_documents_are_in_no_corpus() {
    let place = place();
    collapse(
        &place,
        "--keep all --tokens 100000 --held-out-share 0.3 --strategy accumulate,edit --generations 1",
    )
    .done();
    let held_out: HashSet<_> =
        texts(&place, "human/held-out").into_iter().filter(|ids| ids.len() == 15).collect();
    let human = texts(&place, "human/train");
    assert!(held_out.len() > 50 && human.len() > 2 * held_out.len(), "{} {}", held_out.len(), human.len());
    for folder in ["human/train", "seed-0/generation-0/synthetic", "seed-0/edit/generation-1/data"] {
        assert!(texts(&place, folder).iter().all(|ids| !held_out.contains(ids)), "{folder}");
    }
    // Held-out data of their own: their copies among the others are not learnt from.
    let sample = place.read("sample.jsonl");
    let some: String = sample.split_inclusive('\n').take(3).collect();
    place.put("eval.jsonl", &some);
    collapse(&place, "--eval-data eval.jsonl --tokens 100000 --strategy edit --generations 1 --overwrite")
        .done();
    let held_out: HashSet<_> = texts(&place, "human/held-out").into_iter().collect();
    assert!(texts(&place, "human/train").iter().all(|ids| ids.len() < 15 || !held_out.contains(ids)));
}

/// Killed at moments of its own choosing, and stopped by a signal within a model's steps.
#[test]
fn a_run_goes_on_to_the_same_table() {
    let place = place();
    let strategies = "--strategy replace,mix,edit";
    let begun = Instant::now();
    collapse(&place, strategies).done();
    let took = begun.elapsed();
    let whole = tables(&place);
    collapse(&place, &format!("{strategies} --resume")).done();
    assert!(tables(&place) == whole, "nothing is left to do");
    fs::remove_dir_all(place.path("out")).unwrap();
    for moment in 1..6 {
        let mut command = place.command(&words(&format!("{strategies} --resume")));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        sleep(took * moment / 16);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    collapse(&place, &format!("{strategies} --resume")).done();
    assert!(tables(&place) == whole, "killed");

    fs::remove_dir_all(place.path("out")).unwrap();
    let long = "--strategy replace --steps 100000 --generations 1";
    let mut command = place.command(&words(long));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let metrics = place.path("out/seed-0/generation-0/model/metrics.jsonl");
    let start = Instant::now();
    while fs::metadata(&metrics).map_or(0, |file| file.len()) == 0 {
        assert!(start.elapsed() < PATIENCE, "no step was taken");
        sleep(Duration::from_millis(5));
    }
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(place.path("out/seed-0/generation-0/model/checkpoints").is_dir(), "a checkpoint to go on from");
}

#[test]
fn an_earlier_run_is_neither_overwritten_nor_mixed_up() {
    let place = place();
    let words = "--strategy mix,edit --generations 1";
    collapse(&place, words).done();
    let whole = tables(&place);
    collapse(&place, words).fails(&["out", "--resume", "--overwrite"]);
    for (other, named) in [
        ("--steps 4", "`steps` was 3 and is 4"),
        ("--human-share 0.75", "`human_share` was 0.5 and is 0.75"),
        ("--seed 7", "`seed` was 0 and is 7"),
        ("--top-p 0.5", "`top_p` was 1.0 and is 0.5"),
        ("--edit-top-k 9", "`edit_sampler` was"),
        ("--prior tiny", "`prior` was null"),
    ] {
        collapse(&place, &format!("{words} {other} --resume")).fails(&[named, "--overwrite"]);
    }
    collapse(&place, &format!("{words} --resume")).done();
    let sample = place.read("sample.jsonl");
    place.put("in.jsonl", sample);
    collapse(&place, &format!("{words} --resume")).fails(&["`data` was"]);
    assert!(tables(&place) == whole);
    collapse(&place, &format!("{words} --overwrite")).done();
    assert!(tables(&place) != whole);
    place.put("full/notes.txt", "not a run");
    for begin in ["", "--overwrite", "--resume"] {
        collapse(&place, &format!("--output full {begin}")).fails(&["full", "empty folder"]);
    }
    assert_eq!(place.read("full/notes.txt"), "not a run");
}

#[test]
fn the_built_in_learner_and_a_prior_will_do() {
    let place = place();
    let words =
        "collapse --data in.jsonl --generations 1 --steps 1 --batch-size 2 --sequence-length 16 --tokens 200";
    place
        .run(&format!(
            "{words} --strategy edit --prior tiny --output out --prefix-tokens 0 --resample-above 0.3"
        ))
        .done();
    assert!(place.path("out/learner/tokenizer.json").is_file());
    let edits = &row(&place.json("out/collapse.json"), "edit", 1)["edits"];
    assert!(edits["eligible"].as_u64().unwrap() > 0, "{edits}");
    place.copy_model();
    place.put("copy/tokenizer.json", place.read("tiny/tokenizer.json") + "\n");
    let words = format!("{words} --strategy edit --prior copy --output other");
    place.run(&words).fails(&["copy", "tokenizer", "--config-json"]);
}

#[test]
fn wrong_usage_is_refused_before_anything_is_written() {
    let place = place();
    let outcome = place.run("collapse").exits_with(2);
    for part in ["--data", "--generations", "--output", "toedit collapse --data"] {
        assert!(outcome.stderr.contains(part), "{part}: {}", outcome.stderr);
    }
    for (words, part) in [
        ("--strategy replace --human-share 0.5", "--human-share goes with --strategy mix"),
        ("--strategy mix,replace --prior tiny", "--prior goes with --strategy edit"),
        ("--prefix-tokens 17", "17 prefix tokens and 16 of a row"),
        ("--strategy fold", "fold"),
        ("--seeds 0", "--seeds"),
        ("--held-out-share 0", "--held-out-share"),
        ("--edit-temperature 0", "--edit-temperature"),
        ("--rule p<0.1:sing", "sing"),
        ("--save-every 0", "--save-every"),
        ("--resume --overwrite", "--overwrite"),
        ("--held-out-share 0.1 --eval-data in.jsonl", "--eval-data"),
    ] {
        let outcome = collapse(&place, words);
        assert!(outcome.status == 2 && outcome.stderr.contains(part), "{words}: {}", outcome.stderr);
    }
    assert!(!place.path("out/experiment.json").exists());
}
