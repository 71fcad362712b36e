//! Reading, the model and writing, each on a thread of its own: documents flow through in order, in bounded memory.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use crate::data::Document;
use crate::{Error, Result};

/// Chunks that may wait between two stages.
const WAITING: usize = 2;
/// Documents of a chunk at most, however short.
const MAX_DOCUMENTS: usize = 4096;

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
pub struct Pipeline<Prepare, Work, Write> {
    /// Makes a job of a document, on the reading thread.
    pub prepare: Prepare,
    /// Takes a chunk of jobs through the model, on the calling thread.
    pub work: Work,
    /// Takes a result, in order, on the writing thread.
    pub write: Write,
    /// Tokens of a chunk, unless a single document has more.
    pub chunk_tokens: usize,
}

impl<Prepare, Work, Write> Pipeline<Prepare, Work, Write> {
    /// Runs all documents through the stages. The first error ends the run.
    ///
    /// # Errors
    /// Whatever a stage returns.
    pub fn run<T, R>(self, documents: impl Iterator<Item = Result<Document>> + Send) -> Result<()>
    where
        T: Send,
        R: Send,
        Prepare: Fn(Document) -> Result<Job<T>> + Send,
        Work: FnMut(Vec<Job<T>>) -> Result<Vec<R>>,
        Write: FnMut(R) -> Result<()> + Send,
    {
        let Self { prepare, mut work, mut write, chunk_tokens } = self;
        thread::scope(|scope| {
            let (jobs, incoming) = sync_channel(WAITING);
            let (results, outgoing) = sync_channel::<Vec<R>>(WAITING);
            scope.spawn(move || read(documents, &prepare, chunk_tokens, &jobs));
            let writer = scope.spawn(move || outgoing.into_iter().flatten().try_for_each(&mut write));
            let worked = pump(&incoming, &mut work, results);
            // Lets the reader go where it waits to hand over a chunk.
            drop(incoming);
            let written = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
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
