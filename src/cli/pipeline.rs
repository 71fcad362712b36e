//! Reading, the model and writing, each on a thread of its own: documents flow through in order, in bounded memory.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use super::args::OnErrorArg;
use super::signals::Interrupt;
use crate::data::{Arrival, Counts, Document, Documents, OutputWriter, Refused};
use crate::{Error, Result};

/// Chunks that may wait between two stages.
const WAITING: usize = 2;
/// Documents of a chunk at most, however short.
pub const MAX_DOCUMENTS: usize = 4096;
/// Bytes of a chunk's documents, unless a single one has more: they may hold much beside a short text.
const MAX_BYTES: usize = 16 << 20;
/// Documents that may wait to be prepared; few, since each may be as large as the limit for one allows.
const ARRIVED: usize = 2;
/// How often a run that waits for input looks whether it was asked to stop.
const POLL: Duration = Duration::from_millis(50);

/// Records as they are read by a thread of their own, and [`Error::Stopped`] as soon as a signal asks for it. That
/// thread is left behind then: a read from a pipe that stays open cannot be called off.
pub struct Arrivals<'a> {
    records: Receiver<Result<Arrival>>,
    reader: Option<JoinHandle<()>>,
    interrupt: &'a Interrupt,
    /// Set where nobody wants more.
    stop: Arc<AtomicBool>,
}

impl<'a> Arrivals<'a> {
    /// Begins to read.
    pub fn new(documents: Documents, interrupt: &'a Interrupt) -> Self {
        let (sender, receiver) = sync_channel(ARRIVED);
        let read = move || {
            for record in documents.arrivals() {
                if sender.send(record).is_err() {
                    // The run has failed.
                    break;
                }
            }
        };
        Self { records: receiver, reader: Some(thread::spawn(read)), interrupt, stop: Arc::default() }
    }

    /// The documents; a record that is none is an error.
    pub fn documents(self) -> impl Iterator<Item = Result<Document>> {
        self.map(|arrival| match arrival? {
            Arrival::Document(document) => Ok(document),
            Arrival::Refused(refused) => Err(refused.error()),
        })
    }

    /// What to set so that the documents end within moments, even while the next one is waited for.
    pub fn stop(&self) -> Arc<AtomicBool> {
        self.stop.clone()
    }
}

impl Iterator for Arrivals<'_> {
    type Item = Result<Arrival>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(signal) = self.interrupt.requested() {
                return Some(Err(Error::Stopped(signal)));
            }
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            match self.records.recv_timeout(POLL) {
                Ok(record) => return Some(record),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    // A reader that panicked has not come to the end of the input.
                    self.reader.take()?.join().unwrap_or_else(|panic| resume_unwind(panic));
                    return None;
                }
            }
        }
    }
}

/// A document on its way, with its own token ids.
pub struct Job<T> {
    /// The record.
    pub document: Document,
    /// Its tokens.
    pub ids: Vec<u32>,
    /// What else the command has prepared.
    pub extra: T,
}

/// A record among others, in its place.
pub enum Entry<T> {
    /// A document, as far as it has come.
    Done(T),
    /// A record that cannot be used.
    Refused(Refused),
}

/// The stages of a run.
pub struct Pipeline<'a, Prepare, Work, Write> {
    /// Ends the run while it waits for input; the model looks for itself.
    pub interrupt: &'a Interrupt,
    /// What becomes of records that cannot be used: with `stop`, nothing is read after the first.
    pub on_error: OnErrorArg,
    /// Finds a document's tokens, and what else the command needs, on the reading thread.
    pub prepare: Prepare,
    /// Takes a chunk of jobs through the model, on the calling thread: a result for each.
    pub work: Work,
    /// Takes a result, in order, on the writing thread.
    pub write: Write,
    /// Tokens of a chunk, unless a single document has more.
    pub chunk_tokens: usize,
    /// Documents of a chunk at most.
    pub chunk_documents: usize,
}

impl<Prepare, Work, Write> Pipeline<'_, Prepare, Work, Write> {
    /// Runs all documents through the stages. The first error ends the run.
    ///
    /// # Errors
    /// Whatever a stage returns; [`Error::Stopped`]; [`Error::Lost`] if fewer records come out than went in.
    pub fn run<T, R>(self, documents: Documents) -> Result<()>
    where
        T: Send,
        R: Send,
        Prepare: Fn(&Document) -> Result<(Vec<u32>, T)> + Send,
        Work: FnMut(Vec<Job<T>>) -> Result<Vec<R>>,
        Write: FnMut(Entry<R>) -> Result<()> + Send,
    {
        let Self { interrupt, on_error, prepare, mut work, mut write, chunk_tokens, chunk_documents } = self;
        let documents = Arrivals::new(documents, interrupt);
        let stop = documents.stop();
        let failed = stop.clone();
        thread::scope(|scope| {
            let (jobs, incoming) = sync_channel(WAITING);
            let (results, outgoing) = sync_channel::<Vec<Entry<R>>>(WAITING);
            let reader = scope.spawn(move || {
                let entries = Vec::new();
                let mut chunks = Chunks { entries, tokens: 0, bytes: 0, chunk_tokens, chunk_documents, jobs };
                read(documents, &prepare, on_error, &mut chunks)
            });
            let writer = scope.spawn(move || {
                let count = |written, entry| write(entry).map(|()| written + 1);
                let written = outgoing.into_iter().flatten().try_fold(0, count);
                failed.fetch_or(written.is_err(), Ordering::Relaxed);
                written
            });
            let worked = pump(&incoming, &mut work, results);
            // Lets the reader go where it waits for input, or to hand over a chunk.
            stop.store(true, Ordering::Relaxed);
            drop(incoming);
            let read = reader.join().unwrap_or_else(|panic| resume_unwind(panic));
            // A writer that failed closes its channel: its error is the cause.
            let written = writer.join().unwrap_or_else(|panic| resume_unwind(panic))?;
            worked?;
            if read == written { Ok(()) } else { Err(Error::Lost { read, written }) }
        })
    }
}

/// Chunks from the reader through `work` to the writer, until either ends.
fn pump<T, R>(
    incoming: &Receiver<Result<Vec<Entry<Job<T>>>>>,
    work: &mut impl FnMut(Vec<Job<T>>) -> Result<Vec<R>>,
    results: SyncSender<Vec<Entry<R>>>,
) -> Result<()> {
    for chunk in incoming {
        let (mut jobs, mut places) = (Vec::new(), Vec::new());
        for entry in chunk? {
            places.push(match entry {
                Entry::Done(job) => {
                    jobs.push(job);
                    None
                }
                Entry::Refused(refused) => Some(refused),
            });
        }
        let mut done = if jobs.is_empty() { Vec::new() } else { work(jobs)? }.into_iter();
        let entry = |refused| match refused {
            Some(refused) => Some(Entry::Refused(refused)),
            None => done.next().map(Entry::Done),
        };
        if results.send(places.into_iter().filter_map(entry).collect()).is_err() {
            break;
        }
    }
    Ok(())
}

/// A chunk in the making, and where it goes.
struct Chunks<T> {
    entries: Vec<Entry<Job<T>>>,
    tokens: usize,
    bytes: usize,
    chunk_tokens: usize,
    chunk_documents: usize,
    jobs: SyncSender<Result<Vec<Entry<Job<T>>>>>,
}

impl<T> Chunks<T> {
    /// Adds a record; false where the run has failed and nobody takes more.
    fn push(&mut self, entry: Entry<Job<T>>) -> bool {
        let (tokens, bytes) = match &entry {
            Entry::Done(job) => (job.ids.len(), job.document.bytes()),
            Entry::Refused(refused) => (0, refused.raw().len()),
        };
        let is_full = self.tokens + tokens > self.chunk_tokens
            || self.bytes + bytes > MAX_BYTES
            || self.entries.len() == self.chunk_documents;
        if is_full && !self.send() {
            return false;
        }
        self.tokens += tokens;
        self.bytes += bytes;
        self.entries.push(entry);
        true
    }

    /// Sends what there is; false where nobody takes it.
    fn send(&mut self) -> bool {
        (self.tokens, self.bytes) = (0, 0);
        let entries = std::mem::take(&mut self.entries);
        entries.is_empty() || self.jobs.send(Ok(entries)).is_ok()
    }
}

/// Sends the records in chunks, or the first error, and gives their number.
fn read<T>(
    records: impl Iterator<Item = Result<Arrival>>,
    prepare: &impl Fn(&Document) -> Result<(Vec<u32>, T)>,
    on_error: OnErrorArg,
    chunks: &mut Chunks<T>,
) -> u64 {
    let mut count = 0;
    for record in records {
        let entry = match record.and_then(|record| enter(record, prepare)) {
            Ok(entry) => entry,
            Err(error) => {
                let _ = chunks.send() && chunks.jobs.send(Err(error)).is_ok();
                return count;
            }
        };
        count += 1;
        let is_last = on_error == OnErrorArg::Stop && matches!(entry, Entry::Refused(_));
        if !chunks.push(entry) || is_last {
            break;
        }
    }
    chunks.send();
    count
}

/// Makes a job of a document. What concerns the record alone makes it one that cannot be used.
pub fn enter<T>(
    record: Arrival,
    prepare: &impl Fn(&Document) -> Result<(Vec<u32>, T)>,
) -> Result<Entry<Job<T>>> {
    let document = match record {
        Arrival::Document(document) => document,
        Arrival::Refused(refused) => return Ok(Entry::Refused(refused)),
    };
    match prepare(&document) {
        Ok((ids, extra)) => Ok(Entry::Done(Job { document, ids, extra })),
        Err(error @ Error::Record { .. }) => Ok(Entry::Refused(document.refuse(&error))),
        Err(error) => Err(error),
    }
}

/// Deals with a record that cannot be used as the user has chosen.
pub fn refuse<C: Counts>(
    on_error: OnErrorArg,
    writer: &mut OutputWriter<C>,
    refused: &Refused,
    counts: &C,
) -> Result<()> {
    match on_error {
        OnErrorArg::Stop => writer.reach(refused.mark()).and(Err(refused.error())),
        OnErrorArg::Skip => writer.set_aside(refused, counts),
        OnErrorArg::Pass => writer.pass(refused, counts),
    }
}

/// A line for a record that cannot be used.
#[derive(Serialize)]
struct PassedLine<'a> {
    index: u64,
    error: &'a str,
}

/// [`refuse`] where the output has lines about records: one that is passed over has a line that says why.
pub fn refuse_line<C: Counts>(
    on_error: OnErrorArg,
    writer: &mut OutputWriter<C>,
    refused: &Refused,
    counts: &C,
) -> Result<()> {
    if on_error != OnErrorArg::Pass {
        return refuse(on_error, writer, refused, counts);
    }
    let line = PassedLine { index: refused.line() - 1, error: refused.reason() };
    writer.pass_line(refused, &json!(line).to_string(), counts)
}

/// Names the record where the model names a document of a chunk.
pub fn name_record<T>(error: Error, jobs: &[Job<T>]) -> Error {
    match error {
        Error::Document { index, reason } if index < jobs.len() => jobs[index].document.error(reason),
        other => other,
    }
}
