//! The command, run as its users run it: the binary, files in, files out, exit status.
#![cfg(feature = "cli")]

mod analyze;
mod args;
mod cache;
mod collapse;
#[path = "../common/mod.rs"]
mod common;
mod devices;
mod edit;
mod eval;
mod formats;
mod generate;
mod generations;
mod info;
mod inputs;
mod inspect;
mod memory;
mod mix;
mod models;
mod outputs;
#[cfg(feature = "parquet")]
mod parquet;
mod provenance;
mod rejects;
mod resume;
mod revert;
mod rules;
mod score;
mod select;
mod sets;
mod sft;
mod shards;
mod signals;
mod slurm;
mod theory;
mod tokenize;
mod train;
mod verify;

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// What a run left behind.
struct Outcome {
    status: i32,
    stdout: String,
    stderr: String,
}

impl Outcome {
    /// Asserts that the run was done.
    #[track_caller]
    fn done(self) -> Self {
        self.exits_with(0)
    }

    #[track_caller]
    fn exits_with(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{}", self.stderr);
        self
    }

    /// Asserts that the run failed with one message, which holds all of `parts`, and no output.
    #[track_caller]
    fn fails(self, parts: &[&str]) {
        self.fails_with(1, parts);
    }

    #[track_caller]
    fn fails_with(self, status: i32, parts: &[&str]) {
        let Self { stdout, stderr, .. } = &self;
        assert_eq!((self.status, stdout.as_str()), (status, ""), "{stderr}");
        assert!(stderr.starts_with("toedit: ") && stderr.lines().count() == 1, "{stderr}");
        assert!(!stderr.contains("' panicked at") && !stderr.contains("RUST_BACKTRACE"), "{stderr}");
        for part in parts {
            assert!(stderr.contains(part), "no `{part}` in: {stderr}");
        }
    }

    /// Standard output as JSON lines.
    #[track_caller]
    fn records(&self) -> Vec<Value> {
        records(&self.stdout)
    }
}

/// The binary with these arguments, in an environment that does not depend on the user's.
fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_toedit"));
    for name in ["NO_COLOR", "RUST_LOG", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"] {
        command.env_remove(name);
    }
    command.env("HF_HOME", "/nonexistent").args(args);
    command
}

/// Runs `command` with `stdin` as its standard input.
fn run(mut command: Command, stdin: &[u8]) -> Outcome {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        // A run that fails early does not read it.
        scope.spawn(move || drop(input.write_all(stdin)));
        child.wait_with_output().unwrap()
    });
    Outcome {
        status: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The lines of a JSON lines file.
#[track_caller]
fn records(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A working folder with the model `tiny` and the corpus `sample.jsonl` in it.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets");
        for name in ["tiny", "sample.jsonl"] {
            symlink(assets.join(name), folder.path().join(name)).unwrap();
        }
        Self { folder }
    }

    /// A place with one more file, `in.jsonl`.
    fn with_input(text: &str) -> Self {
        let place = Self::new();
        place.put("in.jsonl", text);
        place
    }

    /// A place with the first `count` documents of the sample as `in.jsonl`.
    fn with_sample(count: usize) -> Self {
        let place = Self::new();
        let sample: String = place.read("sample.jsonl").split_inclusive('\n').take(count).collect();
        place.put("in.jsonl", sample);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    #[track_caller]
    fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    #[track_caller]
    fn read(&self, name: &str) -> String {
        String::from_utf8(self.bytes(name)).unwrap()
    }

    #[track_caller]
    fn records(&self, name: &str) -> Vec<Value> {
        records(&self.read(name))
    }

    /// A JSON file.
    #[track_caller]
    fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).unwrap()
    }

    /// The names in the folder, hidden ones too, without what every place and every output has.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name != "tiny" && name != "sample.jsonl");
        names.sort();
        let is_made =
            |name: &str| name.strip_suffix(".manifest").is_some_and(|made| self.path(made).exists());
        names.retain(|name| !is_made(name));
        names
    }

    /// The hidden files of outputs that are not finished: name and kind.
    fn unfinished(&self) -> Vec<(String, String)> {
        let parts = |name: &str| {
            let (rest, kind) = name.strip_prefix('.')?.rsplit_once('.')?;
            let (made, token) = rest.rsplit_once('.')?;
            (token.len() == 16).then(|| (made.to_owned(), kind.to_owned()))
        };
        self.names().iter().filter_map(|name| parts(name)).collect()
    }

    /// Copies the model to the folder `copy`, where a test may change it.
    fn copy_model(&self) {
        for name in ["config.json", "model.safetensors", "tokenizer.json"] {
            self.put(&format!("copy/{name}"), self.bytes(&format!("tiny/{name}")));
        }
    }

    /// Changes a JSON file.
    fn change(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let mut json = self.json(name);
        change(&mut json);
        self.put(name, json.to_string());
    }

    /// The command of these words, to be run in this place.
    fn command(&self, words: &str) -> Command {
        let mut command = command(&words.split_whitespace().collect::<Vec<_>>());
        command.current_dir(self.folder.path());
        command
    }

    fn run(&self, words: &str) -> Outcome {
        self.run_with(words, b"")
    }

    fn run_with(&self, words: &str, stdin: &[u8]) -> Outcome {
        run(self.command(words), stdin)
    }

    /// The same in a shell that has run `limits` before.
    fn run_under(&self, limits: &str, words: &str) -> Outcome {
        let mut command = Command::new("bash");
        let line = format!("{limits}; exec {} {words}", env!("CARGO_BIN_EXE_toedit"));
        command.args(["-c", &line]).current_dir(self.folder.path());
        run(command, b"")
    }

    /// `toedit score` with the model.
    fn score(&self, words: &str) -> Outcome {
        self.run(&format!("score --model tiny {words}"))
    }

    /// `toedit edit` with the model.
    fn edit(&self, words: &str) -> Outcome {
        self.run(&format!("edit --model tiny {words}"))
    }
}
