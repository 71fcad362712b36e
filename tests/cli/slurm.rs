//! `examples/slurm.sh` in the environment that Slurm gives to a task, with a stub in place of `scontrol`.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::edit::ALL;
use crate::{Outcome, Place};

impl Place {
    /// An executable script in the folder `bin`.
    fn put_script(&self, name: &str, text: &str) {
        self.put(&format!("bin/{name}"), format!("#!/bin/sh\n{text}\n"));
        let path = self.path(&format!("bin/{name}"));
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }

    /// Task `task` of an array of `count`, with `bin` on the path.
    fn task(&self, program: &Path, task: u32, count: u32, words: &str) -> Command {
        self.put_script("scontrol", "echo \"$@\" >>scontrol.log");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/slurm.sh");
        let mut command = Command::new("bash");
        command.arg(script).args(words.split_whitespace()).current_dir(self.folder.path());
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        command.env("PATH", path).env("TOEDIT", program).env("SLURM_ARRAY_JOB_ID", "77");
        for (name, value) in [("ID", task), ("COUNT", count), ("MIN", 0), ("MAX", count - 1), ("STEP", 1)] {
            command.env(format!("SLURM_ARRAY_TASK_{name}"), value.to_string());
        }
        command
    }

    /// A task that runs the script `bin/stub`.
    fn stub(&self, text: &str) -> Command {
        self.put_script("stub", &format!("echo \"$@\" >>arguments.log\n{text}"));
        self.task(&self.path("bin/stub"), 1, 2, "--input in.jsonl")
    }
}

fn run(command: Command) -> Outcome {
    crate::run(command, b"")
}

#[test]
fn the_tasks_of_an_array_share_the_corpus() {
    let place = Place::with_sample(10);
    place.edit(&format!("--input in.jsonl --output whole.jsonl {ALL}")).done();
    let program = Path::new(env!("CARGO_BIN_EXE_toedit"));
    let words = format!("--model tiny --input in.jsonl --output out.jsonl {ALL}");
    // The second time there is nothing left to do.
    for _ in 0..2 {
        (0..3).for_each(|task| drop(run(place.task(program, task, 3, &words)).done()));
    }
    // One task again, which is no array of one.
    let missing = "out-00001-of-00003.jsonl";
    std::fs::remove_file(place.path(missing)).unwrap();
    std::fs::remove_file(place.path(&format!("{missing}.manifest"))).unwrap();
    run(place.task(program, 1, 2, &format!("{words} --shard %a/3"))).done();
    let parts: Vec<_> = (0..3).map(|task| place.read(&format!("out-{task:05}-of-00003.jsonl"))).collect();
    assert!(parts.concat() == place.read("whole.jsonl"));
    assert!(!place.path("scontrol.log").exists());
}

#[test]
fn exit_states_become_those_of_the_task() {
    for (status, expected, requeues) in
        [(0, 0, false), (3, 0, false), (1, 1, false), (143, 143, false), (75, 0, true)]
    {
        let place = Place::with_sample(1);
        run(place.stub(&format!("exit {status}"))).exits_with(expected);
        assert_eq!(place.path("scontrol.log").exists(), requeues, "{status}");
        assert_eq!(place.read("arguments.log"), "edit --input in.jsonl --shard auto --resume\n");
    }
    let place = Place::with_sample(1);
    let mut command = place.stub("exit 75");
    command.env("SLURM_RESTART_COUNT", "5").env("MAX_RESTARTS", "5");
    run(command).exits_with(75);
    assert!(!place.path("scontrol.log").exists());
}

/// Slurm's signal before the time limit goes to the program, and the task to the queue.
#[test]
fn a_task_that_runs_out_of_time_is_requeued() {
    for (signal, expected, requeues) in [("USR1", 0, true), ("TERM", 143, false)] {
        let place = Place::with_sample(1);
        let program = "trap 'exit 143' TERM\ntouch ready\nwhile :; do sleep 0.05; done";
        let mut command = place.stub(program);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let start = Instant::now();
        while !place.path("ready").exists() {
            assert!(start.elapsed() < Duration::from_secs(30), "the program does not begin");
            sleep(Duration::from_millis(10));
        }
        let kill = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status();
        assert!(kill.unwrap().success());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(expected), "{signal}");
        assert_eq!(place.path("scontrol.log").exists(), requeues, "{signal}");
        if requeues {
            assert_eq!(place.read("scontrol.log"), "requeue 77_1\n");
        }
    }
}
