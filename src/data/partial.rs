//! An output in the making: frames made durable one by one, what of them is valid written down, and the name given at the
//! end.
//!
//! A process writes files of its own, `.NAME.TOKEN.partial` and so on. So nothing depends on locks: of two processes that
//! make one output, each completes its own file, with the same bytes.

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use super::digest::{Digest, Hasher};
use super::journal::{Begin, Commit, Extent, JournalWriter, Line};
use super::manifest::{InputRecord, Made, Manifest, RecordCounts};
use super::names::{Kind, Lock, new_token, parent, remove, working_files, working_path};
use super::names::{manifest_path, rejects_path};
use super::refused::Mark;
use super::settings::Settings;
use super::sink::check_free;
use super::storage::{Storage, StoredFile};
use crate::{Error, Result};

/// Bytes that are copied at a time.
const COPY: usize = 1 << 20;

/// Where an output is made.
#[derive(Clone, Debug)]
pub(super) struct Site {
    pub storage: Arc<dyn Storage>,
    pub output: PathBuf,
    /// Whose files these are.
    pub token: String,
    /// Whether what has the output's name may be replaced.
    pub overwrite: bool,
}

/// An output in the making.
#[derive(Debug)]
pub(super) struct Partial {
    site: Site,
    settings: Settings,
    output: Part,
    /// What is made of its frames, where they are not the output themselves.
    assembled: Option<Part>,
    /// None before anything is set aside.
    rejects: Option<Part>,
    journal: JournalWriter,
    /// Where each frame ends.
    ends: Vec<u64>,
    /// The last frame; none before the first.
    last: Option<Commit>,
    /// When this process began, and what earlier ones took.
    started: (Instant, f64),
    _lock: Lock,
}

/// One of its files.
#[derive(Debug)]
struct Part {
    path: PathBuf,
    file: Box<dyn StoredFile>,
    hasher: Hasher,
}

/// What goes into the next frame.
pub(super) struct Frame {
    pub bytes: Vec<u8>,
    pub rejects: Vec<u8>,
    pub mark: Mark,
    /// Of the whole output so far.
    pub records: RecordCounts,
    /// The same of the command's own counts.
    pub counts: Value,
}

impl Partial {
    /// Begins an output, with the files of this process durable and empty.
    ///
    /// # Errors
    /// The name is taken; the system's.
    pub fn begin(site: Site, lock: Lock, settings: Settings) -> Result<Self> {
        let mut partial = Self::create(site, lock, settings)?;
        partial.settle()?;
        Ok(partial)
    }

    /// Begins an output whose files are not durable yet: [`Partial::settle`].
    pub(super) fn create(site: Site, lock: Lock, settings: Settings) -> Result<Self> {
        check_free(&site.output, site.overwrite)?;
        check_free(&rejects_path(&site.output), site.overwrite)?;
        let output = Part::create(&site, Kind::Partial)?;
        let path = site.path(Kind::Journal);
        let file = site.storage.create(&path).map_err(|e| Error::io(&path, e))?;
        let mut journal = JournalWriter::new(file);
        let begin = Line::Begin(Begin::new(settings.clone(), site.overwrite));
        journal.append(&begin).map_err(|e| Error::io(&path, e))?;
        let started = (Instant::now(), 0.0);
        let (assembled, rejects, ends, last) = (None, None, Vec::new(), None);
        Ok(Self { site, settings, output, assembled, rejects, journal, ends, last, started, _lock: lock })
    }

    /// Makes all that was written durable, the journal last.
    pub(super) fn settle(&mut self) -> Result<()> {
        self.output.sync()?;
        if let Some(rejects) = &mut self.rejects {
            rejects.sync()?;
        }
        self.journal.sync().map_err(|e| self.site.error(Kind::Journal, e))?;
        self.site.sync_folder()
    }

    /// The last frame; none before the first.
    pub fn last(&self) -> Option<&Commit> {
        self.last.as_ref()
    }

    /// Where the output appears.
    pub fn output(&self) -> &Path {
        &self.site.output
    }

    /// Whether the output has no byte yet.
    pub fn is_empty(&self) -> bool {
        self.output.hasher.bytes() == 0
    }

    /// What making it has taken so far, in seconds.
    fn seconds(&self) -> f64 {
        self.started.1 + self.started.0.elapsed().as_secs_f64()
    }

    /// Appends a frame; on return it is durable, and a later process goes on behind it.
    ///
    /// # Errors
    /// The system's. All frames before it stay valid.
    pub fn commit(&mut self, frame: Frame) -> Result<()> {
        let Frame { bytes, rejects, mark, records, counts } = frame;
        let output = self.output.append(&bytes)?;
        self.output.sync()?;
        let (had_rejects, has_more) = (self.rejects.is_some(), !rejects.is_empty());
        let rejects = self.append_rejects(&rejects)?;
        if let Some(part) = self.rejects.as_mut().filter(|_| has_more) {
            part.sync()?;
        }
        if has_more && !had_rejects {
            self.site.sync_folder()?;
        }
        let commit = Commit { output, rejects, mark, records, counts, seconds: self.seconds() };
        self.record(commit)?;
        self.journal.sync().map_err(|e| self.site.error(Kind::Journal, e))
    }

    /// Appends a frame that an earlier process made: what it added to the output and to the reject file. It is durable
    /// after [`Partial::settle`].
    pub(super) fn adopt(&mut self, commit: Commit, bytes: &[u8], rejects: &[u8]) -> Result<()> {
        self.output.append(bytes)?;
        self.append_rejects(rejects)?;
        self.started.1 = commit.seconds;
        self.record(commit)
    }

    fn append_rejects(&mut self, bytes: &[u8]) -> Result<Extent> {
        if bytes.is_empty() {
            let end = self.rejects.as_ref().map_or(0, |rejects| rejects.hasher.bytes());
            return Ok(Extent { end, hash: 0 });
        }
        let part = match &mut self.rejects {
            Some(part) => part,
            None => self.rejects.insert(Part::create(&self.site, Kind::Rejects)?),
        };
        part.append(bytes)
    }

    fn record(&mut self, commit: Commit) -> Result<()> {
        let line = Line::Frame(commit.clone());
        self.journal.append(&line).map_err(|e| self.site.error(Kind::Journal, e))?;
        self.ends.push(commit.output.end);
        self.last = Some(commit);
        Ok(())
    }

    /// Makes the output of its frames: `write` gets their file and where each ends.
    ///
    /// # Errors
    /// Those of `write`; the system's.
    pub fn assemble(
        &mut self,
        write: impl FnOnce(&File, &[u64], &mut (dyn Write + Send)) -> Result<()>,
    ) -> Result<()> {
        let mut part = Part::create(&self.site, Kind::Assembled)?;
        let mut buffer = BufWriter::with_capacity(COPY, &mut part);
        write(self.output.file.file(), &self.ends, &mut buffer)?;
        let flushed = buffer.flush();
        drop(buffer);
        flushed.map_err(|e| Error::io(&part.path, e))?;
        part.sync()?;
        self.assembled = Some(part);
        self.site.sync_folder()
    }

    /// Gives the output its name, and writes its manifest; `has_output` is false where there is to be a reject file alone.
    ///
    /// # Errors
    /// The system's; another output has taken the name.
    pub fn finish(mut self, inputs: Vec<InputRecord>, has_output: bool) -> Result<Manifest> {
        let last = self.last.take().unwrap_or_default();
        let whole = self.assembled.as_ref().unwrap_or(&self.output);
        let output = has_output.then(|| whole.hasher.digest());
        let rejects = self.rejects.as_ref().map(|part| part.hasher.digest());
        let (frames, seconds) = (self.ends.len() as u64, self.seconds());
        let made = Made { settings: self.settings, inputs, frames, seconds };
        let manifest = Manifest::new([output, rejects], last.records, last.counts, made);
        let site = &self.site;
        let end = Line::End(Box::new(manifest.clone()));
        let ended = self.journal.append(&end).and_then(|()| self.journal.sync());
        ended.map_err(|e| site.error(Kind::Journal, e))?;
        let files = [Some(whole.file.file()), self.rejects.as_ref().map(|part| part.file.file())];
        site.publish(&manifest, &site.token, files)?;
        Ok(manifest)
    }
}

impl Part {
    fn create(site: &Site, kind: Kind) -> Result<Self> {
        let path = site.path(kind);
        let file = site.storage.create(&path).map_err(|e| Error::io(&path, e))?;
        Ok(Self { path, file, hasher: Hasher::default() })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<Extent> {
        self.file.append(bytes).map_err(|e| Error::io(&self.path, e))?;
        self.hasher.update(bytes);
        Ok(Extent { end: self.hasher.bytes(), hash: xxh3_64(bytes) })
    }

    fn sync(&mut self) -> Result<()> {
        self.file.sync().map_err(|e| Error::io(&self.path, e))
    }
}

impl Write for Part {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.append(bytes)?;
        self.hasher.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Site {
    pub fn new(storage: Arc<dyn Storage>, output: &Path, overwrite: bool) -> Self {
        Self { storage, output: output.to_owned(), token: new_token(), overwrite }
    }

    pub fn path(&self, kind: Kind) -> PathBuf {
        working_path(&self.output, &self.token, kind)
    }

    fn error(&self, kind: Kind, error: io::Error) -> Error {
        Error::io(self.path(kind), error)
    }

    fn sync_folder(&self) -> Result<()> {
        let folder = parent(&self.output);
        self.storage.sync_folder(folder).map_err(|e| Error::io(folder, e))
    }

    /// Gives complete and durable files their names, then writes the manifest, then removes what is no longer needed.
    /// The files are those of the process `token`; `files` the same, output and reject file, where they are open.
    ///
    /// # Errors
    /// The system's; a name is taken by something else.
    pub fn publish(&self, manifest: &Manifest, token: &str, files: [Option<&File>; 2]) -> Result<()> {
        let old = manifest_path(&self.output);
        if self.overwrite && old.exists() {
            // An output never stands beside the manifest of another.
            remove(&*self.storage, &old)?;
            self.sync_folder()?;
        }
        let from = |kind| working_path(&self.output, token, kind);
        let [output, rejects] = files;
        let place = [from(Kind::Rejects), rejects_path(&self.output)];
        self.give_name(place, manifest.rejects.as_ref(), rejects)?;
        let assembled = from(Kind::Assembled);
        let output_file = if assembled.exists() { assembled } else { from(Kind::Partial) };
        let place = [output_file, self.output.clone()];
        self.give_name(place, manifest.output.as_ref(), output)?;
        self.sync_folder()?;
        self.write_whole(&old, |file| file.append(&manifest.to_bytes()))?;
        self.sync_folder()?;
        self.clean()
    }

    /// Renames a file, unless that was done already: by an earlier process that was killed then, or by another one that
    /// made the same.
    fn give_name(
        &self,
        [from, path]: [PathBuf; 2],
        digest: Option<&Digest>,
        file: Option<&File>,
    ) -> Result<()> {
        let Some(digest) = digest else {
            return if self.overwrite { remove(&*self.storage, &path) } else { Ok(()) };
        };
        let is_there = || Digest::of(&path).is_ok_and(|found| found == *digest);
        if !self.overwrite && is_there() {
            return Ok(());
        }
        check_free(&path, self.overwrite)?;
        match self.storage.rename(&from, &path) {
            Err(error) if error.kind() == ErrorKind::NotFound && is_there() => Ok(()),
            // Removed by another process that took this one for dead: what was written is still here.
            Err(error) if error.kind() == ErrorKind::NotFound => match file {
                Some(file) => self.write_whole(&path, |copy| copy_file(file, digest.bytes, copy)),
                None => Err(Error::io(&path, error)),
            },
            renamed => renamed.map_err(|e| Error::io(&path, e)),
        }
    }

    /// Makes a file that has its name only once it is complete and durable.
    fn write_whole(
        &self,
        path: &Path,
        write: impl FnOnce(&mut dyn StoredFile) -> io::Result<()>,
    ) -> Result<()> {
        let whole = self.path(Kind::Whole);
        // Left by this process's own earlier attempt or by the one whose output it finishes.
        remove(&*self.storage, &whole)?;
        let mut file = self.storage.create(&whole).map_err(|e| Error::io(&whole, e))?;
        write(&mut *file).and_then(|()| file.sync()).map_err(|e| Error::io(&whole, e))?;
        match self.storage.rename(&whole, path) {
            // Another process has finished the same, and removed this with all else.
            Err(error) if error.kind() == ErrorKind::NotFound && path.exists() => Ok(()),
            renamed => renamed.map_err(|e| Error::io(path, e)),
        }
    }

    /// Removes all that was needed to make the output, of every process.
    pub fn clean(&self) -> Result<()> {
        let folder = parent(&self.output);
        self.remove(working_files(&self.output).map_err(|e| Error::io(folder, e))?)
    }

    /// Removes files of these processes, journals first: without a journal, what remains is nothing.
    pub(super) fn remove(&self, mut files: Vec<(String, Kind)>) -> Result<()> {
        files.sort_by_key(|(_, kind)| *kind != Kind::Journal);
        for (token, kind) in files {
            remove(&*self.storage, &working_path(&self.output, &token, kind))?;
        }
        Ok(())
    }
}

/// Copies the first `bytes` of a file.
fn copy_file(from: &File, bytes: u64, to: &mut dyn StoredFile) -> io::Result<()> {
    let mut buffer = vec![0; COPY];
    let mut done = 0;
    while done < bytes {
        let count = buffer.len().min(usize::try_from(bytes - done).unwrap_or(usize::MAX));
        from.read_exact_at(&mut buffer[..count], done)?;
        to.append(&buffer[..count])?;
        done += count as u64;
    }
    Ok(())
}
