//! Reading, the model and writing, each on a thread of its own: documents flow through in order, in bounded memory.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::signals::Interrupt;
use crate::data::{Document, Documents};
use crate::{Error, Result};

/// Chunks that may wait between two stages.
const WAITING: usize = 2;
/// Documents of a chunk at most, however short.
const MAX_DOCUMENTS: usize = 4096;
/// Bytes of a chunk's documents, unless a single one has more: they may hold much beside a short text.
const MAX_BYTES: usize = 16 << 20;
/// Documents that may wait to be prepared; few, since each may be as large as the limit for one allows.
const ARRIVED: usize = 2;
/// How often a run that waits for input looks whether it was asked to stop.
const POLL: Duration = Duration::from_millis(50);

/// Documents as they are read by a thread of their own, and [`Error::Stopped`] as soon as a signal asks for it. That
/// thread is left behind then: a read from a pipe that stays open cannot be called off.
pub struct Arrivals<'a> {
    documents: Receiver<Result<Document>>,
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
            for document in documents {
                if sender.send(document).is_err() {
                    // The run has failed.
                    break;
                }
            }
        };
        Self { documents: receiver, reader: Some(thread::spawn(read)), interrupt, stop: Arc::default() }
    }

    /// What to set so that the documents end within moments, even while the next one is waited for.
    pub fn stop(&self) -> Arc<AtomicBool> {
        self.stop.clone()
    }
}

impl Iterator for Arrivals<'_> {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(signal) = self.interrupt.requested() {
                return Some(Err(Error::Stopped(signal)));
            }
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            match self.documents.recv_timeout(POLL) {
                Ok(document) => return Some(document),
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

/// The stages of a run.
pub struct Pipeline<'a, Prepare, Work, Write> {
    /// Ends the run while it waits for input; the model looks for itself.
    pub interrupt: &'a Interrupt,
    /// Makes a job of a document, on the reading thread.
    pub prepare: Prepare,
    /// Takes a chunk of jobs through the model, on the calling thread.
    pub work: Work,
    /// Takes a result, in order, on the writing thread.
    pub write: Write,
    /// Tokens of a chunk, unless a single document has more.
    pub chunk_tokens: usize,
}

impl<Prepare, Work, Write> Pipeline<'_, Prepare, Work, Write> {
    /// Runs all documents through the stages. The first error ends the run.
    ///
    /// # Errors
    /// Whatever a stage returns; [`Error::Stopped`]; [`Error::Lost`] if fewer documents come out than went in.
    pub fn run<T, R>(self, documents: Documents) -> Result<()>
    where
        T: Send,
        R: Send,
        Prepare: Fn(Document) -> Result<Job<T>> + Send,
        Work: FnMut(Vec<Job<T>>) -> Result<Vec<R>>,
        Write: FnMut(R) -> Result<()> + Send,
    {
        let Self { interrupt, prepare, mut work, mut write, chunk_tokens } = self;
        let documents = Arrivals::new(documents, interrupt);
        let stop = documents.stop();
        let failed = stop.clone();
        thread::scope(|scope| {
            let (jobs, incoming) = sync_channel(WAITING);
            let (results, outgoing) = sync_channel::<Vec<R>>(WAITING);
            let reader = scope.spawn(move || read(documents, &prepare, chunk_tokens, &jobs));
            let writer = scope.spawn(move || {
                let count = |written, result| write(result).map(|()| written + 1);
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
    incoming: &Receiver<Result<Vec<Job<T>>>>,
    work: &mut impl FnMut(Vec<Job<T>>) -> Result<Vec<R>>,
    results: SyncSender<Vec<R>>,
) -> Result<()> {
    for chunk in incoming {
        if results.send(work(chunk?)?).is_err() {
            break;
        }
    }
    Ok(())
}

/// Sends the documents in chunks, or the first error, and gives their number.
fn read<T>(
    documents: impl Iterator<Item = Result<Document>>,
    prepare: &impl Fn(Document) -> Result<Job<T>>,
    chunk_tokens: usize,
    jobs: &SyncSender<Result<Vec<Job<T>>>>,
) -> u64 {
    let (mut chunk, mut tokens, mut bytes, mut count) = (Vec::new(), 0, 0, 0);
    for document in documents {
        let job = match document.and_then(prepare) {
            Ok(job) => job,
            Err(error) => {
                let _ = jobs.send(Err(error));
                return count;
            }
        };
        let full = tokens + job.ids.len() > chunk_tokens
            || bytes + job.document.bytes() > MAX_BYTES
            || chunk.len() == MAX_DOCUMENTS;
        if full && !chunk.is_empty() {
            // The receiver is gone where the run has failed: nothing is left to do.
            if jobs.send(Ok(std::mem::take(&mut chunk))).is_err() {
                return count;
            }
            (tokens, bytes) = (0, 0);
        }
        count += 1;
        tokens += job.ids.len();
        bytes += job.document.bytes();
        chunk.push(job);
    }
    if !chunk.is_empty() {
        let _ = jobs.send(Ok(chunk));
    }
    count
}

/// Names the record where the model names a document of a chunk.
pub fn name_record<T>(error: Error, jobs: &[Job<T>]) -> Error {
    match error {
        Error::Document { index, reason } if index < jobs.len() => jobs[index].document.error(reason),
        other => other,
    }
}
