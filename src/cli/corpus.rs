//! Corpora that are read more than once, and the one file that documents of theirs go to.

use std::path::{Path, PathBuf};

use serde_json::Value;
use xxhash_rust::xxh3::Xxh3;

use super::pipeline::Arrivals;
use super::signals::Interrupt;
use super::summary;
use crate::data::{
    Carried, Document, Documents, Format, Inputs, Outputs, Payload, ReadOptions, Settings, Sink, is_dash,
    manifest_path, rejects_path, stream_key,
};
use crate::{Error, Result};

/// A corpus that can be read again and again.
pub struct Corpus {
    /// What it is called, in messages and as a flag.
    pub name: &'static str,
    /// No files where nothing of it is wanted.
    pub inputs: Inputs,
    /// How its records are read.
    pub read: ReadOptions,
}

impl Corpus {
    /// Expands the paths, if there are any.
    ///
    /// # Errors
    /// As [`Inputs::expand`]; a stream among them, which cannot be read twice.
    pub fn open(name: &'static str, paths: &[PathBuf], read: ReadOptions) -> Result<Self> {
        let inputs = if paths.is_empty() { Inputs::default() } else { Inputs::expand(paths)? };
        if let Some(stream) = inputs.files().iter().find(|file| file.bytes.is_none()) {
            let path = stream.path.display();
            let reason = "it is read more than once, which a stream cannot be";
            return Err(Error::Usage(format!("--{name} {path}: {reason}")));
        }
        Ok(Self { name, inputs, read })
    }

    /// Its documents, once more.
    ///
    /// # Errors
    /// As [`Inputs::documents`].
    pub fn documents(&self) -> Result<Documents> {
        self.inputs.documents(self.read.clone())
    }

    /// Its files.
    pub fn names(&self) -> Vec<String> {
        names(&self.inputs)
    }

    /// Those of its documents that `is_chosen` holds for, with their numbers, to go to `output`, and in the end an error if the
    /// corpus is no longer the one that had this content.
    ///
    /// # Errors
    /// As [`Inputs::documents`].
    pub fn chosen<'a>(
        &'a self,
        is_chosen: &'a [bool],
        content: &'a str,
        output: &mut Carried,
        interrupt: &'a Interrupt,
    ) -> Result<impl Iterator<Item = Result<(usize, Document)>> + use<'a>> {
        let mut arrivals =
            Arrivals::new(output.documents(&self.inputs, self.read.clone())?, interrupt).documents();
        let mut seen = Content::default();
        let mut next = move || -> Result<Option<(usize, Document)>> {
            while let Some(document) = arrivals.next().transpose()? {
                let number = seen.documents;
                seen.add(&document);
                if is_chosen.get(number) == Some(&true) {
                    return Ok(Some((number, document)));
                }
            }
            self.check(&seen, content).map(|()| None)
        };
        Ok(std::iter::from_fn(move || next().transpose()).fuse())
    }

    /// Whether what was seen is this content.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn check(&self, seen: &Content, content: &str) -> Result<()> {
        if seen.hash() == content {
            return Ok(());
        }
        let first = self.inputs.files().first().map_or(Path::new("-"), |file| &file.path);
        Err(Error::file(first, format!("the --{} text has changed while it was read", self.name)))
    }
}

/// The paths of files, as they were found.
pub fn names(inputs: &Inputs) -> Vec<String> {
    inputs.files().iter().map(|file| file.path.display().to_string()).collect()
}

/// The text of a document.
///
/// # Errors
/// It has none.
pub fn text(document: &Document) -> Result<&str> {
    document.text().ok_or_else(|| {
        document.error("no text: n-grams are those of words, not of `input_ids` or `messages`")
    })
}

/// The settings of an output that documents are carried over to: those of the command, and how records are read.
pub fn settings<const N: usize>(read: &ReadOptions, own: [(&str, Value); N]) -> Settings {
    let reading = [
        ("text_field", read.text_field.clone().into()),
        ("max_document_bytes", read.max_document_bytes.into()),
    ];
    let version = ("version", env!("CARGO_PKG_VERSION").into());
    let all = own.into_iter().chain(reading).chain([version]);
    all.map(|(name, value)| (name.to_owned(), value)).collect()
}

/// What was read of a corpus.
#[derive(Default)]
pub struct Content {
    /// Documents seen so far.
    pub documents: usize,
    hash: Xxh3,
}

impl Content {
    /// One more document.
    pub fn add(&mut self, document: &Document) {
        self.documents += 1;
        self.hash.update(&stream_key(document).to_le_bytes());
    }

    /// XXH3-64 of the documents' contents and ids, in order.
    pub fn hash(&self) -> String {
        format!("{:016x}", self.hash.digest())
    }
}

/// Whether documents of these inputs can be written to `output`, a JSON lines file, and a summary beside it: to be asked
/// before anything long begins.
///
/// # Errors
/// The output is no such file, is an input or lies among them, exists, or cannot be made.
pub fn check_output<'a>(
    output: &Path,
    overwrite: bool,
    summary: Option<&Path>,
    inputs: impl IntoIterator<Item = &'a Inputs>,
) -> Result<()> {
    let is_lines = Format::from_name(output) == Some(Format::JsonLines) && !output.is_dir();
    if !is_lines && !is_dash(output) {
        let path = output.display();
        return Err(Error::Usage(format!(
            "--output {path}: expected a JSON lines file, whose name ends in .jsonl, .jsonl.gz or .jsonl.zst"
        )));
    }
    for inputs in inputs {
        let outputs = Outputs::plan(inputs, output, Payload::Lines)?;
        summary::check(summary, inputs, Some(&outputs))?;
    }
    if is_dash(output) {
        return Ok(());
    }
    let beside = [output.to_owned(), manifest_path(output), rejects_path(output)];
    beside.iter().try_for_each(|path| Sink::check(path, overwrite))
}
