//! One output of documents from several inputs, carried over as they are.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::Value;
use xxhash_rust::xxh3::Xxh3;

use super::digest::{Digest, InputDigests};
use super::document::Document;
use super::format::Format;
use super::manifest::{InputRecord, Made, Manifest, RecordCounts};
use super::names::{manifest_path, rejects_path};
use super::patch::Patch;
use super::reader::{Documents, ReadOptions, ReadPlan};
use super::settings::Settings;
use super::sink::{Sink, check_free};
use super::source::{Inputs, is_dash};
use crate::{Error, Result};

/// A JSON lines file of chosen documents, each as it was, and in the end a manifest beside it. Where documents of many inputs
/// go into one file, and most of them do not, there is nothing to go on with after a stop: the file is made in one go.
pub struct Carried {
    path: PathBuf,
    sink: Sink,
    hash: Xxh3,
    documents: u64,
    sources: Vec<(Inputs, InputDigests)>,
    start: Instant,
}

impl Carried {
    /// Begins the file.
    ///
    /// # Errors
    /// As [`Sink::create`]; a manifest or reject file is in the way and `overwrite` is false.
    pub fn create(path: &Path, overwrite: bool) -> Result<Self> {
        if !is_dash(path) {
            check_free(&manifest_path(path), overwrite)?;
            check_free(&rejects_path(path), overwrite)?;
        }
        let sink = Sink::create(path, overwrite)?;
        let (path, sources, start) = (path.to_owned(), Vec::new(), Instant::now());
        Ok(Self { path, sink, hash: Xxh3::new(), documents: 0, sources, start })
    }

    /// The documents of an input, which the manifest will name.
    ///
    /// # Errors
    /// As [`Inputs::documents`].
    pub fn documents(&mut self, inputs: &Inputs, options: ReadOptions) -> Result<Documents> {
        let plan = ReadPlan::default();
        self.sources.push((inputs.clone(), plan.digests.clone()));
        Ok(inputs.documents(options)?.with_plan(plan))
    }

    /// Writes a document as it was.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&mut self, document: &Document) -> Result<()> {
        let mut line = document.render(&Patch::default(), Format::JsonLines)?;
        line.push(b'\n');
        self.hash.update(&line);
        self.documents += 1;
        self.sink.write(&line)
    }

    /// Documents written so far.
    pub fn written(&self) -> u64 {
        self.documents
    }

    /// Completes the file, writes its manifest with the settings that its bytes depend on and the command's own counts, and
    /// gives the XXH3-64 of its lines. Standard output has no manifest.
    ///
    /// # Errors
    /// As [`Sink::finish`].
    pub fn finish(self, settings: Settings, counts: Value) -> Result<String> {
        let hash = format!("{:016x}", self.hash.digest());
        let Self { path, sink, documents, sources, start, .. } = self;
        if is_dash(&path) {
            return sink.finish().map(|()| hash);
        }
        // An output never stands beside the manifest of another.
        [manifest_path(&path), rejects_path(&path)].iter().try_for_each(|old| remove(old))?;
        sink.finish()?;
        let output = Digest::of(&path).map_err(|error| Error::io(&path, error))?;
        let inputs = sources.iter().flat_map(|(inputs, digests)| records(inputs, digests)).collect();
        let made = Made { settings, inputs, frames: 1, seconds: start.elapsed().as_secs_f64() };
        let written = RecordCounts { written: documents, ..RecordCounts::default() };
        let manifest = Manifest::new([Some(output), None], written, counts, made);
        let mut sink = Sink::create(&manifest_path(&path), true)?;
        sink.write(&manifest.to_bytes())?;
        sink.finish().map(|()| hash)
    }
}

/// What a manifest says of inputs that were read.
fn records(inputs: &Inputs, digests: &InputDigests) -> impl Iterator<Item = InputRecord> {
    inputs.files().iter().enumerate().map(|(file, input)| {
        let read = digests.get(file);
        let path = input.path.to_path_buf();
        InputRecord { path, digest: read.digest, part: None, modified: read.modified, records: read.records }
    })
}

/// Removes a file; one that is not there is fine.
fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io(path, error)),
        _ => Ok(()),
    }
}
