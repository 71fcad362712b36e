//! Where documents go: one output per input, or all into one file.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::format::{Compression, Format};
use super::names::rejects_path;
use super::shard::Shard;
use super::sink::{Sink, check_free, check_writable};
use super::source::{InputFile, Inputs, is_dash};
use super::writer::{Begin, Counts, OutputWriter, WriteConfig, one_document};
use crate::{Error, Result};

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// The documents themselves, in the format that the output's name asks for.
    Documents,
    /// Lines of JSON about the documents: a text file's lines go to a `.jsonl` file, a Parquet file's too.
    Lines,
}

/// The outputs of a run.
#[derive(Clone, Debug)]
pub struct Outputs {
    /// One path for each input file, or a single one for all.
    paths: Vec<PathBuf>,
    /// The output folder, if there is one.
    folder: Option<PathBuf>,
    /// What they are made from.
    inputs: Vec<InputFile>,
    /// The part of the documents that is written.
    shard: Option<Shard>,
}

impl Outputs {
    /// Decides where documents go. `output` names a file if it is `-` or ends in `.jsonl`, `.json` or `.txt`
    /// (and `.gz`, `.zst`) or `.parquet` and is no folder: that file takes all documents. Otherwise it is a folder, made
    /// when writing begins, in which each input file has an output of its own name (`stdin.jsonl` for
    /// standard input), at its place below the input folder.
    ///
    /// # Errors
    /// An output that is an input or lies in an input folder; two inputs with one output; a text file
    /// that would take more than one document; a name from which no format can be told.
    pub fn plan(inputs: &Inputs, output: &Path, payload: Payload) -> Result<Self> {
        let files = inputs.files().to_vec();
        let outputs = if names_file(output)? {
            Self {
                paths: vec![single_file(inputs, output, payload)?],
                folder: None,
                inputs: files,
                shard: None,
            }
        } else {
            let names = files.iter().map(|file| output.join(&file.relative));
            let paths = names.map(|path| lines_name(path, payload)).collect();
            Self { paths, folder: Some(output.to_owned()), inputs: files, shard: None }
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

    /// The part of the documents that is written; none where that is all of them.
    pub(super) fn shard(&self) -> Option<Shard> {
        self.shard
    }

    /// Whether an output is a text file of another shard.
    pub(super) fn is_elsewhere(&self, output: usize) -> bool {
        let is_text = Format::from_name(&self.paths[output]) == Some(Format::Text);
        is_text && self.shard.is_some_and(|shard| !shard.owns(output as u64))
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
    /// An output exists and `begin` is [`Begin::New`], or cannot be made; standard output is to be gone on with.
    pub fn check(&self, begin: Begin) -> Result<()> {
        if begin == Begin::Resume && self.paths.iter().any(|path| is_dash(path)) {
            return Err(Error::Usage("standard output cannot be resumed: name a file or a folder".into()));
        }
        // Whether what is there is a part of this output needs the settings, hence the model.
        let replaces = begin != Begin::New;
        for path in self.paths.iter().filter(|path| !is_dash(path)) {
            check_free(path, replaces)?;
            check_free(&rejects_path(path), replaces)?;
        }
        match &self.folder {
            Some(folder) => check_writable(nearest_folder(folder)),
            None => self.paths.iter().try_for_each(|path| Sink::check(path, replaces)),
        }
    }

    /// Begins to write: with [`Begin::Resume`], behind what earlier processes left of the outputs.
    ///
    /// # Errors
    /// With [`Begin::Resume`]: an output was made or begun with other settings, which are named, or its input has changed;
    /// [`Error::Busy`] where another process is making it. The system's.
    pub fn writer<C: Counts>(self, config: WriteConfig) -> Result<OutputWriter<C>> {
        OutputWriter::new(self, config)
    }

    /// The output folder, if there is one.
    pub(super) fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Whether all inputs go into one output.
    pub(super) fn is_single(&self) -> bool {
        self.paths.len() == 1
    }

    /// The numbers of an output's inputs.
    pub(super) fn inputs_of(&self, output: usize) -> Range<usize> {
        if self.is_single() { 0..self.inputs.len() } else { output..output + 1 }
    }

    /// An output's inputs.
    pub(super) fn input_files(&self, output: usize) -> &[InputFile] {
        &self.inputs[self.inputs_of(output)]
    }

    /// An output's inputs among the settings that its bytes depend on: names and sizes; contents are compared as they are
    /// read.
    pub(super) fn input_setting(&self, output: usize) -> Value {
        let setting =
            |file: &InputFile| json!({ "name": file.relative.to_string_lossy(), "bytes": file.bytes });
        self.input_files(output).iter().map(setting).collect()
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
        return Err(Error::file(
            output,
            "exists and is neither a folder nor named .jsonl, .json, .txt or .parquet",
        ));
    }
    if Compression::from_name(output) != Compression::None {
        return Err(Error::file(
            output,
            "names a compression but no format that is compressed as a whole: expected .jsonl.gz or the like",
        ));
    }
    Ok(false)
}

fn single_file(inputs: &Inputs, output: &Path, payload: Payload) -> Result<PathBuf> {
    let format = Format::from_name(output);
    if payload == Payload::Lines && matches!(format, Some(Format::Text | Format::Parquet)) {
        return Err(Error::file(output, "the output consists of JSON lines: expected .jsonl"));
    }
    if format == Some(Format::Text) && inputs.files().len() > 1 {
        return Err(one_document(output, &format!("{} files", inputs.files().len())));
    }
    Ok(output.to_owned())
}

/// The name under which lines about a file are kept: `a.txt.gz` becomes `a.jsonl.gz`, `a.parquet` `a.jsonl`.
fn lines_name(path: PathBuf, payload: Payload) -> PathBuf {
    let is_of_lines = matches!(Format::from_name(&path), None | Some(Format::JsonLines));
    if payload == Payload::Documents || is_of_lines {
        return path;
    }
    match Compression::from_name(&path) {
        Compression::None => path.with_extension("jsonl"),
        Compression::Gzip => path.with_extension("").with_extension("jsonl.gz"),
        Compression::Zstd => path.with_extension("").with_extension("jsonl.zst"),
    }
}

/// `folder`, or the folder above it that exists.
fn nearest_folder(folder: &Path) -> &Path {
    let mut above = folder.ancestors().filter(|path| !path.as_os_str().is_empty());
    above.find(|path| path.exists()).unwrap_or(Path::new("."))
}
