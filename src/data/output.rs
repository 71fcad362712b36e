//! Where documents go: one output per input, or all into one file.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::document::Document;
use super::format::{Compression, Format};
use super::patch::Patch;
use super::shard::Shard;
use super::sink::{Sink, check_free, check_writable};
use super::source::{Inputs, is_dash};
use crate::{Error, Result};

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// The documents themselves, in the format that the output's name asks for.
    Documents,
    /// Lines of JSON about the documents: a text file's lines go to a `.jsonl` file.
    Lines,
}

/// The outputs of a run.
#[derive(Clone, Debug)]
pub struct Outputs {
    /// One path for each input file, or a single one for all.
    paths: Vec<PathBuf>,
    /// The output folder, if there is one.
    folder: Option<PathBuf>,
    /// The part of the documents that is written.
    shard: Option<Shard>,
}

impl Outputs {
    /// Decides where documents go. `output` names a file if it is `-` or ends in `.jsonl`, `.json` or `.txt`
    /// (and `.gz`, `.zst`) and is no folder: that file takes all documents. Otherwise it is a folder, made
    /// when writing begins, in which each input file has an output of its own name (`stdin.jsonl` for
    /// standard input), at its place below the input folder.
    ///
    /// # Errors
    /// An output that is an input or lies in an input folder; two inputs with one output; a text file
    /// that would take more than one document; a name from which no format can be told.
    pub fn plan(inputs: &Inputs, output: &Path, payload: Payload) -> Result<Self> {
        let outputs = if names_file(output)? {
            Self { paths: vec![single_file(inputs, output, payload)?], folder: None, shard: None }
        } else {
            let names = inputs.files().iter().map(|file| output.join(&file.relative));
            let paths = names.map(|path| lines_name(path, payload)).collect();
            Self { paths, folder: Some(output.to_owned()), shard: None }
        };
        outputs.refuse_collisions()?;
        outputs.refuse_inputs(inputs)?;
        Ok(outputs)
    }

    /// The outputs of one shard, named by [`Shard::rename`]. Each shard has a part of every output, be it without a
    /// document; a text file is the whole document and belongs to one shard alone.
    ///
    /// # Errors
    /// An output that is an input or lies in an input folder; a text file that would take a part of a file of records.
    pub fn sharded(mut self, inputs: &Inputs, shard: Shard) -> Result<Self> {
        for (path, input) in self.paths.iter_mut().zip(inputs.files()) {
            if Format::from_name(path) == Some(Format::Text) && input.format != Format::Text {
                return Err(one_document(path, "a shard"));
            }
            *path = shard.rename(path);
        }
        self.shard = Some(shard);
        self.refuse_inputs(inputs)?;
        Ok(self)
    }

    /// Whether output `index` is a text file of another shard.
    fn is_elsewhere(&self, index: usize) -> bool {
        let is_text = self.paths.get(index).is_some_and(|path| Format::from_name(path) == Some(Format::Text));
        is_text && self.shard.is_some_and(|shard| !shard.owns(index as u64))
    }

    /// The files that will be written.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// The first of them that is a text file, which holds bare text and nothing else of a document.
    pub fn text_file(&self) -> Option<&Path> {
        let is_text = |path: &&PathBuf| Format::from_name(path) == Some(Format::Text);
        self.paths.iter().find(is_text).map(PathBuf::as_path)
    }

    /// Whether writing can be expected to work: to be asked before anything long begins. Changes nothing.
    ///
    /// # Errors
    /// An output exists and `overwrite` is false, or cannot be made.
    pub fn check(&self, overwrite: bool) -> Result<()> {
        let Some(folder) = &self.folder else {
            return self.paths.iter().try_for_each(|path| Sink::check(path, overwrite));
        };
        check_writable(nearest_folder(folder))?;
        self.paths.iter().try_for_each(|path| check_free(path, overwrite))
    }

    /// Begins to write.
    pub fn writer(self, overwrite: bool) -> OutputWriter {
        OutputWriter { outputs: self, overwrite, next: 0, current: None }
    }

    fn refuse_collisions(&self) -> Result<()> {
        let mut seen = HashMap::new();
        for (file, path) in self.paths.iter().enumerate() {
            if let Some(other) = seen.insert(path, file) {
                let reason = format!("inputs {} and {} would both be written there", other + 1, file + 1);
                return Err(Error::file(path, reason));
            }
        }
        Ok(())
    }

    fn refuse_inputs(&self, inputs: &Inputs) -> Result<()> {
        let real = |path: &Path| path.canonicalize().ok();
        let sources: Vec<_> = inputs.files().iter().filter_map(|file| real(&file.path)).collect();
        for path in self.paths.iter().filter(|path| !is_dash(path)) {
            if real(path).is_some_and(|path| sources.contains(&path)) {
                return Err(Error::file(path, "is both input and output"));
            }
        }
        let Some(folder) = self.home().and_then(|folder| real(nearest_folder(folder))) else {
            return Ok(());
        };
        for input in inputs.folders() {
            if real(input).is_some_and(|input| folder.starts_with(input)) {
                return Err(Error::file(
                    input,
                    "contains the output, which would be an input of the next run",
                ));
            }
        }
        Ok(())
    }

    /// The folder that all outputs lie below; none for standard output.
    fn home(&self) -> Option<&Path> {
        let file = self.paths.first().filter(|path| !is_dash(path));
        self.folder.as_deref().or_else(|| file?.parent())
    }
}

/// Writes documents, or lines about them, in input order.
pub struct OutputWriter {
    outputs: Outputs,
    overwrite: bool,
    /// The output to open next.
    next: usize,
    current: Option<Current>,
}

/// The output that is being written.
struct Current {
    sink: Sink,
    format: Format,
    documents: u64,
}

impl OutputWriter {
    /// Writes `document` with `patch` applied to the output of its input file.
    ///
    /// # Errors
    /// As [`Document::render`] and [`Sink::write`]; a second document for a text file.
    pub fn write(&mut self, document: &Document, patch: &Patch) -> Result<()> {
        let current = self.output_of(document.file())?;
        let mut bytes = document.render(patch, current.format)?;
        match current.format {
            Format::JsonLines => bytes.push(b'\n'),
            Format::Text if current.documents > 0 => return Err(one_document(current.sink.path(), "more")),
            Format::Text => {}
        }
        current.documents += 1;
        current.sink.write(&bytes)
    }

    /// Writes `line`, which has no line's end, to the output of input file `file`.
    ///
    /// # Errors
    /// As [`Sink::write`].
    pub fn write_line(&mut self, file: usize, line: &str) -> Result<()> {
        let current = self.output_of(file)?;
        current.documents += 1;
        current.sink.write(line.as_bytes())?;
        current.sink.write(b"\n")
    }

    /// Completes all outputs, those of inputs without a document included.
    ///
    /// # Errors
    /// As [`Sink::finish`]; a text file that got no document.
    pub fn finish(mut self) -> Result<()> {
        self.advance(self.outputs.paths.len() - 1)?;
        self.complete()
    }

    /// The open output of an input file; those before it are completed.
    fn output_of(&mut self, file: usize) -> Result<&mut Current> {
        let wanted = file.min(self.outputs.paths.len() - 1);
        self.advance(wanted)?;
        let open = self.current.as_mut().filter(|_| wanted + 1 == self.next);
        open.ok_or_else(|| Error::Usage("documents must be written in the order of the inputs".into()))
    }

    /// Opens output `wanted`; those before it are completed.
    fn advance(&mut self, wanted: usize) -> Result<()> {
        while self.next <= wanted {
            self.complete()?;
            if !self.outputs.is_elsewhere(self.next) {
                self.current = Some(self.open(self.next)?);
            }
            self.next += 1;
        }
        Ok(())
    }

    fn open(&self, index: usize) -> Result<Current> {
        let path = &self.outputs.paths[index];
        if let (Some(_), Some(parent)) = (&self.outputs.folder, path.parent()) {
            fs::create_dir_all(parent).map_err(|e| Error::io(parent, e))?;
        }
        let format = Format::from_name(path).unwrap_or(Format::JsonLines);
        Ok(Current { sink: Sink::create(path, self.overwrite)?, format, documents: 0 })
    }

    fn complete(&mut self) -> Result<()> {
        let Some(current) = self.current.take() else {
            return Ok(());
        };
        if current.format == Format::Text && current.documents == 0 {
            return Err(one_document(current.sink.path(), "none"));
        }
        current.sink.finish()
    }
}

/// Whether an output path is a file rather than a folder.
fn names_file(output: &Path) -> Result<bool> {
    if is_dash(output) {
        return Ok(true);
    }
    if output.is_dir() {
        return Ok(false);
    }
    if Format::from_name(output).is_some() {
        return Ok(true);
    }
    if output.exists() {
        return Err(Error::file(output, "exists and is neither a folder nor named .jsonl, .json or .txt"));
    }
    if Compression::from_name(output) != Compression::None {
        return Err(Error::file(output, "names a compression but no format: expected .jsonl.gz or the like"));
    }
    Ok(false)
}

fn single_file(inputs: &Inputs, output: &Path, payload: Payload) -> Result<PathBuf> {
    if Format::from_name(output) == Some(Format::Text) {
        if payload == Payload::Lines {
            return Err(Error::file(output, "the output consists of JSON lines: expected .jsonl"));
        }
        if inputs.files().len() > 1 {
            return Err(one_document(output, &format!("{} files", inputs.files().len())));
        }
    }
    Ok(output.to_owned())
}

/// The name under which lines about a file are kept: `a.txt.gz` becomes `a.jsonl.gz`.
fn lines_name(path: PathBuf, payload: Payload) -> PathBuf {
    if payload == Payload::Documents || Format::from_name(&path) != Some(Format::Text) {
        return path;
    }
    match Compression::from_name(&path) {
        Compression::None => path.with_extension("jsonl"),
        Compression::Gzip => path.with_extension("").with_extension("jsonl.gz"),
        Compression::Zstd => path.with_extension("").with_extension("jsonl.zst"),
    }
}

fn one_document(path: &Path, found: &str) -> Error {
    Error::file(path, format!("a text file holds exactly one document, found {found}: write .jsonl instead"))
}

/// `folder`, or the folder above it that exists.
fn nearest_folder(folder: &Path) -> &Path {
    let mut above = folder.ancestors().filter(|path| !path.as_os_str().is_empty());
    above.find(|path| path.exists()).unwrap_or(Path::new("."))
}
