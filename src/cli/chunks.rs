//! Records in chunks, worked on by all threads, in order.

use rayon::prelude::*;

use crate::Result;
use crate::data::{Document, Line};

/// What a record takes beside its bytes, about.
const OVERHEAD: usize = 256;
/// Chunks for each thread at a time, so that none waits long for the others.
const CHUNKS_PER_THREAD: usize = 2;

/// Something that is read and takes memory.
pub trait Weight: Send + Sync {
    /// Bytes, about.
    fn size(&self) -> usize;
}

impl Weight for Document {
    fn size(&self) -> usize {
        self.bytes() + OVERHEAD
    }
}

impl Weight for Line {
    fn size(&self) -> usize {
        self.bytes() + OVERHEAD
    }
}

/// Hands chunks of records with what `work` makes of each to `each`, in order; the next are read while all threads work.
/// Where one chunk ends and another begins, after about `bytes`, depends on the records alone.
///
/// # Errors
/// The first in the records' order, however the threads ran.
pub fn map_chunks<T: Weight, R: Send>(
    records: impl Iterator<Item = Result<T>> + Send,
    bytes: usize,
    work: impl Fn(&[T]) -> Result<R> + Sync,
    mut each: impl FnMut(&[T], R) -> Result<()>,
) -> Result<()> {
    let mut records = records.fuse();
    let mut batch = next_batch(&mut records, bytes)?;
    while !batch.is_empty() {
        let (next, done) = rayon::join(
            || next_batch(&mut records, bytes),
            || batch.par_iter().map(|chunk| work(chunk)).collect::<Vec<Result<R>>>(),
        );
        batch.iter().zip(done).try_for_each(|(chunk, done)| each(chunk, done?))?;
        batch = next?;
    }
    Ok(())
}

/// The next chunks, some for each thread; none at the end.
fn next_batch<T: Weight>(records: &mut impl Iterator<Item = Result<T>>, bytes: usize) -> Result<Vec<Vec<T>>> {
    let mut batch = Vec::new();
    while batch.len() < CHUNKS_PER_THREAD * rayon::current_num_threads() {
        let chunk = next_chunk(records, bytes)?;
        if chunk.is_empty() {
            break;
        }
        batch.push(chunk);
    }
    Ok(batch)
}

/// The next records: about `bytes` of them unless a single one has more; none at the end.
fn next_chunk<T: Weight>(records: &mut impl Iterator<Item = Result<T>>, bytes: usize) -> Result<Vec<T>> {
    let (mut chunk, mut size) = (Vec::new(), 0);
    while size < bytes {
        let Some(record) = records.next().transpose()? else { break };
        size += record.size();
        chunk.push(record);
    }
    Ok(chunk)
}
