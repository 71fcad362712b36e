//! Runs that are killed, disks that fill up, processes that meet: afterwards `--resume` gives the bytes of a run that nothing
//! happened to.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::formats::gzip;
use crate::{Outcome, Place, run};

/// Many frames from a small corpus, a few documents at a time.
const SMALL: &str = "--frame-bytes 1500 --batch-tokens 256 --threads 1";

/// A place with a corpus of some records that cannot be used among good ones.
fn place() -> Place {
    let place = Place::new();
    let mut lines: Vec<_> = place.read("sample.jsonl").lines().take(16).map(str::to_owned).collect();
    lines.insert(3, "{\"text\":5}".to_owned());
    lines.insert(11, "no JSON".to_owned());
    place.put("in.jsonl", lines.join("\n"));
    place
}

/// Starts a command, kills it after `time`, and says whether it had finished before.
fn kill_after(place: &Place, words: &str, time: Duration) -> bool {
    let mut command = place.command(words);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    sleep(time);
    child.kill().unwrap();
    child.wait().unwrap().success()
}

/// Records that the journals of an output call durable.
fn durable(place: &Place, output: &str) -> u64 {
    let is_journal = |name: &&String| name.starts_with(&format!(".{output}.")) && name.ends_with(".journal");
    let records = |name: &String| {
        let text = String::from_utf8(place.bytes(name)).unwrap();
        let mut frames = text.split_inclusive('\n').filter(|line| line.ends_with('\n')).filter_map(|line| {
            let line: Value = serde_json::from_str(line.split_once(' ')?.1).ok()?;
            let records = line.get("frame")?.get("records")?.clone();
            Some(records["written"].as_u64()? + records["set_aside"].as_u64()?)
        });
        frames.next_back().unwrap_or(0)
    };
    place.names().iter().filter(is_journal).map(records).max().unwrap_or(0)
}

/// Kills a command again and again at other moments, each time going on, until it has finished; gives the number of kills.
fn kill_until_done(place: &Place, words: &str, output: &str, longest: Duration, seed: u32) -> u32 {
    let mut kills = 0;
    loop {
        let number = toedit::random::philox4x32([kills, seed, 0, 0], [1, 2])[0];
        let before = durable(place, output);
        // No more than the frame that was open is done again.
        let time = longest.mul_f64(f64::from(number) / f64::from(u32::MAX));
        if kill_after(place, words, time) {
            return kills;
        }
        kills += 1;
        assert!(durable(place, output) >= before || place.path(output).exists(), "{words}: frames were lost");
        if kills == 60 {
            place.run(words);
            return kills;
        }
    }
}

#[test]
fn sigkill_at_any_moment_then_resume() {
    let place = place();
    let mut kills = 0;
    for (seed, (command, output)) in (0..).zip([
        ("edit", "out.jsonl"),
        ("edit", "out.jsonl.gz"),
        ("edit", "out.jsonl.zst"),
        ("score", "out.jsonl.gz"),
    ]) {
        let words = format!(
            "{command} --model tiny --input in.jsonl --output {output} --on-error skip --resample-above 0.3 {SMALL}"
        );
        let words =
            if command == "score" { words.replace("--resample-above 0.3", "--per-token") } else { words };
        let begun = Instant::now();
        place.run(&words).exits_with(3);
        let longest = begun.elapsed();
        let [whole, rejects] = [output.to_owned(), format!("{output}.rejects")].map(|name| {
            let bytes = place.bytes(&name);
            fs::remove_file(place.path(&name)).unwrap();
            bytes
        });
        fs::remove_file(place.path(&format!("{output}.manifest"))).unwrap();
        let words = format!("{words} --resume");
        while kills < 11 * (seed + 1) {
            kills += kill_until_done(&place, &words, output, longest, seed + kills);
            place.run(&words).done();
            assert!(place.bytes(output) == whole, "{words}: other bytes after {kills} kills");
            assert!(place.bytes(&format!("{output}.rejects")) == rejects, "{words}: other rejects");
            let manifest = place.json(&format!("{output}.manifest"));
            assert_eq!(
                (&manifest["records"]["written"], &manifest["records"]["set_aside"]),
                (&16.into(), &2.into())
            );
            assert_eq!(
                place.names(),
                ["in.jsonl".to_owned(), output.to_owned(), format!("{output}.rejects")]
            );
            for name in [output.to_owned(), format!("{output}.rejects"), format!("{output}.manifest")] {
                fs::remove_file(place.path(&name)).unwrap();
            }
        }
    }
    assert!(kills >= 40, "{kills} kills");
}

#[test]
fn texts_from_nothing_go_on_where_they_were_killed() {
    let place = Place::new();
    let words = format!("generate --model tiny --documents 60 --max-new-tokens 20 --batch-size 1 {SMALL}");
    let words = words.replace("--batch-tokens 256 ", "");
    let begun = Instant::now();
    place.run(&format!("{words} --output whole.jsonl")).done();
    let longest = begun.elapsed();
    let mut kills = 0;
    while kills < 5 {
        kills += kill_until_done(
            &place,
            &format!("{words} --output out.jsonl --resume"),
            "out.jsonl",
            longest,
            kills,
        );
        assert!(place.bytes("out.jsonl") == place.bytes("whole.jsonl"), "other bytes after {kills} kills");
        fs::remove_file(place.path("out.jsonl")).unwrap();
        fs::remove_file(place.path("out.jsonl.manifest")).unwrap();
    }
}

/// Leaves an output of which some frames are durable: its input has a record that ends the run.
fn interrupted() -> Place {
    let place = Place::new();
    let mut lines: Vec<_> = place.read("sample.jsonl").lines().take(6).map(str::to_owned).collect();
    lines.push("no JSON".to_owned());
    place.put("in.jsonl", lines.join("\n"));
    place.edit(&format!("--input in.jsonl --output out.jsonl {SMALL}")).fails(&["in.jsonl:7"]);
    assert!(durable(&place, "out.jsonl") >= 3);
    place
}

#[test]
fn journals_of_files_that_are_gone_do_not_matter() {
    let place = interrupted();
    let before = durable(&place, "out.jsonl");
    let journal = place.names().into_iter().find(|name| name.ends_with(".journal")).unwrap();
    for token in ["0000000000000000", "ffffffffffffffff"] {
        fs::copy(place.path(&journal), place.path(&format!(".out.jsonl.{token}.journal"))).unwrap();
    }
    let words = format!("--input in.jsonl --output out.jsonl {SMALL} --on-error skip --resume");
    let outcome = place.edit(&words).exits_with(3);
    assert!(outcome.stderr.contains(&format!("{before} done before")), "{}", outcome.stderr);
}

#[test]
fn counts_of_a_resumed_run_cover_all_of_it() {
    let place = interrupted();
    let words = format!("--input in.jsonl {SMALL} --on-error skip --summary");
    place.edit(&format!("{words} once.json --output once.jsonl")).exits_with(3);
    let before = durable(&place, "out.jsonl");
    let outcome = place.edit(&format!("{words} s.json --output out.jsonl --resume")).exits_with(3);
    assert!(outcome.stderr.contains(&format!("{before} done before")), "{}", outcome.stderr);
    assert!(place.bytes("out.jsonl") == place.bytes("once.jsonl"));
    let [resumed, once] = ["s.json", "once.json"].map(|name| place.json(name));
    assert_eq!((&resumed["resumed"], &once["resumed"]), (&before.into(), &0.into()));
    for name in
        ["documents", "tokens", "scored", "eligible", "changed", "windows", "set_aside", "passed_through"]
    {
        assert_eq!(resumed[name], once[name], "{name}");
    }
    let [resumed, once] = ["out.jsonl.manifest", "once.jsonl.manifest"].map(|name| place.json(name));
    for name in ["output", "records", "counts", "frames", "settings", "inputs"] {
        assert_eq!(resumed[name], once[name], "{name}");
    }
    // Scores are sums of floats: they come out to the last bit.
    let words = format!("score --model tiny --input in.jsonl {SMALL}");
    place.run(&format!("{words} --output s.jsonl")).fails(&["in.jsonl:7"]);
    place.run(&format!("{words} --output s.jsonl --resume --on-error pass --summary s.json")).exits_with(3);
    place.run(&format!("{words} --output t.jsonl --on-error pass --summary t.json")).exits_with(3);
    assert_eq!(place.json("s.json")["nll"], place.json("t.json")["nll"]);
    assert!(place.bytes("s.jsonl") == place.bytes("t.jsonl"));
    assert_eq!(place.records("s.jsonl")[6]["index"], 6);
    assert!(place.records("s.jsonl")[6]["error"].as_str().unwrap().contains("expected ident"));
}

#[test]
fn resume_with_other_settings_is_refused_by_name() {
    let place = interrupted();
    place.copy_model();
    let again = |words: &str| place.edit(&format!("{SMALL} --output out.jsonl --resume --input {words}"));
    for (words, field) in [
        ("in.jsonl --seed 1", "`seed` was 0 and is 1"),
        ("in.jsonl --resample-above 0.5", "`rules` was [\"p>=0.99:resample\"] and is [\"p>=0.5:resample\"]"),
        ("in.jsonl --sampler full", "`sampler`"),
        ("in.jsonl --top-k 4", "`sampler`"),
        ("in.jsonl --temperature 2", "`temperature` was 1.5 and is 2.0"),
        ("in.jsonl --exclude-original", "`exclude_original`"),
        ("in.jsonl --max-length 256", "`max_length`"),
        ("in.jsonl --overlap 7", "`overlap` was 256 and is 7"),
        ("in.jsonl --truncate", "`truncate`"),
        ("in.jsonl --bos never", "`bos`"),
        ("in.jsonl --provenance", "`provenance`"),
        ("in.jsonl --no-metadata", "`metadata`"),
        ("in.jsonl --emit both", "`emit`"),
        ("in.jsonl --text-field body", "`text_field`"),
        ("sample.jsonl", "`input`"),
        ("in.jsonl sample.jsonl", "`input`"),
    ] {
        again(words).fails(&["out.jsonl: the unfinished output cannot be resumed", field, "--overwrite"]);
    }
    let dtype = if place.json_journal()["begin"]["settings"]["dtype"] == "f32" { "bf16" } else { "f32" };
    again(&format!("in.jsonl --dtype {dtype}")).fails(&["`dtype`"]);
    place.run("score --model tiny --input in.jsonl --output out.jsonl --resume").fails(&["`command`"]);
    let copy = |field: &str| {
        let words = format!("edit --model copy {SMALL} --input in.jsonl --output out.jsonl --resume");
        place.run(&words).fails(&[&format!("`{field}`")]);
    };
    place.change("copy/tokenizer.json", |json| json["version"] = "1.0 ".into());
    let text = place.read("copy/tokenizer.json");
    place.put("copy/tokenizer.json", text.replace("1.0 ", "1.0"));
    copy("tokenizer");
    place.put("copy/tokenizer.json", place.bytes("tiny/tokenizer.json"));
    place.change("copy/config.json", |json| json["unknown_to_us"] = 1.into());
    copy("model");
    let frames = durable(&place, "out.jsonl");
    let outcome = again("in.jsonl --on-error skip --threads 2 --batch-tokens 999").status;
    assert_eq!((outcome, frames > 0), (2, true), "given twice");
    let words = "--input in.jsonl --output out.jsonl --frame-bytes 1500 --on-error skip --threads 2 --batch-tokens 999";
    place.edit(&format!("{words} --resume")).exits_with(3);
    // What results do not depend on may differ.
    place.edit(&format!("{words} --output once.jsonl").replacen("--output out.jsonl", "", 1)).exits_with(3);
    assert!(place.bytes("out.jsonl") == place.bytes("once.jsonl"));
}

#[test]
fn output_exists_with_resume_or_overwrite_or_neither() {
    let place = Place::with_sample(2);
    let edit = |words: &str| place.edit(&format!("--input in.jsonl --output out.jsonl {words}"));
    // Without a partial it starts afresh.
    edit("--resume").done();
    let first = place.bytes("out.jsonl");
    edit("").fails(&["out.jsonl", "exists already", "--overwrite"]);
    let modified = fs::metadata(place.path("out.jsonl")).unwrap().modified().unwrap();
    let done = edit("--resume").done();
    assert!(
        done.stderr.starts_with("2 documents, ") && done.stderr.contains("2 done before"),
        "{}",
        done.stderr
    );
    assert_eq!(fs::metadata(place.path("out.jsonl")).unwrap().modified().unwrap(), modified);
    edit("--resume --seed 3").fails(&["the finished output cannot be resumed", "`seed` was 0 and is 3"]);
    assert!(place.bytes("out.jsonl") == first);
    edit("--overwrite --seed 3").done();
    assert_eq!(place.json("out.jsonl.manifest")["settings"]["seed"], 3);
    place.edit("--input in.jsonl --output - --resume").fails_with(2, &["standard output cannot be resumed"]);
    place.run("verify out.jsonl").done();
}

/// Of many outputs those that are finished are not read again.
#[test]
fn a_folder_is_gone_on_with_file_by_file() {
    let place = Place::new();
    let lines: Vec<_> = place.read("sample.jsonl").lines().take(8).map(str::to_owned).collect();
    for (name, range) in [("a", 0..3), ("b", 3..6), ("c", 6..8)] {
        place.put(&format!("in/{name}.jsonl.gz"), gzip((lines[range].join("\n") + "\n").as_bytes()));
    }
    place.edit(&format!("--input in --output whole {SMALL}")).done();
    let words = format!("--input in --output out {SMALL} --resume --summary s.json");
    // The second file cannot be opened when its turn comes.
    let hidden = gzip(b"{\"text\":5}\n");
    let second = place.bytes("in/b.jsonl.gz");
    place.put("in/b.jsonl.gz", &hidden);
    place.edit(&words).fails(&["b.jsonl.gz:1"]);
    assert!(place.path("out/a.jsonl.gz.manifest").exists() && !place.path("out/b.jsonl.gz").exists());
    place.put("in/b.jsonl.gz", &second);
    place.edit(&words).fails(&["b.jsonl.gz", "`input`"]);
    for entry in fs::read_dir(place.path("out")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with(".b.") {
            fs::remove_file(path).unwrap();
        }
    }
    place.edit(&words).done();
    assert_eq!(place.json("s.json")["resumed"], 3);
    for name in ["a", "b", "c"] {
        let [out, whole] = ["out", "whole"].map(|folder| place.bytes(&format!("{folder}/{name}.jsonl.gz")));
        assert!(out == whole, "{name}");
    }
    assert_eq!(place.edit(&words).done().status, 0);
    assert_eq!(place.json("s.json")["resumed"], 8);
    assert_eq!(place.run("verify out").done().stdout.lines().count(), 3);
}

/// A small file system in memory, gone with the value.
struct Disk<'a>(&'a Path);

impl<'a> Disk<'a> {
    fn mount(path: &'a Path, size: &str) -> Option<Self> {
        fs::create_dir_all(path).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(path).stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success()).then_some(Self(path))
    }

    fn grow(&self, size: &str) {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,size={size}")]).arg(self.0);
        assert!(mount.status().unwrap().success());
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

#[test]
fn disk_full_then_resume() {
    let place = Place::new();
    let path = place.path("disk");
    let Some(disk) = Disk::mount(&path, "64k") else {
        return eprintln!("skipped: no file system can be mounted here");
    };
    let words = format!("score --model tiny --input sample.jsonl --per-token {SMALL} --output");
    place.run(&format!("{words} whole.jsonl")).done();
    assert!(place.bytes("whole.jsonl").len() > 100 << 10);
    place.run(&format!("{words} disk/out.jsonl")).fails(&["disk/.out.jsonl.", "No space left"]);
    assert!(!place.path("disk/out.jsonl").exists());
    disk.grow("4m");
    let outcome = place.run(&format!("{words} disk/out.jsonl --resume")).done();
    assert!(outcome.stderr.contains("done before"), "{}", outcome.stderr);
    assert!(place.bytes("disk/out.jsonl") == place.bytes("whole.jsonl"));
    place.run("verify disk").done();
}

/// A library that takes every lock and keeps none, as some network file systems do.
fn without_locks(place: &Place) -> Option<std::path::PathBuf> {
    place
        .put("lockless.c", "int flock(int file, int operation) { (void)file; (void)operation; return 0; }\n");
    let library = place.path("lockless.so");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(place.path("lockless.c"));
    cc.status().is_ok_and(|status| status.success()).then_some(library)
}

#[test]
fn two_processes_race_for_one_output() {
    let place = Place::with_sample(8);
    let words = format!("edit --model tiny --input in.jsonl {SMALL} --resume --output");
    place.run(&format!("{words} whole.jsonl.gz")).done();
    let whole = place.bytes("whole.jsonl.gz");
    let library = without_locks(&place);
    if library.is_none() {
        eprintln!("no C compiler: locks are not switched off");
    }
    for race in 0..4 {
        let preload = library.as_ref().filter(|_| race % 2 == 1);
        let spawn = |_| -> Child {
            let mut command = place.command(&format!("{words} out.jsonl.gz"));
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
            if let Some(library) = preload {
                command.env("LD_PRELOAD", library);
            }
            command.spawn().unwrap()
        };
        let outcomes = [0, 1].map(spawn).map(|child| {
            let output = child.wait_with_output().unwrap();
            (output.status.code(), String::from_utf8(output.stderr).unwrap())
        });
        let mut statuses = outcomes.each_ref().map(|(status, _)| *status);
        statuses.sort();
        let expected: &[_] = if preload.is_some() {
            &[[Some(0), Some(0)]]
        } else {
            // The second may come when the first has finished.
            &[[Some(0), Some(75)], [Some(0), Some(0)]]
        };
        assert!(expected.contains(&statuses), "{preload:?}: {outcomes:?}");
        assert!(place.bytes("out.jsonl.gz") == whole, "{preload:?}");
        place.run("verify out.jsonl.gz").done();
        for name in place.names().iter().filter(|name| name.contains("out.jsonl.gz")) {
            fs::remove_file(place.path(name)).unwrap();
        }
        fs::remove_file(place.path("out.jsonl.gz.manifest")).unwrap();
    }
}

/// Nothing of the surroundings matters to the bytes.
#[test]
fn surroundings_do_not_matter() {
    let place = Place::with_sample(2);
    place.edit("--input in.jsonl --output whole.jsonl.gz").done();
    let mut outcomes: Vec<(&str, Outcome)> = Vec::new();
    for (name, value) in
        [("TZ", "Pacific/Kiritimati"), ("LANG", "C"), ("LC_ALL", "tr_TR.UTF-8"), ("TMPDIR", "/nonexistent")]
    {
        let mut command =
            place.command("edit --model tiny --input in.jsonl --output out.jsonl.gz --overwrite");
        command.env(name, value).env_remove("HOME");
        outcomes.push((name, run(command, b"")));
        assert!(place.bytes("out.jsonl.gz") == place.bytes("whole.jsonl.gz"), "{name}");
    }
    for limits in ["umask 077", "ulimit -n 16"] {
        let words = "edit --model tiny --input in.jsonl --output out.jsonl.gz --overwrite";
        outcomes.push((limits, place.run_under(limits, words)));
        assert!(place.bytes("out.jsonl.gz") == place.bytes("whole.jsonl.gz"), "{limits}");
    }
    for (name, outcome) in outcomes {
        assert_eq!(outcome.status, 0, "{name}: {}", outcome.stderr);
    }
}

impl Place {
    /// The first line of the one journal in the folder.
    fn json_journal(&self) -> Value {
        let name = self.names().into_iter().find(|name| name.ends_with(".journal")).unwrap();
        let text = self.read(&name);
        serde_json::from_str(text.lines().next().unwrap().split_once(' ').unwrap().1).unwrap()
    }
}
