//! What a run reports at its end: a line for people, a JSON object for programs.

use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::ops::AddAssign;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::args::{CommonArgs, LogFormat};
use super::{print, print_error};
use crate::data::{Inputs, Outputs, Sink, Written, is_dash, manifest_path, peak_memory, rejects_path};
use crate::score::{Sequence, WindowConfig};
use crate::{Error, Result};

/// Why a record came out as it was, with `--on-error pass`.
const UNUSABLE: &str = "cannot be used";

/// Counts of documents, kept with the output.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DocumentCounts {
    /// Documents read, those that could not be used among them.
    pub documents: u64,
    /// Their own tokens.
    pub tokens: u64,
    /// Tokens beyond the window, passed through because truncation was asked for.
    pub truncated: u64,
    /// Documents passed through, by reason.
    pub passed_through: BTreeMap<String, u64>,
}

impl DocumentCounts {
    /// A document.
    pub fn of(sequence: &Sequence, windows: &WindowConfig) -> Self {
        Self {
            documents: 1,
            tokens: sequence.ids.len() as u64,
            truncated: sequence.truncated(windows) as u64,
            passed_through: BTreeMap::new(),
        }
    }

    /// A document that is passed through, if there is a reason.
    pub fn passed(mut self, reason: Option<&'static str>) -> Self {
        if let Some(reason) = reason {
            *self.passed_through.entry(reason.to_owned()).or_default() += 1;
        }
        self
    }

    /// A record that cannot be used.
    pub fn refused() -> Self {
        Self { documents: 1, ..Self::default() }
    }

    /// "12 documents, 3456 tokens", and documents passed through with their reasons.
    pub fn text(&self) -> String {
        let mut text = documents_and_tokens(self.documents, self.tokens);
        if self.truncated > 0 {
            text += &format!(", {} beyond the window", self.truncated);
        }
        for (reason, count) in &self.passed_through {
            text += &format!(", {count} passed through ({reason})");
        }
        text
    }
}

impl AddAssign<&Self> for DocumentCounts {
    fn add_assign(&mut self, other: &Self) {
        self.documents += other.documents;
        self.tokens += other.tokens;
        self.truncated += other.truncated;
        for (reason, count) in &other.passed_through {
            *self.passed_through.entry(reason.clone()).or_default() += count;
        }
    }
}

/// What this process has done, and when.
#[derive(Default)]
pub struct Tally {
    /// Documents that went through the model.
    pub done: DocumentCounts,
    span: Option<(Instant, Instant)>,
}

/// What became of the documents of a whole output, whichever processes made it.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Documents read.
    documents: u64,
    /// Tokens beyond the window.
    truncated: u64,
    /// Documents that came out unedited, by reason.
    passed_through: BTreeMap<String, u64>,
    /// Records that went to a reject file.
    set_aside: u64,
    /// Documents that earlier processes had dealt with.
    resumed: u64,
    #[serde(skip)]
    text: String,
    #[serde(skip)]
    was_done: bool,
}

impl Outcome {
    /// What was written; `was_done` where there was nothing left to do.
    pub fn new<C>(documents: &DocumentCounts, written: &Written<C>, was_done: bool) -> Self {
        let mut counts = documents.clone();
        let Written { records, resumed, .. } = *written;
        if records.passed > 0 {
            counts.passed_through.insert(UNUSABLE.to_owned(), records.passed);
        }
        let mut text = counts.text();
        for (count, what) in [(records.set_aside, "set aside"), (resumed, "done before")] {
            if count > 0 {
                text += &format!(", {count} {what}");
            }
        }
        let DocumentCounts { documents, truncated, passed_through, .. } = counts;
        let set_aside = records.set_aside;
        Self { documents, truncated, passed_through, set_aside, resumed, text, was_done }
    }

    /// Exit status: 3 where documents were passed through or set aside, unless nothing was left to do.
    pub fn exit_status(&self) -> u8 {
        let is_clean = self.passed_through.is_empty() && self.set_aside == 0;
        if is_clean || self.was_done { 0 } else { 3 }
    }

    /// "12 documents, 3456 tokens", and what became of them beside being written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// The times of a run in seconds.
#[derive(Serialize)]
pub struct Timing {
    load_seconds: f64,
    /// From the first batch's start to the last result.
    seconds: f64,
    /// Document tokens ÷ `seconds`; null where nothing ran.
    tokens_per_second: Option<f64>,
    /// The process's largest resident memory; null where the system does not say.
    peak_memory_bytes: Option<u64>,
}

impl Tally {
    /// Notes that a batch begins.
    pub fn begin_batch(&mut self) {
        let now = Instant::now();
        self.span.get_or_insert((now, now));
    }

    /// Notes that a batch's results are there.
    pub fn end_batch(&mut self) {
        if let Some((_, end)) = &mut self.span {
            *end = Instant::now();
        }
    }

    /// Times, given what loading took.
    pub fn timing(&self, load_seconds: f64) -> Timing {
        let seconds = self.span.map_or(0.0, |(start, end)| (end - start).as_secs_f64());
        Timing::new(load_seconds, seconds, self.done.tokens)
    }
}

/// "1 document", "2 documents".
pub fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// "12 documents, 3456 tokens".
pub fn documents_and_tokens(documents: u64, tokens: u64) -> String {
    format!("{}, {}", counted(documents, "document"), counted(tokens, "token"))
}

impl Timing {
    /// What loading took, and `tokens` after it; the memory as it was up to now.
    pub fn new(load_seconds: f64, seconds: f64, tokens: u64) -> Self {
        let tokens_per_second = (tokens > 0 && seconds > 0.0).then(|| tokens as f64 / seconds);
        Self { load_seconds, seconds, tokens_per_second, peak_memory_bytes: peak_memory() }
    }

    /// " at 1234 tokens/s", or nothing.
    pub fn text(&self) -> String {
        self.tokens_per_second.map_or(String::new(), |rate| format!(" at {rate:.0} tokens/s"))
    }
}

/// Whether [`write`] can be expected to work and to harm nothing: better to learn now than when the run is done.
///
/// # Errors
/// The summary would go where documents come from or go to, or cannot be made. One of an earlier run is replaced.
pub fn check(path: Option<&Path>, inputs: &Inputs, outputs: Option<&Outputs>) -> Result<()> {
    let outputs = outputs.map_or(&[][..], Outputs::paths);
    if path.is_some_and(|path| is_dash(path) && outputs.iter().any(|output| output == path)) {
        let reason = "standard output can take the documents or the summary, not both: name a file for one";
        return Err(Error::Usage(reason.into()));
    }
    let beside = |output: &PathBuf| [output.clone(), manifest_path(output), rejects_path(output)];
    let written: Vec<_> = outputs.iter().flat_map(beside).collect();
    let inputs = inputs.files().iter().map(|file| &*file.path);
    check_apart(path, inputs.chain(written.iter().map(PathBuf::as_path)))
}

/// [`check`] where the run's files and folders have these paths.
///
/// # Errors
/// As [`check`].
pub fn check_apart<'a>(path: Option<&Path>, mut others: impl Iterator<Item = &'a Path>) -> Result<()> {
    let Some(path) = path.filter(|path| !is_dash(path)) else { return Ok(()) };
    let summary = place(path);
    if others.any(|other| summary.starts_with(place(other))) {
        return Err(Error::file(path, "is an input or output of the run, expected a file of its own"));
    }
    partial(path).map(drop)?;
    Sink::check(path, true)
}

/// The real path of a file, which need not exist; as it stands where its folder does not exist either.
fn place(path: &Path) -> PathBuf {
    let in_folder = || Some(folder(path).canonicalize().ok()?.join(path.file_name()?));
    path.canonicalize().ok().or_else(in_folder).unwrap_or_else(|| path.to_owned())
}

/// The folder of a file; never empty.
pub fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Says at the end of a run what was done: on standard error as `text` or as JSON, unless it is to be quiet, and in the
/// summary file.
pub fn report(common: &CommonArgs, path: Option<&Path>, text: &str, summary: &impl Serialize) -> Result<()> {
    match common.log_format {
        _ if common.quiet => {}
        LogFormat::Text => print_error(text),
        LogFormat::Json => print_error(&serde_json::json!({ "summary": summary }).to_string()),
    }
    write(path, summary)
}

/// Writes the object, beside its place first: a reader never sees half of it. `-` is standard output.
pub fn write(path: Option<&Path>, summary: &impl Serialize) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let mut text = serde_json::to_string_pretty(summary).map_err(|error| Error::file(path, error))?;
    text.push('\n');
    if is_dash(path) {
        return print(text.as_bytes());
    }
    write_whole(path, |file| file.write_all(text.as_bytes()))
}

/// Makes a file beside its place first: a reader never sees half of it.
pub fn write_whole(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> Result<()> {
    let mut partial = partial(path)?;
    write(partial.as_file_mut()).map_err(|error| Error::io(path, error))?;
    partial.persist(path).map_err(|error| Error::io(path, error.error))?;
    Ok(())
}

/// A file in the same folder that goes when it is dropped, with the permissions of any new file.
fn partial(path: &Path) -> Result<NamedTempFile> {
    if path.is_dir() {
        return Err(Error::file(path, "a folder, expected the name of a file"));
    }
    let permissions = Permissions::from_mode(0o666);
    tempfile::Builder::new()
        .permissions(permissions)
        .tempfile_in(folder(path))
        .map_err(|error| Error::io(path, error))
}
