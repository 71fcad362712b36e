//! Runs: what is in the output's folder after each way in which one can go.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroU64;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use toedit::data::tokens::{TokenShards, TokenWriter, WriterConfig};
use toedit::train::checkpoint::State;
use toedit::train::data::{DataConfig, Loader, Packing, Source};
use toedit::train::metrics::{EVALUATIONS, Evaluation, METRICS, read};
use toedit::train::schedule::{Decay, Schedule};
use toedit::train::{Begin, Event, Origin, Output, Run, RunConfig, TrainConfig, Trainer};
use toedit::{Device, Dtype, Error, Model, Result};

const VOCABULARY: u32 = 257;
const LENGTH: usize = 12;

fn model() -> PathBuf {
    crate::common::root().join("tests/data/golden/llama")
}

/// A short run, and where its outputs lie.
struct Place {
    folder: TempDir,
    steps: u64,
    save_every: u64,
    eval_every: u64,
    keep_last: usize,
    learning_rate: f64,
}

impl Place {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        Self { folder, steps: 7, save_every: 3, eval_every: 2, keep_last: 9, learning_rate: 1e-3 }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Rows of made-up tokens; those of another `seed` are others.
    fn loader(&self, seed: u32, rows: u32) -> Loader {
        let folder = self.path(&format!("tokens-{seed}"));
        let mut writer = TokenWriter::create(&folder, WriterConfig::new(VOCABULARY, None), true).unwrap();
        for row in 0..rows {
            let id = |position| (seed + row * 31 + position * position * 7) % VOCABULARY;
            writer.push(&(0..LENGTH as u32).map(id).collect::<Vec<_>>(), None).unwrap();
        }
        writer.finish().unwrap();
        let source = Source { shards: TokenShards::open(&folder).unwrap(), weight: None };
        let config = DataConfig {
            sequence_length: LENGTH,
            packing: Packing::Documents,
            shuffle: true,
            seed: 0,
            response_only: false,
            eos: None,
        };
        Loader::new(vec![source], &config).unwrap()
    }

    fn run(&self, output: &str, begin: Begin, observe: impl FnMut(Event) -> Result<()>) -> Result<()> {
        let output = Output::open(&self.path(output), begin, self.keep_last, &[])?;
        let schedule = Schedule::new(Decay::Constant, self.learning_rate, 0.0, 0, self.steps)?;
        let config =
            TrainConfig { batch_size: 2, clip: None, ..TrainConfig::new(self.steps, LENGTH, schedule) };
        let origin = Origin::model(model().to_str().unwrap())?;
        let mut trainer = Trainer::new(origin, self.loader(0, 8), config, Device::Cpu, Dtype::F32)?;
        let settings = json!({ "steps": self.steps, "learning_rate": self.learning_rate });
        let config = RunConfig {
            save_every: NonZeroU64::new(self.save_every),
            eval_every: NonZeroU64::new(self.eval_every),
            log_dir: None,
            settings: settings.as_object().unwrap().clone(),
        };
        let held_out = self.loader(100, 5);
        Run::new(&mut trainer, &output, Some(&held_out), &config)?.finish(observe)
    }

    fn whole(&self, output: &str, begin: Begin) {
        self.run(output, begin, |_| Ok(())).unwrap();
    }

    fn checkpoints(&self, output: &str) -> Vec<u64> {
        let names = tree(&self.path(output).join("checkpoints"));
        let steps = names.keys().filter_map(|name| name.strip_suffix("/trainer.json"));
        steps.map(|name| name.strip_prefix("step-").unwrap().parse().unwrap()).collect()
    }
}

/// All files below a folder, without what tells how fast the run was.
fn tree(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for path in fs::read_dir(&next).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let mut bytes = fs::read(&path).unwrap();
            if path.ends_with(METRICS) {
                bytes = without_speed(&bytes);
            }
            files.insert(path.strip_prefix(folder).unwrap().display().to_string(), bytes);
        }
    }
    files
}

fn without_speed(lines: &[u8]) -> Vec<u8> {
    let lines = std::str::from_utf8(lines).unwrap().lines();
    let timeless = lines.map(|line| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        line.as_object_mut().unwrap().remove("tokens_per_second").unwrap();
        line.to_string()
    });
    timeless.collect::<Vec<_>>().join("\n").into_bytes()
}

/// Fails without printing megabytes.
#[track_caller]
fn assert_same(what: &str, ours: &BTreeMap<String, Vec<u8>>, theirs: &BTreeMap<String, Vec<u8>>) {
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>(), "{what}");
    let differ: Vec<_> = ours.iter().filter(|(name, bytes)| theirs[*name] != **bytes).collect();
    let differ: Vec<_> = differ.iter().map(|(name, _)| name).collect();
    assert!(differ.is_empty(), "{what}: {differ:?}");
}

fn evaluated(folder: &Path) -> Vec<u64> {
    read::<Evaluation>(&folder.join(EVALUATIONS)).unwrap().map(|line| line.step).collect()
}

/// Every step at which a checkpoint, an evaluation, both or neither is due; and the second batch of each evaluation.
#[test]
fn a_run_that_was_stopped_anywhere_ends_as_one_that_was_not() {
    let mut place = Place::new();
    for keep_last in [9, 1] {
        place.keep_last = keep_last;
        place.whole("out", Begin::Overwrite);
        let expected = tree(&place.path("out"));
        for (at, in_evaluation) in
            (1..=7).map(|step| (step, false)).chain([2, 4, 6, 7].map(|step| (step, true)))
        {
            let (step, batches) = (Cell::new(0), Cell::new(0));
            let stop = |event| {
                match event {
                    Event::Step(found) => (step.set(found.step), batches.set(0)).1,
                    Event::Evaluating => batches.set(batches.get() + 1),
                    _ => {}
                }
                let is_now = step.get() == at && batches.get() == if in_evaluation { 2 } else { 0 };
                if is_now { Err(Error::Stopped(15)) } else { Ok(()) }
            };
            let what = format!("stopped at {at}, {}", if in_evaluation { "evaluating" } else { "stepping" });
            let stopped = place.run("cut", Begin::Overwrite, stop);
            assert!(matches!(stopped, Err(Error::Stopped(15))), "{what}");
            assert_eq!(place.checkpoints("cut").last(), Some(&at), "{what}");
            assert!(evaluated(&place.path("cut")).iter().all(|step| *step < at), "{what}");
            let mut events = Vec::new();
            place.run("cut", Begin::Resume, |event| (events.push(event), Ok(())).1).unwrap();
            assert_eq!(events[0], Event::Resumed(at), "{what}");
            assert_eq!(evaluated(&place.path("cut")), [2, 4, 6, 7], "{what}");
            assert_same(&what, &tree(&place.path("cut")), &expected);
        }
    }
}

#[test]
fn the_best_checkpoint_is_kept_with_the_last_ones() {
    let mut place = Place::new();
    (place.steps, place.save_every, place.eval_every, place.keep_last) = (10, 1, 1, 2);
    // Learning these rows by heart does the held-out ones no good.
    place.learning_rate = 6e-3;
    place.whole("out", Begin::New);
    let evaluations = read::<Evaluation>(&place.path("out").join(EVALUATIONS)).unwrap();
    let best = evaluations.min_by(|a, b| a.loss.total_cmp(&b.loss)).unwrap();
    assert!((2..9).contains(&best.step), "{best:?} would be kept anyway, or is the first");
    assert_eq!(place.checkpoints("out"), [best.step, 9, 10]);
    let state = State::read(&place.path("out/checkpoints").join(format!("step-{:08}", best.step))).unwrap();
    assert_eq!(state.evaluation, Some(best.loss));
    // What a process that was killed while it removed a checkpoint has left goes at the next start.
    let half = place.path("out/checkpoints/.step-00000007.partial");
    fs::create_dir(&half).unwrap();
    fs::write(half.join("trainer.json"), "{}").unwrap();
    place.whole("out", Begin::Resume);
    assert!(!half.exists());
    assert_eq!(place.checkpoints("out"), [best.step, 9, 10]);
}

#[test]
fn nothing_of_an_earlier_run_is_mixed_up_with_the_next() {
    let mut place = Place::new();
    place.whole("out", Begin::New);
    (place.steps, place.save_every) = (4, 4);
    place.whole("fresh", Begin::New);
    let mut expected = tree(&place.path("fresh"));
    for name in [
        "model-00001-of-00002.safetensors",
        "model.safetensors.index.json",
        "chat_template.jinja",
        "loss.svg",
    ] {
        fs::write(place.path("out").join(name), "of an earlier run").unwrap();
    }
    fs::write(place.path("out/.tokenizer.json.partial"), "of an earlier run").unwrap();
    // What no run writes stays.
    for name in ["notes.txt", "model-of-mine.txt"] {
        fs::write(place.path("out").join(name), "mine").unwrap();
        expected.insert(name.to_owned(), b"mine".to_vec());
    }
    // No model stands beside the metrics of a run that is not finished.
    let stopped = place.run("out", Begin::Overwrite, |_| Err(Error::Stopped(2)));
    assert!(matches!(stopped, Err(Error::Stopped(2))));
    let names = tree(&place.path("out")).into_keys().filter(|name| !name.contains('/'));
    let left = [".lock", "evaluations.jsonl", "metrics.jsonl", "model-of-mine.txt", "notes.txt"];
    assert_eq!(names.collect::<Vec<_>>(), left);
    place.whole("out", Begin::Overwrite);
    assert_same("overwritten", &tree(&place.path("out")), &expected);
    let model = Model::load(place.path("out"), Dtype::F32);
    assert!(model.is_ok(), "{:?}", model.err());
}

/// Whatever goes wrong while an earlier run is cleared away, what is left of it is not taken for finished.
#[test]
fn a_folder_that_is_half_cleared_is_no_finished_run() {
    let place = Place::new();
    place.whole("out", Begin::New);
    let before = tree(&place.path("out"));
    // Nothing is cleared before the run begins.
    drop(Output::open(&place.path("out"), Begin::Overwrite, 2, &[]).unwrap());
    assert_same("opened", &tree(&place.path("out")), &before);
    // A folder in the place of a file cannot be removed as one.
    let obstacle = place.path("out/model-00001-of-00002.safetensors");
    fs::create_dir(&obstacle).unwrap();
    assert!(place.run("out", Begin::Overwrite, |_| Ok(())).is_err());
    assert!(!place.path("out/trainer.json").exists());
    assert!(place.path("out").join(METRICS).exists(), "it is known as an earlier run's");
    let refused = place.run("out", Begin::New, |_| Ok(())).unwrap_err().to_string();
    assert!(refused.contains("--overwrite"), "{refused}");
    fs::remove_dir(&obstacle).unwrap();
    place.whole("out", Begin::Resume);
    assert_same("begun again", &tree(&place.path("out")), &before);
}

#[test]
fn a_model_that_no_run_made_is_left_alone() {
    let place = Place::new();
    for file in ["config.json", "model.safetensors"] {
        let mine = place.path("mine");
        fs::create_dir_all(&mine).unwrap();
        fs::copy(model().join(file), mine.join(file)).unwrap();
    }
    let before = tree(&place.path("mine"));
    for begin in [Begin::New, Begin::Resume] {
        let refused = place.run("mine", begin, |_| Ok(())).unwrap_err().to_string();
        assert!(refused.contains("mine: holds `") && refused.contains("--overwrite"), "{refused}");
        assert_same("refused", &tree(&place.path("mine")), &before);
    }
    for name in ["model.safetensors", "model.safetensors.index.json", "model-00002-of-00003.safetensors"] {
        let folder = place.path(name).join("in");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), "").unwrap();
        assert!(Output::open(&folder, Begin::New, 2, &[]).is_err(), "{name}");
    }
    place.whole("mine", Begin::Overwrite);
}

#[test]
fn a_run_does_not_write_where_it_reads() {
    let place = Place::new();
    let out = place.path("out");
    fs::create_dir_all(out.join("tokens/train-0")).unwrap();
    for name in ["config.json", "metrics.jsonl", "corpus.jsonl"] {
        fs::write(out.join(name), "").unwrap();
    }
    symlink(&out, place.path("link")).unwrap();
    let before = tree(&out);
    for begin in [Begin::Overwrite, Begin::Resume] {
        for read in
            ["out", "link", "link/../out", "out/tokens/train-0", "out/config.json", "out/metrics.jsonl"]
        {
            let read = place.path(read);
            let refused = Output::open(&out, begin, 2, &[&model(), &read]).unwrap_err().to_string();
            assert!(refused.starts_with(&read.display().to_string()), "{refused}");
            assert_same("refused", &tree(&out), &before);
        }
        // Files that no run writes, and folders that hold the output.
        for read in ["out/corpus.jsonl", ".", "missing"] {
            assert!(Output::open(&out, begin, 2, &[&place.path(read)]).is_ok(), "{read}");
            fs::remove_file(out.join(".lock")).unwrap();
        }
    }
}

#[test]
fn a_run_that_diverges_leaves_the_last_good_weights() {
    let mut place = Place::new();
    (place.save_every, place.eval_every, place.learning_rate) = (0, 0, 1e30);
    let Err(Error::Diverged { step, checkpoint: Some(checkpoint), .. }) =
        place.run("out", Begin::New, |_| Ok(()))
    else {
        panic!("it does not diverge, or leaves nothing");
    };
    assert!(step > 1, "{step}");
    let state = State::read(&checkpoint).unwrap();
    assert_eq!((state.step, place.checkpoints("out")), (step - 1, vec![step - 1]));
    assert!(Model::load(&checkpoint, Dtype::F32).is_ok());
    assert!(!place.path("out/trainer.json").exists(), "it is not finished");
    // A checkpoint that was there already stays the last.
    place.save_every = 1;
    let Err(error) = place.run("out", Begin::Overwrite, |_| Ok(())) else { panic!() };
    let text = error.to_string();
    assert!(text.starts_with(&format!("step {step}: loss ")), "{text}");
    assert!(text.ends_with(&format!("the last good checkpoint is {}", checkpoint.display())), "{text}");
}

#[test]
fn a_finished_run_needs_no_checkpoints_to_be_known() {
    let mut place = Place::new();
    place.whole("out", Begin::New);
    fs::remove_dir_all(place.path("out/checkpoints")).unwrap();
    let before = tree(&place.path("out"));
    let mut events = Vec::new();
    place.run("out", Begin::Resume, |event| (events.push(event), Ok(())).1).unwrap();
    assert_eq!(events, [Event::Resumed(7)]);
    assert_same("finished", &tree(&place.path("out")), &before);
    place.learning_rate = 2e-3;
    let refused = place.run("out", Begin::Resume, |_| Ok(())).unwrap_err().to_string();
    assert!(refused.contains("`learning_rate` was 0.001 and is 0.002"), "{refused}");
}
