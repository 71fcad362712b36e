//! Every call fails once: no space, an I/O error.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use toedit::data::Begin;
use toedit::data::storage::{Storage, StoredFile, System};

use super::Scene;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// The system, but for one call.
#[derive(Debug)]
pub struct Failing {
    calls: Arc<AtomicUsize>,
    /// The number of the call that fails.
    at: usize,
    error: i32,
}

#[derive(Debug)]
struct FailingFile {
    file: Box<dyn StoredFile>,
    storage: Failing,
}

impl Failing {
    pub fn new(at: usize, error: i32) -> Self {
        Self { calls: Arc::default(), at, error }
    }

    fn call(&self) -> io::Result<()> {
        match self.calls.fetch_add(1, Ordering::Relaxed) == self.at {
            true => Err(io::Error::from_raw_os_error(self.error)),
            false => Ok(()),
        }
    }
}

impl Storage for Failing {
    fn create(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        self.call()?;
        let storage = Self { calls: self.calls.clone(), ..*self };
        Ok(Box::new(FailingFile { file: System.create(path)?, storage }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call().and_then(|()| System.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call().and_then(|()| System.remove(path))
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.call().and_then(|()| System.sync_folder(folder))
    }

    fn lock(&self, file: &File) -> Result<(), TryLockError> {
        System.lock(file)
    }
}

impl StoredFile for FailingFile {
    /// A full disk takes a part.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.storage.call() {
            Ok(()) => self.file.append(bytes),
            Err(error) => self.file.append(&bytes[..bytes.len() / 2]).and(Err(error)),
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        self.storage.call().and_then(|()| self.file.sync())
    }

    fn file(&self) -> &File {
        self.file.file()
    }
}

/// Runs with the call `at` failing, and gives the number of calls if none was that late.
fn run(scene: &Scene, begin: Begin, at: usize, error: i32) -> Option<usize> {
    let storage = Arc::new(Failing::new(at, error));
    match scene.run(begin, Some(storage.clone())) {
        Ok(_) => {
            let calls = storage.calls.load(Ordering::Relaxed);
            assert!(calls <= at, "call {at} failed without an error");
            Some(calls)
        }
        Err(failure) => {
            let words = if error == ENOSPC { "No space left" } else { "Input/output error" };
            let message = failure.to_string();
            assert!(message.contains(words) && message.contains("/out"), "call {at}: {message}");
            scene.assert_not_half((at, error));
            None
        }
    }
}

#[test]
fn disk_full_or_io_error_at_every_call() {
    for name in ["out.jsonl", "out.jsonl.gz", "out.jsonl.zst"] {
        let scene = Scene::new(name);
        for error in [ENOSPC, EIO] {
            for at in 0.. {
                scene.clear();
                let calls = run(&scene, Begin::New, at, error);
                scene.run(Begin::Resume, None).unwrap();
                scene.assert_whole((name, at, error));
                if let Some(calls) = calls {
                    assert!(calls > 40, "{calls} calls");
                    break;
                }
            }
        }
    }
}

#[test]
fn disk_full_or_io_error_at_every_call_of_a_resume() {
    let scene = Scene::new("out.jsonl.gz");
    for (at, error) in (0..).zip([ENOSPC, EIO].into_iter().cycle()) {
        scene.interrupt(30);
        let calls = run(&scene, Begin::Resume, at, error);
        scene.run(Begin::Resume, None).unwrap();
        scene.assert_whole((at, error));
        if calls.is_some() {
            break;
        }
    }
}

#[test]
fn an_output_that_is_replaced_stays_until_the_new_one_is_whole() {
    let scene = Scene::new("out.jsonl");
    for at in 0.. {
        scene.clear();
        fs::write(&scene.output, "old").unwrap();
        fs::write(toedit::data::rejects_path(&scene.output), "old").unwrap();
        let storage = Arc::new(Failing::new(at, EIO));
        let done = scene.run(Begin::Overwrite, Some(storage)).is_ok();
        let found = fs::read(&scene.output).unwrap();
        assert!(found == b"old" || found == scene.expected[0], "call {at}");
        // Where nothing of the new one was durable yet, there is nothing to go on with.
        let again = scene.run(Begin::Resume, None);
        if again.is_err() {
            assert_eq!(found, b"old");
            scene.run(Begin::Overwrite, None).unwrap();
        }
        scene.assert_whole(at);
        if done {
            break;
        }
    }
}

#[test]
fn at_most_one_frame_is_done_again() {
    let scene = Scene::new("out.jsonl.gz");
    for at in (4..60).step_by(3) {
        scene.interrupt(at);
        let lines = fs::read_to_string(scene.working("journal")).unwrap();
        let mut durable =
            lines.split_inclusive('\n').filter(|line| line.ends_with("}\n")).filter_map(|line| {
                let json: serde_json::Value = serde_json::from_str(line.split_once(' ')?.1).ok()?;
                let records = json.get("frame")?.get("records")?.clone();
                Some(records["written"].as_u64()? + records["set_aside"].as_u64()?)
            });
        let durable = durable.next_back().unwrap_or(0);
        let written = scene.run(Begin::Resume, None).unwrap();
        assert_eq!(written.resumed, durable, "call {at}");
        assert_eq!((written.counts, written.records), (scene.written.counts, scene.written.records));
    }
}
