//! Outputs on a file system that fails, forgets what was not made durable, or knows no locks.

mod failing;
mod flips;
mod power;
mod races;
mod settings;

use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use toedit::Result;
use toedit::data::storage::Storage;
use toedit::data::{
    Arrival, Begin, Inputs, Manifest, Member, Outputs, Patch, Payload, ReadOptions, WriteConfig, Written,
    manifest_path, rejects_path,
};

use crate::put;

/// Small, so that a small corpus has many.
const FRAME_BYTES: usize = 300;

/// A folder with a corpus, some of whose records cannot be used, and the outputs that runs on it should have.
struct Scene {
    folder: tempfile::TempDir,
    output: PathBuf,
    /// What an uninterrupted run wrote: the output and the reject file.
    expected: [Vec<u8>; 2],
    written: Written<u64>,
}

impl Scene {
    /// The output has this name; the corpus is in two files.
    fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let record = |index: usize| match index % 7 {
            3 => format!("{{\"text\":{index}}}\n"),
            _ => format!("{{\"text\":\"{}\",\"n\":{index}}}\n", "word ".repeat(index % 5 + 3)),
        };
        put(folder.path(), "in/a.jsonl", (0..30).map(record).collect::<String>());
        put(folder.path(), "in/b.jsonl", (30..50).map(record).collect::<String>());
        let output = folder.path().join("expected").join(name);
        fs::create_dir(folder.path().join("expected")).unwrap();
        let mut scene = Self { folder, output, expected: Default::default(), written: Written::default() };
        scene.written = scene.run(Begin::New, None).unwrap();
        scene.expected = [&scene.output, &rejects_path(&scene.output)].map(|path| fs::read(path).unwrap());
        assert!(Manifest::verify(&scene.output).unwrap().frames > 8, "frames to fail between");
        scene.output = scene.folder.path().join("out").join(name);
        scene.clear();
        scene
    }

    /// Begins with an empty folder.
    fn clear(&self) {
        let folder = self.output.parent().unwrap();
        let _ = fs::remove_dir_all(folder);
        fs::create_dir(folder).unwrap();
    }

    fn run(&self, begin: Begin, storage: Option<Arc<dyn Storage>>) -> Result<Written<u64>> {
        self.run_with(begin, storage, json!({}))
    }

    /// Copies the corpus, marking each record.
    fn run_with(
        &self,
        begin: Begin,
        storage: Option<Arc<dyn Storage>>,
        settings: Value,
    ) -> Result<Written<u64>> {
        let inputs = Inputs::expand(&[self.folder.path().join("in")])?;
        let outputs = Outputs::plan(&inputs, &self.output, Payload::Documents)?;
        outputs.check(begin)?;
        let mut config = WriteConfig::new(begin);
        config.frame_bytes = FRAME_BYTES;
        config.settings = settings.as_object().unwrap().clone();
        config.storage = storage.unwrap_or(config.storage);
        let mut writer = outputs.writer(config)?;
        let documents = inputs.documents(ReadOptions::default())?.with_plan(writer.read_plan());
        for record in documents.arrivals() {
            match record? {
                Arrival::Document(document) => {
                    let patch = Patch { metadata: Member::Set("{\"seen\":true}"), ..Patch::default() };
                    writer.write(&document, &patch, &1)?;
                }
                Arrival::Refused(refused) => writer.set_aside(&refused, &1)?,
            }
        }
        writer.finish()
    }

    /// The names in the output's folder, sorted.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.output.parent().unwrap()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// A hidden file of a kind; there must be one alone.
    fn working(&self, kind: &str) -> PathBuf {
        let names = self.names();
        let mut found = names.iter().filter(|name| name.starts_with('.') && name.ends_with(kind));
        let path = self.output.with_file_name(found.next().unwrap_or_else(|| panic!("{kind}: {names:?}")));
        assert!(found.next().is_none(), "{names:?}");
        path
    }

    /// Leaves an output of which some frames are durable: the call of this number fails.
    fn interrupt(&self, at: usize) {
        self.clear();
        self.run(Begin::New, Some(Arc::new(failing::Failing::new(at, 5)))).unwrap_err();
    }

    /// Asserts that the output is whole and nothing else is there.
    #[track_caller]
    fn assert_whole(&self, context: impl Debug) {
        let found = [&self.output, &rejects_path(&self.output)].map(|path| fs::read(path).unwrap());
        assert!(found == self.expected, "{context:?}: other bytes");
        let manifest = Manifest::verify(&self.output).unwrap_or_else(|e| panic!("{context:?}: {e}"));
        assert_eq!(manifest.records, self.written.records, "{context:?}");
        assert_eq!(manifest.counts, json!(self.written.counts), "{context:?}");
        let inputs = self.folder.path().join("in");
        let hashes = ["a.jsonl", "b.jsonl"].map(|name| toedit::data::Digest::of(&inputs.join(name)).unwrap());
        let read: Vec<_> = manifest.inputs.iter().map(|input| input.digest.clone().unwrap()).collect();
        assert_eq!(read, hashes, "{context:?}");
        let mut names = [self.output.clone(), manifest_path(&self.output), rejects_path(&self.output)]
            .map(|path| name(&path));
        names.sort();
        assert_eq!(self.names(), names, "{context:?}");
    }

    /// Asserts that there is no output, or a whole one.
    #[track_caller]
    fn assert_not_half(&self, context: impl Debug) {
        if let Ok(found) = fs::read(&self.output) {
            assert!(found == self.expected[0], "{context:?}: half an output");
        }
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}
