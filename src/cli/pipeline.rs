//! Reading, the model and writing, each on a thread of its own: documents flow through in order, in bounded memory.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use super::signals::Interrupt;
use crate::data::{Document, Documents};
use crate::{Error, Result};

/// Chunks that may wait between two stages.
const WAITING: usize = 2;
/// Documents of a chunk at most, however short.
const MAX_DOCUMENTS: usize = 4096;
/// How long a signal may go unnoticed while no input comes.
const PATIENCE: Duration = Duration::from_millis(100);

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
    /// Makes a job of a document, on the reading thread.
    pub prepare: Prepare,
    /// Takes a chunk of jobs through the model, on the calling thread; a result for each job.
    pub work: Work,
    /// Takes a result, in order, on the writing thread.
    pub write: Write,
    /// Tokens of a chunk, unless a single document has more.
    pub chunk_tokens: usize,
    /// Asked between chunks, and while none comes.
    pub interrupt: &'a Interrupt,
}

/// What the reader sends.
enum Message<T> {
    Chunk(Vec<Job<T>>),
    Failed(Error),
    /// All is sent, so many documents: a channel that closes without it lost its reader.
    End(u64),
}

impl<Prepare, Work, Write> Pipeline<'_, Prepare, Work, Write> {
    /// Runs all documents through the stages. The first error ends the run.
    ///
    /// The reader is left behind where the run ends early: it may wait for input that never comes.
    ///
    /// # Errors
    /// Whatever a stage returns; [`Error::Stopped`] after a signal.
    pub fn run<T, R>(self, documents: Documents) -> Result<()>
    where
        T: Send + 'static,
        R: Send,
        Prepare: Fn(Document) -> Result<Job<T>> + Send + 'static,
        Work: FnMut(Vec<Job<T>>) -> Result<Vec<R>>,
        Write: FnMut(R) -> Result<()> + Send,
    {
        let Self { prepare, mut work, mut write, chunk_tokens, interrupt } = self;
        let (jobs, incoming) = sync_channel(WAITING);
        let (results, outgoing) = sync_channel::<Vec<R>>(WAITING);
        thread::spawn(move || read(documents, &prepare, chunk_tokens, &jobs));
        thread::scope(|scope| {
            let writer = scope.spawn(move || {
                let mut written = 0;
                for result in outgoing.into_iter().flatten() {
                    write(result)?;
                    written += 1;
                }
                Ok(written)
            });
            let worked = pump(&incoming, &mut work, results, interrupt);
            let written = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            // A writer that failed closes its channel: its error is the cause.
            check_counts(worked, written?)
        })
    }
}

/// No document may get lost between the stages.
fn check_counts(read: Result<u64>, written: u64) -> Result<()> {
    let read = read?;
    if read == written {
        return Ok(());
    }
    Err(Error::Lost { read, written })
}

/// Chunks from the reader through `work` to the writer, until either ends. Gives the number of documents read.
fn pump<T, R>(
    incoming: &Receiver<Message<T>>,
    work: &mut impl FnMut(Vec<Job<T>>) -> Result<Vec<R>>,
    results: SyncSender<Vec<R>>,
    interrupt: &Interrupt,
) -> Result<u64> {
    loop {
        if let Some(signal) = interrupt.requested() {
            return Err(Error::Stopped(signal));
        }
        match incoming.recv_timeout(PATIENCE) {
            Ok(Message::Chunk(jobs)) => {
                if results.send(work(jobs)?).is_err() {
                    return Ok(0);
                }
            }
            Ok(Message::Failed(error)) => return Err(error),
            Ok(Message::End(read)) => return Ok(read),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => panic!("the reading thread panicked"),
        }
    }
}

/// Sends all documents in chunks; stops where the receiver is gone, since the run has then failed.
fn read<T>(
    documents: Documents,
    prepare: &impl Fn(Document) -> Result<Job<T>>,
    chunk_tokens: usize,
    jobs: &SyncSender<Message<T>>,
) {
    let (mut chunk, mut tokens, mut count) = (Vec::new(), 0, 0);
    for document in documents {
        let job = match document.and_then(prepare) {
            Ok(job) => job,
            Err(error) => {
                let _ = jobs.send(Message::Failed(error));
                return;
            }
        };
        let full = tokens + job.ids.len() > chunk_tokens || chunk.len() == MAX_DOCUMENTS;
        if full && !chunk.is_empty() {
            if jobs.send(Message::Chunk(std::mem::take(&mut chunk))).is_err() {
                return;
            }
            tokens = 0;
        }
        tokens += job.ids.len();
        count += 1;
        chunk.push(job);
    }
    if chunk.is_empty() || jobs.send(Message::Chunk(chunk)).is_ok() {
        let _ = jobs.send(Message::End(count));
    }
}

/// Names the record where the model names a document of a chunk.
pub fn name_record<T>(error: Error, jobs: &[Job<T>]) -> Error {
    match error {
        Error::Document { index, reason } if index < jobs.len() => jobs[index].document.error(reason),
        other => other,
    }
}
