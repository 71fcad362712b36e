//! Which files are read: paths expanded, checked before anything long begins.

use std::fs::{self, File, Metadata};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use glob::{MatchOptions, glob_with};

use super::format::{Compression, Format};
use super::reader::{Documents, ReadOptions};
use super::shard::Shard;
use crate::{Error, Result};

/// One file that is read.
#[derive(Clone, Debug)]
pub struct InputFile {
    /// Where it lies; `-` is standard input.
    pub path: Arc<Path>,
    /// Its name in an output folder: relative to the input folder it was found in, or the bare file name.
    pub relative: PathBuf,
    /// Its size as it lies on disk; `None` for a stream.
    pub bytes: Option<u64>,
    /// By its name; JSON lines unless the name says `.txt` or `.parquet`. Parquet is recognised by content.
    pub format: Format,
}

/// The files of a run, in the order in which they are read; none by default.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    files: Vec<InputFile>,
    folders: Vec<PathBuf>,
}

impl Inputs {
    /// Expands `paths`, in their order. `-` is standard input. A file is read whatever its name. A name that is not there, but
    /// has `*`, `**`, `?` or `[…]`, stands for the files and folders that it matches, in order of their names. A folder
    /// stands for the `.jsonl`, `.json` and `.txt` files in it and in its subfolders, compressed or not, and the
    /// `.parquet` files, in order of their names, folders and files alike; hidden ones are skipped, links are followed, other
    /// names are passed over with a warning in the log.
    ///
    /// # Errors
    /// A path is missing, cannot be opened, or is neither a file, a folder nor a pipe; nothing matches; a folder holds no
    /// such file or links back to one above it; standard input is named twice.
    pub fn expand(paths: &[PathBuf]) -> Result<Self> {
        let mut inputs = Self { files: Vec::new(), folders: Vec::new() };
        for path in paths {
            match pattern(path) {
                Some(pattern) => inputs.add_matches(path, pattern)?,
                None => inputs.add(path)?,
            }
        }
        if inputs.files.is_empty() {
            return Err(Error::Usage("no input: name at least one file or folder, or `-`".into()));
        }
        if inputs.files.iter().filter(|file| is_dash(&file.path)).count() > 1 {
            return Err(Error::Usage("standard input `-` can be read only once".into()));
        }
        Ok(inputs)
    }

    /// The files.
    pub fn files(&self) -> &[InputFile] {
        &self.files
    }

    /// Bytes of all files as they lie on disk; `None` if one of them is a stream.
    pub fn total_bytes(&self) -> Option<u64> {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Each file's place, size, time of change and format, by which they are known again; `None` where one is a stream,
    /// which is never the same again.
    pub(crate) fn identity(&self) -> Option<String> {
        let identity = |file: &InputFile| {
            let bytes = file.bytes?;
            let path = file.path.canonicalize().ok()?;
            let modified = fs::metadata(&path).ok()?.modified().ok()?;
            let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
            Some(format!("{:?}", (path, bytes, since, file.format)))
        };
        self.files.iter().map(identity).collect()
    }

    /// About as many bytes as a shard reads, going by the files' names.
    fn bytes_of(&self, shard: Option<Shard>) -> Option<u64> {
        let Some(shard) = shard else { return self.total_bytes() };
        let of = |(number, file): (usize, &InputFile)| {
            let bytes = file.bytes?;
            Some(match (file.format, Compression::from_name(&file.path)) {
                (Format::Text, _) if shard.owns(number as u64) => bytes,
                (Format::Text, _) => 0,
                (Format::JsonLines, Compression::Gzip) => bytes,
                (Format::JsonLines | Format::Parquet, _) => bytes / u64::from(shard.count()),
            })
        };
        self.files.iter().enumerate().map(of).sum()
    }

    /// The documents of all files, in order; with a shard in `options` those that belong to it.
    ///
    /// # Errors
    /// [`Error::Usage`] if the text field is one that has a meaning of its own.
    pub fn documents(&self, options: ReadOptions) -> Result<Documents> {
        let progress = Progress::of(self, options.shard);
        Documents::new(self.files.clone(), options, progress)
    }

    /// The folders among the paths that were given.
    pub(super) fn folders(&self) -> &[PathBuf] {
        &self.folders
    }

    fn add_matches(&mut self, path: &Path, pattern: &str) -> Result<()> {
        let options = MatchOptions { require_literal_leading_dot: true, ..MatchOptions::new() };
        let matches = glob_with(pattern, options).map_err(|error| Error::file(path, error.to_string()))?;
        let before = self.files.len();
        for found in matches {
            let found = found.map_err(|error| Error::io(error.path().to_owned(), error.into()))?;
            if !belongs_to_output(&found) {
                self.add(&found)?;
            }
        }
        if self.files.len() == before {
            return Err(Error::file(path, "nothing matches this pattern"));
        }
        Ok(())
    }

    fn add(&mut self, path: &Path) -> Result<()> {
        if is_dash(path) {
            let (relative, format) = (PathBuf::from("stdin.jsonl"), Format::JsonLines);
            self.files.push(InputFile { path: path.into(), relative, bytes: None, format });
            return Ok(());
        }
        let metadata = fs::metadata(path).map_err(|e| Error::io(path, e))?;
        if metadata.is_dir() {
            self.folders.push(path.to_owned());
            let before = self.files.len();
            self.walk(path, path, &mut Vec::new())?;
            if self.files.len() == before {
                let reason =
                    "no .jsonl, .json or .txt file (plain, .gz or .zst) and no .parquet file in this folder";
                return Err(Error::file(path, reason));
            }
            return Ok(());
        }
        let name = path.file_name().ok_or_else(|| Error::file(path, "not a file name"))?;
        self.add_file(path, PathBuf::from(name), &metadata)
    }

    fn add_file(&mut self, path: &Path, relative: PathBuf, metadata: &Metadata) -> Result<()> {
        let kind = metadata.file_type();
        if !kind.is_file() && !kind.is_fifo() {
            return Err(Error::file(path, "neither a regular file, a folder nor a pipe"));
        }
        if kind.is_file() {
            // Better to learn now than after hours that it cannot be read.
            File::open(path).map_err(|e| Error::io(path, e))?;
        }
        let bytes = kind.is_file().then_some(metadata.len());
        let format = Format::from_name(path).unwrap_or(Format::JsonLines);
        self.files.push(InputFile { path: path.into(), relative, bytes, format });
        Ok(())
    }

    /// Adds the files below `folder`; `above` holds the real paths of the folders it lies in.
    fn walk(&mut self, root: &Path, folder: &Path, above: &mut Vec<PathBuf>) -> Result<()> {
        let real = folder.canonicalize().map_err(|e| Error::io(folder, e))?;
        if above.contains(&real) {
            return Err(Error::file(folder, "links back to a folder that it lies in"));
        }
        above.push(real);
        for path in visible_entries(folder)? {
            let metadata = fs::metadata(&path).map_err(|e| Error::io(&path, e))?;
            if metadata.is_dir() {
                self.walk(root, &path, above)?;
            } else if Format::from_name(&path).is_some() {
                let relative = path.strip_prefix(root).unwrap_or(&path).to_owned();
                self.add_file(&path, relative, &metadata)?;
            } else if !belongs_to_output(&path) {
                tracing::warn!("{}: skipped, its extension is not known", path.display());
            }
        }
        above.pop();
        Ok(())
    }
}

/// How far reading has come; cheap to clone and to watch from another thread.
#[derive(Clone, Debug)]
pub struct Progress {
    pub(super) read: Arc<AtomicU64>,
    total: Option<u64>,
}

impl Progress {
    /// Of reading these files, or a shard of them.
    pub(super) fn of(inputs: &Inputs, shard: Option<Shard>) -> Self {
        Self { read: Arc::default(), total: inputs.bytes_of(shard) }
    }

    /// Bytes of the input files used so far, as they lie on disk.
    pub fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Bytes of all input files, about those that will be read where a shard reads a part; `None` if one of them is
    /// a stream.
    pub fn total(&self) -> Option<u64> {
        self.total
    }
}

/// A path that is a pattern: no shell has expanded it, and no file has that name.
fn pattern(path: &Path) -> Option<&str> {
    let text = path.to_str().filter(|text| text.contains(['*', '?', '[']))?;
    fs::symlink_metadata(path).is_err().then_some(text)
}

/// Whether a path stands for standard input or output.
pub(crate) fn is_dash(path: &Path) -> bool {
    path == Path::new("-")
}

/// Whether a file is one that stands beside an output, which may be an input in turn.
fn belongs_to_output(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "manifest" || extension == "rejects")
}

/// What lies in a folder, by name, without hidden entries.
fn visible_entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
        let entry = entry.map_err(|e| Error::io(folder, e))?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}
