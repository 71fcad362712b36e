//! What earlier processes left of an output, and going on from there.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use super::digest::Digest;
use super::journal::{Begin, Commit, Extent, JournalReader, Line};
use super::manifest::Manifest;
use super::names::{Kind, Lock, rejects_path, working_files, working_path};
use super::partial::{Partial, Site};
use super::settings::{Settings, difference, relevant};
use crate::{Error, Result};

/// How an output stands that is to be gone on with.
#[derive(Debug)]
pub(super) enum Found {
    /// It is not begun.
    Nothing,
    /// It is complete.
    Complete(Box<Manifest>),
    /// It is begun: the good part of it is in a file of this process now.
    Unfinished(Box<Partial>),
}

/// What another process, now dead, wrote down.
struct Left {
    token: String,
    begin: Begin,
    /// Frames whose bytes can still be there.
    frames: u64,
    last: Option<Commit>,
    end: Option<Box<Manifest>>,
}

impl Left {
    /// Reads a journal; none where it is not valid from the beginning, or gone.
    fn read(output: &Path, token: &str) -> Result<Option<Self>> {
        let path = working_path(output, token, Kind::Journal);
        let Some((begin, mut journal)) = open(&path)? else { return Ok(None) };
        let [output, rejects] = [Kind::Partial, Kind::Rejects].map(|kind| length(output, token, kind));
        let mut left = Self { token: token.to_owned(), begin, frames: 0, last: None, end: None };
        while let Some(line) = journal.next_line().map_err(|e| Error::io(&path, e))? {
            match line {
                Line::Frame(commit) => {
                    left.frames += u64::from(commit.output.end <= output && commit.rejects.end <= rejects);
                    left.last = Some(commit);
                }
                Line::End(manifest) => left.end = Some(manifest),
                Line::Begin(_) => break,
            }
        }
        Ok(Some(left))
    }

    /// All journals that lie beside an output.
    fn all(output: &Path) -> Result<Vec<Self>> {
        let files = working_files(output).map_err(|e| Error::io(output, e))?;
        let journals = files.iter().filter(|(_, kind)| *kind == Kind::Journal);
        let read = journals.map(|(token, _)| Self::read(output, token));
        read.filter_map(Result::transpose).collect()
    }

    /// Whether all that the end says is there, under the files' own names or the final ones.
    fn is_complete(&self, site: &Site) -> Option<&Manifest> {
        let end = self.end.as_deref()?;
        let is_there = |digest: &Option<Digest>, kinds: &[Kind], name: &Path| {
            let Some(digest) = digest else { return true };
            let working = kinds.iter().map(|kind| working_path(&site.output, &self.token, *kind));
            working.chain([name.to_owned()]).any(|path| Digest::of(&path).is_ok_and(|found| found == *digest))
        };
        let whole = is_there(&end.output, &[Kind::Assembled, Kind::Partial], &site.output)
            && is_there(&end.rejects, &[Kind::Rejects], &rejects_path(&site.output));
        whole.then_some(end)
    }
}

/// Looks for what there is of an output, and takes it over.
///
/// # Errors
/// It was made or begun with other settings, which are named; [`Error::Busy`] where another process is making it; it is
/// there, but nothing says what it is; the system's.
pub(super) fn find(site: &Site, settings: &Settings) -> Result<Found> {
    look(site, settings).or_else(|error| match complete(site, settings, false) {
        // Another process, which no lock told of, has finished it meanwhile.
        Ok(Some(manifest)) => Ok(Found::Complete(Box::new(manifest))),
        _ => Err(error),
    })
}

fn look(site: &Site, settings: &Settings) -> Result<Found> {
    let output = &site.output;
    let files = match working_files(output) {
        // Its folder is not made yet.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
        files => files.map_err(|e| Error::io(output, e))?,
    };
    // A lock's file that a killed process left goes with the lock.
    let is_untouched = files.is_empty() && !Lock::is_there(output);
    let lock = if is_untouched { None } else { Some(Lock::take(&*site.storage, output)?) };
    let (mut left, others): (Vec<_>, Vec<_>) = Left::all(output)?
        .into_iter()
        .partition(|left| relevant(&left.begin.settings, settings) == *settings);
    if let Some((whole, manifest)) = left.iter().find_map(|left| Some((left, left.is_complete(site)?))) {
        let site = Site { overwrite: whole.begin.overwrite, ..site.clone() };
        site.publish(manifest, &whole.token, [None, None])?;
        return Ok(Found::Complete(Box::new(manifest.clone())));
    }
    left.sort_by_key(|left| left.frames);
    let best = left.pop();
    let replaces = best.as_ref().is_some_and(|best| best.begin.overwrite);
    if let Some(manifest) = complete(site, settings, replaces)? {
        if lock.is_some() {
            site.clean()?;
        }
        return Ok(Found::Complete(Box::new(manifest)));
    }
    match (best, lock, others.last()) {
        (Some(best), Some(lock), _) => {
            let partial = adopt(site, lock, settings, &best)?;
            left.push(best);
            forget(site, &left)?;
            Ok(Found::Unfinished(Box::new(partial)))
        }
        (None, _, Some(other)) => Err(differs(output, "unfinished", &other.begin.settings, settings)),
        _ => Ok(Found::Nothing),
    }
}

/// The manifest of a finished output of the same settings; none where there is none, or where what is there `is_replaced`.
fn complete(site: &Site, settings: &Settings, is_replaced: bool) -> Result<Option<Manifest>> {
    let output = &site.output;
    let found = match fs::metadata(output) {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        metadata => Some(metadata.map_err(|e| Error::io(output, e))?.len()),
    };
    let manifest = match Manifest::of(output) {
        Err(_) if is_replaced => None,
        manifest => manifest?,
    };
    let size = manifest.as_ref().map(|manifest| manifest.output.as_ref().map(|output| output.bytes));
    match (manifest, size) {
        (Some(manifest), Some(bytes)) if bytes == found => {
            if relevant(&manifest.settings, settings) == *settings {
                manifest.check_inputs(output)?;
                return Ok(Some(manifest));
            }
            if is_replaced {
                Ok(None)
            } else {
                Err(differs(output, "finished", &manifest.settings, settings))
            }
        }
        _ if found.is_none() || is_replaced => Ok(None),
        (Some(_), _) => {
            Err(Error::file(output, "is not of the size that its manifest says: --overwrite replaces it"))
        }
        (None, _) => Err(Error::file(
            output,
            "exists and has no manifest: nothing to resume (--overwrite replaces it)",
        )),
    }
}

fn differs(output: &Path, what: &str, then: &Settings, now: &Settings) -> Error {
    let difference = difference(&relevant(then, now), now).unwrap_or_default();
    let reason = format!(
        "the {what} output cannot be resumed: {difference}; go on with the same settings, or use --overwrite"
    );
    Error::file(output, reason)
}

/// Copies the good frames of what was left into a file of this process.
fn adopt(site: &Site, lock: Lock, settings: &Settings, left: &Left) -> Result<Partial> {
    let site = Site { overwrite: left.begin.overwrite, ..site.clone() };
    let path = working_path(&site.output, &left.token, Kind::Journal);
    let mut partial = Partial::create(site.clone(), lock, settings.clone())?;
    if let Some((_, mut journal)) = open(&path)? {
        let mut output = Frames::open(&working_path(&site.output, &left.token, Kind::Partial));
        let mut rejects = Frames::open(&working_path(&site.output, &left.token, Kind::Rejects));
        while let Some(Line::Frame(commit)) = journal.next_line().map_err(|e| Error::io(&path, e))? {
            let frames = (output.next(commit.output), rejects.next(commit.rejects));
            let (Some(output), Some(rejects)) = frames else { break };
            partial.adopt(commit, &output, &rejects)?;
        }
    }
    partial.settle()?;
    Ok(partial)
}

/// Opens a journal; none where it is not valid, or gone.
fn open(path: &Path) -> Result<Option<(Begin, JournalReader)>> {
    match JournalReader::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        opened => opened.map_err(|e| Error::io(path, e)),
    }
}

/// Bytes of a file that a dead process wrote; none where it is gone.
fn length(output: &Path, token: &str, kind: Kind) -> u64 {
    fs::metadata(working_path(output, token, kind)).map_or(0, |metadata| metadata.len())
}

/// Removes what was adopted, and what came less far.
fn forget(site: &Site, left: &[Left]) -> Result<()> {
    let files = left.iter().flat_map(|left| Kind::ALL.map(|kind| (left.token.clone(), kind)));
    site.remove(files.collect())
}

/// Makes room for an output that is begun afresh: what was left without a frame goes, and of anything else the user should
/// know.
pub(super) fn tidy(site: &Site) -> Result<()> {
    for left in Left::all(&site.output)? {
        if left.last.is_none() || site.overwrite {
            forget(site, &[left])?;
        } else {
            let output = site.output.display();
            tracing::warn!(
                "{output}: an earlier run left a part of it, which --resume would have gone on with"
            );
        }
    }
    Ok(())
}

/// The frames of a file that a dead process wrote.
struct Frames {
    file: Option<File>,
    end: u64,
}

impl Frames {
    /// A file that is missing has none.
    fn open(path: &Path) -> Self {
        Self { file: File::open(path).ok(), end: 0 }
    }

    /// The next frame; none where it is not what it was when it was committed.
    fn next(&mut self, extent: Extent) -> Option<Vec<u8>> {
        let length = extent.end.checked_sub(self.end)?;
        self.end = extent.end;
        if length == 0 {
            return Some(Vec::new());
        }
        let bytes = read_up_to(self.file.as_mut()?, length).ok()?;
        (bytes.len() as u64 == length && xxh3_64(&bytes) == extent.hash).then_some(bytes)
    }
}

/// As many bytes as there are: memory grows with what is read, not with what was asked for.
fn read_up_to(file: &mut File, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}
