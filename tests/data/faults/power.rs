//! Power loss: of what was not made durable, any part may be missing afterwards.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use toedit::data::storage::{Storage, StoredFile, System};
use toedit::data::{Begin, Digest, Manifest};
use toedit::random::philox4x32;

use super::{Scene, failing::Failing};

/// A call, in the order of calls. A file is known by its number whatever its name.
#[derive(Clone, Debug)]
enum Call {
    Create(usize, PathBuf),
    Append(usize, Vec<u8>),
    Sync(usize),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    SyncFolder,
}

/// The system, whose calls are written down.
#[derive(Clone, Debug, Default)]
struct Recording {
    calls: Arc<Mutex<Vec<Call>>>,
}

#[derive(Debug)]
struct RecordingFile {
    number: usize,
    file: Box<dyn StoredFile>,
    recording: Recording,
}

impl Recording {
    fn push(&self, call: Call) {
        self.calls.lock().unwrap().push(call);
    }
}

impl Storage for Recording {
    fn create(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        let file = System.create(path)?;
        let number = self.calls.lock().unwrap().len();
        self.push(Call::Create(number, path.to_owned()));
        Ok(Box::new(RecordingFile { number, file, recording: self.clone() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.push(Call::Rename(from.to_owned(), to.to_owned()));
        System.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.push(Call::Remove(path.to_owned()));
        System.remove(path)
    }

    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        self.push(Call::SyncFolder);
        Ok(())
    }

    fn lock(&self, file: &File) -> Result<(), TryLockError> {
        System.lock(file)
    }
}

impl StoredFile for RecordingFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.recording.push(Call::Append(self.number, bytes.to_owned()));
        self.file.append(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.recording.push(Call::Sync(self.number));
        Ok(())
    }

    fn file(&self) -> &File {
        self.file.file()
    }
}

/// Numbers that are the same in every run.
struct Numbers(u32);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 += 1;
        philox4x32([self.0, 0, 0, 0], [7, 7])[0] as usize % limit
    }
}

/// A file as far as it was written, and how much of that is durable.
#[derive(Default)]
struct Content {
    bytes: Vec<u8>,
    durable: usize,
}

impl Content {
    /// What may be left of it: of the part that is not durable any length, of which a part may be zeros or of an older
    /// file.
    fn after_power_loss(&self, numbers: &mut Numbers) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes.truncate(self.durable + numbers.below(bytes.len() - self.durable + 1));
        if bytes.len() > self.durable && numbers.below(2) == 0 {
            let start = self.durable + numbers.below(bytes.len() - self.durable);
            let fill = [0, b'{', 0xff][numbers.below(3)];
            bytes[start..].fill(fill);
        }
        bytes
    }
}

/// What stands in the folder after the first calls, if the power goes then.
fn after_power_loss(calls: &[Call], before: &[PathBuf], numbers: &mut Numbers) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut contents: BTreeMap<usize, Content> = BTreeMap::new();
    let (mut names, mut pending) = (BTreeMap::new(), Vec::new());
    // What was there before is durable.
    for (index, path) in before.iter().enumerate() {
        let bytes = fs::read(path).unwrap();
        contents.insert(usize::MAX - index, Content { durable: bytes.len(), bytes });
        names.insert(path.clone(), usize::MAX - index);
    }
    for call in calls {
        match call {
            Call::Append(file, bytes) => contents.entry(*file).or_default().bytes.extend(bytes),
            Call::Sync(file) => {
                let content = contents.entry(*file).or_default();
                content.durable = content.bytes.len();
            }
            Call::SyncFolder => pending.drain(..).for_each(|call| apply(&mut names, call)),
            names => pending.push(names),
        }
    }
    // The names that are not durable come in any part, in their order.
    for call in pending {
        if numbers.below(2) == 0 {
            apply(&mut names, call);
        }
    }
    let content =
        |file| contents.get(&file).map(|content| content.after_power_loss(numbers)).unwrap_or_default();
    let mut content = content;
    names.into_iter().map(|(path, file)| (path, content(file))).collect()
}

fn apply(names: &mut BTreeMap<PathBuf, usize>, call: &Call) {
    match call {
        Call::Create(file, path) => drop(names.insert(path.clone(), *file)),
        Call::Remove(path) => drop(names.remove(path)),
        Call::Rename(from, to) => {
            if let Some(file) = names.remove(from) {
                names.insert(to.clone(), file);
            }
        }
        Call::Append(..) | Call::Sync(_) | Call::SyncFolder => {}
    }
}

/// Syncs nothing: only for what is read again by this process.
#[derive(Debug)]
struct Quick;

#[derive(Debug)]
struct QuickFile(Box<dyn StoredFile>);

impl Storage for Quick {
    fn create(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        Ok(Box::new(QuickFile(System.create(path)?)))
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

    fn lock(&self, file: &File) -> Result<(), TryLockError> {
        System.lock(file)
    }
}

impl StoredFile for QuickFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.append(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn file(&self) -> &File {
        self.0.file()
    }
}

/// States that are tried: `TOEDIT_POWER_STATES`, or enough for every change.
fn states() -> usize {
    std::env::var("TOEDIT_POWER_STATES").ok().and_then(|count| count.parse().ok()).unwrap_or(500)
}

/// Loses power at every call of a run in turn, in ever other ways, and goes on each time.
fn lose_power(scene: &Scene, begin: Begin, prepare: impl Fn(), states: usize, numbers: &mut Numbers) {
    prepare();
    let before: Vec<_> = scene.names().iter().map(|name| scene.output.with_file_name(name)).collect();
    let kept: BTreeMap<_, _> = before.iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    let recording = Recording::default();
    scene.run(begin, Some(Arc::new(recording.clone()))).unwrap();
    scene.assert_whole("without a loss");
    let calls = recording.calls.lock().unwrap().clone();
    for state in 0..states {
        scene.clear();
        kept.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
        let at = state % (calls.len() + 1);
        let left = after_power_loss(&calls[..at], &before, numbers);
        scene.clear();
        left.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
        let context = (begin, state, calls.get(at), scene.names());
        let is_old = fs::read(&scene.output).is_ok_and(|found| found == b"old");
        if !is_old {
            scene.assert_not_half(&context);
            if Manifest::of(&scene.output).is_ok_and(|manifest| manifest.is_some()) {
                let digest = Digest::of(&scene.output).unwrap();
                let manifest = Manifest::verify(&scene.output).unwrap();
                assert_eq!(manifest.output, Some(digest), "{context:?}");
            }
        }
        let resumed = scene.run(Begin::Resume, Some(Arc::new(Quick)));
        if let Err(error) = resumed {
            // Nothing of a new output is durable that would say that it is to replace the old one.
            assert!(is_old, "{context:?}: {error}");
            scene.run(Begin::Overwrite, Some(Arc::new(Quick))).unwrap();
        }
        scene.assert_whole(&context);
    }
}

#[test]
fn power_loss_at_any_call() {
    let states = states();
    let mut numbers = Numbers(0);
    let scene = Scene::new("out.jsonl.gz");
    lose_power(&scene, Begin::New, || scene.clear(), states * 2 / 5, &mut numbers);
    let interrupted = || {
        scene.clear();
        scene.run(Begin::New, Some(Arc::new(Failing::new(40, 5)))).unwrap_err();
    };
    lose_power(&scene, Begin::Resume, interrupted, states * 2 / 5, &mut numbers);
    let old = || {
        scene.clear();
        fs::write(&scene.output, "old").unwrap();
        fs::write(toedit::data::rejects_path(&scene.output), "old").unwrap();
    };
    lose_power(&scene, Begin::Overwrite, old, states / 5, &mut numbers);
}
