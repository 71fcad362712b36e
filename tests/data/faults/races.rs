//! Two writers of one output.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::sync::{Arc, Barrier};
use std::thread;

use toedit::Error;
use toedit::data::storage::{Storage, StoredFile, System};
use toedit::data::{Begin, Manifest};

use super::Scene;

/// A network file system that takes every lock and keeps none.
#[derive(Debug)]
struct Lockless;

impl Storage for Lockless {
    fn create(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        System.create(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        System.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        System.remove(path)
    }

    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, _: &File) -> Result<(), TryLockError> {
        Ok(())
    }
}

/// Runs two writers at the same time and gives what became of each.
fn race(scene: &Scene, begins: [Begin; 2], storage: &Arc<dyn Storage>) -> [toedit::Result<()>; 2] {
    let start = Barrier::new(2);
    let run = |begin| {
        start.wait();
        scene.run(begin, Some(storage.clone())).map(drop)
    };
    thread::scope(|scope| begins.map(|begin| scope.spawn(move || run(begin))).map(|run| run.join().unwrap()))
}

/// Asserts that one writer finished, and the other too unless it began when the first was finishing; gives whether both
/// did.
#[track_caller]
fn assert_some(outcomes: [toedit::Result<()>; 2], case: usize) -> bool {
    let failed: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    let is_late = |error: &&Error| error.to_string().contains("exists already");
    assert!(failed.len() < 2 && failed.iter().all(is_late), "{case}: {failed:?}");
    failed.is_empty()
}

#[test]
fn two_writers_without_locks_end_with_the_same_bytes() {
    let scene = Scene::new("out.jsonl.gz");
    let storage: Arc<dyn Storage> = Arc::new(Lockless);
    let mut both = 0;
    for case in 0..50 {
        scene.clear();
        both += usize::from(assert_some(race(&scene, [Begin::New, Begin::New], &storage), case));
        assert_eq!(Manifest::verify(&scene.output).unwrap().records, scene.written.records, "{case}");
        scene.assert_not_half(case);
    }
    assert!(both > 25, "both wrote at once {both} times of 50");
}

/// The second takes the first one's frames, then its files, which the first is still writing.
#[test]
fn a_writer_whose_files_are_taken_over_finishes_all_the_same() {
    let scene = Scene::new("out.jsonl");
    let storage: Arc<dyn Storage> = Arc::new(Lockless);
    for case in 0..50 {
        scene.clear();
        let outcomes = race(&scene, [Begin::Resume, Begin::Resume], &storage);
        assert_some(outcomes, case);
        scene.assert_not_half(case);
        Manifest::verify(&scene.output).unwrap();
    }
}

#[test]
fn a_lock_keeps_the_second_writer_out() {
    let scene = Scene::new("out.jsonl");
    let storage: Arc<dyn Storage> = Arc::new(System);
    for case in 0..50 {
        scene.clear();
        let outcomes = race(&scene, [Begin::New, Begin::Resume], &storage);
        for error in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
            let is_late = error.to_string().contains("exists already");
            assert!(matches!(error, Error::Busy { .. }) || is_late, "{case}: {error}");
        }
        assert!(outcomes.iter().any(Result::is_ok), "{case}");
        scene.assert_whole(case);
    }
}
