//! What a run reports at its end: a line for people, a JSON object for programs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use crate::score::{Sequence, WindowConfig};
use crate::{Error, Result};

/// Documents and times of a run, and documents that came out unedited for a reason.
#[derive(Default)]
pub struct Tally {
    /// Documents read.
    pub documents: u64,
    /// Their own tokens.
    pub tokens: u64,
    /// Tokens beyond the window, passed through because truncation was asked for.
    pub truncated: u64,
    /// Documents passed through, by reason.
    pub passed_through: BTreeMap<&'static str, u64>,
    span: Option<(Instant, Instant)>,
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
    /// Counts a document.
    pub fn count(&mut self, sequence: &Sequence, windows: &WindowConfig) {
        let len = sequence.len();
        self.documents += 1;
        self.tokens += sequence.ids.len() as u64;
        self.truncated += (len - windows.covered(len)) as u64;
    }

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

    /// Exit status: 3 where documents were passed through.
    pub fn exit_status(&self) -> u8 {
        if self.passed_through.is_empty() { 0 } else { 3 }
    }

    /// Times, given what loading took.
    pub fn timing(&self, load_seconds: f64) -> Timing {
        let seconds = self.span.map_or(0.0, |(start, end)| (end - start).as_secs_f64());
        let tokens_per_second = (seconds > 0.0).then(|| self.tokens as f64 / seconds);
        Timing { load_seconds, seconds, tokens_per_second, peak_memory_bytes: peak_memory() }
    }

    /// "12 documents, 3456 tokens", and documents passed through with their reasons.
    pub fn text(&self) -> String {
        let mut text = format!("{} documents, {} tokens", self.documents, self.tokens);
        if self.truncated > 0 {
            text += &format!(", {} beyond the window", self.truncated);
        }
        for (reason, count) in &self.passed_through {
            text += &format!(", {count} passed through ({reason})");
        }
        text
    }
}

impl Timing {
    /// " at 1234 tokens/s", or nothing.
    pub fn text(&self) -> String {
        self.tokens_per_second.map_or(String::new(), |rate| format!(" at {rate:.0} tokens/s"))
    }
}

/// Writes the object, beside its place first: a reader never sees half of it.
pub fn write(path: Option<&Path>, summary: &impl Serialize) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let mut text = serde_json::to_string_pretty(summary).map_err(|error| Error::file(path, error))?;
    text.push('\n');
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let partial = tempfile::NamedTempFile::new_in(folder).map_err(|error| Error::io(path, error))?;
    fs::write(partial.path(), text).map_err(|error| Error::io(path, error))?;
    partial.persist(path).map_err(|error| Error::io(path, error.error))?;
    Ok(())
}

/// VmHWM of Linux, in bytes.
fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}
