//! The argument layer, through the command: help, wrong usage, configuration files, completions.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;
use toml::Table;

use crate::{Outcome, command, run};

const COMMANDS: [&str; 17] = [
    "score",
    "edit",
    "train",
    "generate",
    "eval perplexity",
    "eval choices",
    "eval lambada",
    "revert",
    "inspect",
    "tokenize",
    "select dsir",
    "select perplexity",
    "analyze",
    "mix",
    "collapse",
    "theory",
    "info",
];

fn toedit(args: &[&str]) -> Outcome {
    run(command(args), b"")
}

fn words(command: &str) -> Vec<&str> {
    command.split(' ').collect()
}

/// The configuration in effect under these arguments of a command.
fn effective(args: &[&str]) -> Table {
    let outcome = toedit(&[&args[..1], &["--show-config"], &args[1..]].concat());
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""));
    outcome.stdout.parse().unwrap()
}

/// A folder with a configuration file, and the file's path.
fn config(text: &str) -> (TempDir, String) {
    let folder = TempDir::new().unwrap();
    let path: PathBuf = folder.path().join("run.toml");
    fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

/// Asserts wrong usage whose message holds all of `parts`.
fn assert_refused(args: &[&str], parts: &[&str]) {
    let outcome = toedit(args);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (2, ""), "{args:?}: {}", outcome.stderr);
    for part in parts {
        assert!(outcome.stderr.contains(part), "{args:?}: no `{part}` in: {}", outcome.stderr);
    }
}

#[test]
fn help_and_version_go_to_standard_output() {
    let outcome = toedit(&["--help"]);
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""));
    let names = COMMANDS.map(|command| command.split(' ').next().unwrap());
    assert!(names.iter().all(|name| outcome.stdout.contains(name)));
    let outcome = toedit(&["--version"]);
    assert_eq!(outcome.stdout, format!("toedit {}\n", env!("CARGO_PKG_VERSION")));
    for command in COMMANDS {
        let outcome = toedit(&[&words(command)[..], &["--help"]].concat());
        assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""));
        assert!(outcome.stdout.contains("--config"), "{}", outcome.stdout);
    }
}

#[test]
fn every_flag_has_help() {
    for command in COMMANDS {
        let help = toedit(&[&words(command)[..], &["-h"]].concat()).stdout;
        let lines: Vec<&str> = help.lines().collect();
        for (i, line) in lines.iter().enumerate().filter(|(_, line)| line.trim_start().starts_with("--")) {
            let described =
                line.trim().contains("  ") || lines.get(i + 1).is_some_and(|next| next.starts_with("     "));
            assert!(described, "{command}: {line}");
        }
    }
}

#[test]
fn wrong_usage_exits_with_2() {
    assert_refused(&[], &["Usage"]);
    assert_refused(&["edit", "--no-such-flag"], &["--no-such-flag"]);
    assert_refused(&["polish"], &["polish"]);
    for (flag, value) in [
        ("--threads", "0"),
        ("--batch-tokens", "0"),
        ("--max-length", "1"),
        ("--overlap", "0"),
        ("--seed", "-1"),
        ("--device", "cuda:x"),
        ("--dtype", "f16"),
        ("--top-k", "0"),
        ("--top-p", "0"),
        ("--top-p", "1.5"),
        ("--temperature", "0"),
        ("--temperature", "nan"),
        ("--resample-above", "inf"),
        ("--strategy", "down-revise"),
        ("--emit", "words"),
        ("--diff", "0"),
    ] {
        assert_refused(&["edit", &format!("{flag}={value}")], &[flag]);
    }
    assert_refused(&["edit", "--diff", "--dry-run"], &["--diff", "--dry-run"]);
    assert_refused(&["edit", "--provenance", "--no-metadata"], &["--provenance", "--no-metadata"]);
    assert_refused(&["revert"], &["OUTPUT"]);
    assert_refused(&["inspect"], &["FILE"]);
}

#[test]
fn what_is_missing_is_named_with_an_example() {
    let example = "toedit edit --model assets/tiny --input assets/sample.jsonl --diff";
    assert_refused(&["edit"], &["--model", "--input", "--output", example]);
    assert_refused(&["edit", "--model", "m", "--input", "i"], &["missing --output"]);
    assert_refused(&["edit", "--model", "m", "--diff"], &["missing --input"]);
    assert_refused(&["score"], &["--model", "--input", "--output", "toedit score --model assets/tiny"]);
    assert_refused(&["revert", "edited.jsonl"], &["missing --output"]);
    let all = ["edit", "--model", "m", "--input", "i", "--dry-run", "--sampler", "top-p"];
    assert_refused(&all, &["--top-p P"]);
}

#[test]
fn the_examples_name_files_of_the_repository() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    for name in ["assets/tiny/config.json", "assets/sample.jsonl"] {
        assert!(root.join(name).is_file(), "{name}");
    }
}

#[test]
fn defaults_are_those_of_the_method() {
    let table = effective(&["edit"]);
    for (key, value) in [
        ("strategy", "up-revise"),
        ("sampler", "top-k"),
        ("device", "auto"),
        ("bos", "auto"),
        ("emit", "text"),
    ] {
        assert_eq!(table[key].as_str(), Some(value), "{key}");
    }
    assert_eq!(table["seed"].as_integer(), Some(0));
    assert_eq!(table["exclude-original"].as_bool(), Some(false));
    for key in ["temperature", "top-k", "max-length", "resample-above", "config", "show-config"] {
        assert!(!table.contains_key(key), "{key}");
    }
}

#[test]
fn the_file_gives_what_the_command_line_does_not() {
    let (_folder, path) = config(
        "temperature = 0.7\ntop-k = 16\nseed = 5\nexclude-original = true\noverwrite = false\n\
         model = \"m\"\ninput = [\"a.jsonl\", \"b.jsonl\"]\ndevice = \"cpu\"\n",
    );
    let table = effective(&["edit", "--config", &path, "--top-k", "4"]);
    assert_eq!(table["temperature"].as_float(), Some(0.7));
    assert_eq!((table["top-k"].as_integer(), table["seed"].as_integer()), (Some(4), Some(5)));
    assert_eq!(table["exclude-original"].as_bool(), Some(true));
    assert_eq!(table["input"].as_array().map(Vec::len), Some(2));
    assert_eq!(table["device"].as_str(), Some("cpu"));
    let table = effective(&["edit", "--config", &path, "--input", "c.jsonl"]);
    assert_eq!(table["input"].as_array().unwrap().len(), 1);
    assert_refused(&["edit", "--config", &path], &["missing --output"]);
}

#[test]
fn rules_on_the_command_line_replace_those_of_the_file() {
    let (_folder, path) = config("resample-above = 0.9\nrule = [\"p<=0.1:drop\"]\n");
    let table = effective(&["edit", "--config", &path]);
    assert_eq!(table["resample-above"].as_float(), Some(0.9));
    assert_eq!(table["rule"][0].as_str(), Some("p<=0.1:drop"));
    let table = effective(&["edit", "--config", &path, "--strategy", "filtering"]);
    assert_eq!(table["strategy"].as_str(), Some("filtering"));
    assert!(!table.contains_key("resample-above") && !table.contains_key("rule"));
}

#[test]
fn a_commands_table_goes_before_the_top_level() {
    let (_folder, path) = config("seed = 1\n[edit]\nseed = 2\ntop-k = 3\n[score]\nrank = true\n");
    assert_eq!(effective(&["edit", "--config", &path])["seed"].as_integer(), Some(2));
    let table = effective(&["score", "--config", &path]);
    assert_eq!((table["seed"].as_integer(), table["rank"].as_bool()), (Some(1), Some(true)));
    assert!(!table.contains_key("top-k"));
}

#[test]
fn what_is_wrong_in_the_file_is_named() {
    for (text, part) in [
        ("tempature = 1", "unknown key `tempature`"),
        ("config = \"x\"", "unknown key `config`"),
        ("help = true", "unknown key `help`"),
        ("[score]\ntop-p = 1", "unknown key `top-p`"),
        ("[polish]\nx = 1", "unknown table `polish`"),
        ("threads = 0", "--threads"),
        ("threads = true", "key `threads`"),
        ("quiet = 1", "key `quiet`"),
        ("seed = [1]", "key `seed`"),
        ("seed =", "run.toml"),
        ("diff = 3\ndry-run = true", "--dry-run"),
    ] {
        let (_folder, path) = config(text);
        assert_refused(&["edit", "--config", &path], &["run.toml", part]);
    }
    let outcome = toedit(&["edit", "--config", "no-such.toml"]);
    assert_eq!(outcome.status, 1);
    assert!(outcome.stderr.contains("no-such.toml"));
}

#[test]
fn the_configuration_shown_is_read_back() {
    let runs: [&[&str]; 4] = [
        &["edit"],
        &["edit", "--diff", "--input", "-", "--temperature", "0.25", "--text-field", "007", "--threads", "2"],
        &[
            "edit",
            "--resample-below=-0.5",
            "--rule",
            "p<0.5:keep",
            "--rule",
            "p>=1e-3:drop",
            "--output=-",
            "--mmap",
        ],
        &["score", "--model", "1e3", "--input", "a b", "c\"d", "--top-k", "5", "--truncate", "--quiet"],
    ];
    for args in runs {
        let shown = toedit(&[args, &["--show-config"]].concat()).stdout;
        let (_folder, path) = config(&shown);
        let again = toedit(&[args[0], "--config", &path, "--show-config"]);
        assert_eq!(again.stdout, shown, "{args:?}: {}", again.stderr);
    }
}

#[test]
fn arguments_after_two_dashes_stay_positional() {
    let (_folder, path) = config("text-field = \"body\"\n");
    let table = effective(&["revert", "--config", &path, "--", "-odd"]);
    assert_eq!(table["text-field"].as_str(), Some("body"));
}

#[test]
fn completions_name_the_flags() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let outcome = toedit(&["completions", shell]);
        assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""));
        assert!(outcome.stdout.contains("resample-above"), "{shell}");
    }
    assert_refused(&["completions", "tcsh"], &["tcsh"]);
}

#[test]
fn info_tells_the_version_and_the_machine() {
    let outcome = toedit(&["info"]);
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""));
    for part in [env!("CARGO_PKG_VERSION"), "cpu", std::env::consts::ARCH, "threads"] {
        assert!(outcome.stdout.contains(part), "{part}");
    }
}
