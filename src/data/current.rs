//! The output that is being written: documents into frames, frames to where they go.

use std::path::Path;

use super::format::Format;
use super::frames::Framing;
use super::manifest::RecordCounts;
use super::partial::{Frame, Partial};
use super::refused::{Mark, Refused};
use super::sink::Sink;
use super::writer::{Counts, one_document};
use crate::{Error, Result};

/// The output that is being written.
pub(super) struct Current<C> {
    pub target: Target,
    pub framing: Box<dyn Framing>,
    pub format: Format,
    frame_bytes: usize,
    /// Reject lines of the open frame.
    rejects: Vec<u8>,
    /// Of the whole output so far.
    pub counts: C,
    pub records: RecordCounts,
    /// How far its input has come.
    mark: Mark,
    /// Whether the open frame holds anything.
    is_open: bool,
}

/// Where frames go.
pub(super) enum Target {
    File(Box<Partial>),
    Stream(Box<Sink>),
}

impl<C: Counts> Current<C> {
    /// Begins behind what is there of it.
    ///
    /// # Errors
    /// Counts that an earlier process left and that are not this command's.
    pub fn new(
        target: Target,
        framing: Box<dyn Framing>,
        format: Format,
        frame_bytes: usize,
    ) -> Result<Self> {
        let (mut counts, mut records, mut mark) = (C::default(), RecordCounts::default(), Mark::default());
        if let Target::File(partial) = &target
            && let Some(last) = partial.last()
        {
            counts = counts_of(partial.output(), last.counts.clone())?;
            (records, mark) = (last.records, last.mark);
        }
        let (rejects, is_open) = (Vec::new(), false);
        Ok(Self { target, framing, format, frame_bytes, rejects, counts, records, mark, is_open })
    }

    /// A text file has room for one document.
    pub fn check_room(&self) -> Result<()> {
        if self.format == Format::Text && self.records.written > 0 {
            return Err(one_document(self.path(), "more"));
        }
        Ok(())
    }

    fn path(&self) -> &Path {
        match &self.target {
            Target::File(partial) => partial.output(),
            Target::Stream(sink) => sink.path(),
        }
    }

    /// Counts a record that was added to the frame.
    pub fn count_written(&mut self, mark: Mark, counts: &C) -> Result<()> {
        self.records.written += 1;
        self.advance(mark, counts)
    }

    /// Sets a record aside.
    ///
    /// # Errors
    /// The system's; standard output, beside which there is no reject file.
    pub fn set_aside(&mut self, refused: &Refused, counts: &C) -> Result<()> {
        if let Target::Stream(_) = self.target {
            return Err(refused.error());
        }
        self.rejects.extend(refused.reject());
        self.records.set_aside += 1;
        self.advance(refused.mark(), counts)
    }

    /// Notes that a record is dealt with, and closes the frame if it is full.
    fn advance(&mut self, mark: Mark, counts: &C) -> Result<()> {
        self.mark = mark;
        self.counts += counts;
        self.is_open = true;
        let is_stream = matches!(self.target, Target::Stream(_));
        if is_stream || self.framing.size() + self.rejects.len() >= self.frame_bytes {
            self.flush(false)?;
        }
        Ok(())
    }

    /// Closes the frame and makes it durable. The last one is written even if the output is empty: compressed nothing is
    /// something.
    pub fn flush(&mut self, is_last: bool) -> Result<()> {
        let is_empty = |target: &Target| match target {
            Target::File(partial) => partial.is_empty(),
            Target::Stream(_) => false,
        };
        let has_bytes = self.framing.size() > 0 || is_last && is_empty(&self.target);
        let bytes = if has_bytes { self.framing.close()? } else { Vec::new() };
        if !self.is_open && bytes.is_empty() {
            return Ok(());
        }
        self.is_open = false;
        match &mut self.target {
            Target::Stream(sink) => sink.write(&bytes),
            Target::File(partial) => {
                let rejects = std::mem::take(&mut self.rejects);
                let counts = serde_json::to_value(&self.counts);
                let counts = counts.map_err(|error| Error::file(partial.output(), error))?;
                partial.commit(Frame { bytes, rejects, mark: self.mark, records: self.records, counts })
            }
        }
    }
}

/// A command's own counts, as an earlier process left them.
pub(super) fn counts_of<C: Counts>(path: &Path, counts: serde_json::Value) -> Result<C> {
    if counts.is_null() {
        return Ok(C::default());
    }
    serde_json::from_value(counts)
        .map_err(|error| Error::file(path, format!("counts of an earlier run that do not fit: {error}")))
}
