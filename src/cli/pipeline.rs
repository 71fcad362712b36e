//! Reading, the model and writing, each on a thread of its own: documents flow through in order, in bounded memory.

use std::panic::resume_unwind;
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
/// Documents that may wait to be prepared.
const ARRIVED: usize = 16;
/// How often a run that waits for input looks whether it was asked to stop.
const POLL: Duration = Duration::from_millis(50);

/// Documents as they are read by a thread of their own, and [`Error::Stopped`] as soon as a signal asks for it. That
/// thread is left behind then: a read from a pipe that stays open cannot be called off.
pub struct Arrivals<'a> {
    documents: Receiver<Result<Document>>,
    reader: Option<JoinHandle<()>>,
    interrupt: &'a Interrupt,
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
        Self { documents: receiver, reader: Some(thread::spawn(read)), interrupt }
    }
}

impl Iterator for Arrivals<'_> {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(signal) = self.interrupt.requested() {
                return Some(Err(Error::Stopped(signal)));
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
    /// Ends the run between two chunks, or while it waits for input.
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
    /// Whatever a stage returns; [`Error::Stopped`].
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
        thread::scope(|scope| {
            let (jobs, incoming) = sync_channel(WAITING);
            let (results, outgoing) = sync_channel::<Vec<R>>(WAITING);
            let reader = scope.spawn(move || read(documents, &prepare, chunk_tokens, &jobs));
            let writer = scope.spawn(move || outgoing.into_iter().flatten().try_for_each(&mut write));
            let mut uninterrupted = |jobs| match interrupt.requested() {
                Some(signal) => Err(Error::Stopped(signal)),
                None => work(jobs),
            };
            let worked = pump(&incoming, &mut uninterrupted, results);
            // Lets the reader go where it waits to hand over a chunk.
            drop(incoming);
            let written = writer.join().unwrap_or_else(|panic| resume_unwind(panic));
            reader.join().unwrap_or_else(|panic| resume_unwind(panic));
            // A writer that failed closes its channel: its error is the cause.
            written.and(worked)
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

fn read<T>(
    documents: impl Iterator<Item = Result<Document>>,
    prepare: &impl Fn(Document) -> Result<Job<T>>,
    chunk_tokens: usize,
    jobs: &SyncSender<Result<Vec<Job<T>>>>,
) {
    let (mut chunk, mut tokens) = (Vec::new(), 0);
    for document in documents {
        let job = match document.and_then(prepare) {
            Ok(job) => job,
            Err(error) => {
                let _ = jobs.send(Err(error));
                return;
            }
        };
        let full = tokens + job.ids.len() > chunk_tokens || chunk.len() == MAX_DOCUMENTS;
        if full && !chunk.is_empty() {
            // The receiver is gone where the run has failed: nothing is left to do.
            if jobs.send(Ok(std::mem::take(&mut chunk))).is_err() {
                return;
            }
            tokens = 0;
        }
        tokens += job.ids.len();
        chunk.push(job);
    }
    if !chunk.is_empty() {
        let _ = jobs.send(Ok(chunk));
    }
}

/// Names the record where the model names a document of a chunk.
pub fn name_record<T>(error: Error, jobs: &[Job<T>]) -> Error {
    match error {
        Error::Document { index, reason } if index < jobs.len() => jobs[index].document.error(reason),
        other => other,
    }
}
