//! Corpora that are read more than once, and the one file that documents of theirs go to.

use std::path::{Path, PathBuf};

use super::summary;
use crate::data::{Documents, Format, Inputs, Outputs, Payload, ReadOptions, Sink, is_dash};
use crate::{Error, Result};

/// A corpus that can be read again and again.
pub struct Corpus {
    /// What it is called, in messages and as a flag.
    pub name: &'static str,
    /// No files where nothing of it is wanted.
    pub inputs: Inputs,
}

impl Corpus {
    /// Expands the paths, if there are any.
    ///
    /// # Errors
    /// As [`Inputs::expand`]; a stream among them, which cannot be read twice.
    pub fn open(name: &'static str, paths: &[PathBuf]) -> Result<Self> {
        let inputs = if paths.is_empty() { Inputs::default() } else { Inputs::expand(paths)? };
        if let Some(stream) = inputs.files().iter().find(|file| file.bytes.is_none()) {
            let path = stream.path.display();
            return Err(Error::Usage(format!("--{name} {path}: it is read twice, which a stream cannot be")));
        }
        Ok(Self { name, inputs })
    }

    /// Its documents, once more.
    ///
    /// # Errors
    /// As [`Inputs::documents`].
    pub fn documents(&self, options: ReadOptions) -> Result<Documents> {
        self.inputs.documents(options)
    }

    /// Its files.
    pub fn names(&self) -> Vec<String> {
        self.inputs.files().iter().map(|file| file.path.display().to_string()).collect()
    }

    /// What an error about all of it names.
    pub fn place(&self) -> &Path {
        self.inputs.files().first().map_or(Path::new("-"), |file| &file.path)
    }
}

/// Whether documents of these corpora can be written to `output`, a JSON lines file, and a summary beside it: to be asked
/// before anything long begins.
///
/// # Errors
/// The output is no such file, is an input or lies among them, exists, or cannot be made.
pub fn check_output(
    output: &Path,
    overwrite: bool,
    summary: Option<&Path>,
    corpora: &[Corpus],
) -> Result<()> {
    let is_lines = Format::from_name(output) == Some(Format::JsonLines) && !output.is_dir();
    if !is_lines && !is_dash(output) {
        let path = output.display();
        return Err(Error::Usage(format!(
            "--output {path}: expected a JSON lines file, whose name ends in .jsonl, .jsonl.gz or .jsonl.zst"
        )));
    }
    for Corpus { inputs, .. } in corpora {
        let outputs = Outputs::plan(inputs, output, Payload::Lines)?;
        summary::check(summary, inputs, Some(&outputs))?;
    }
    Sink::check(output, overwrite)
}
