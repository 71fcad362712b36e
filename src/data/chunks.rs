//! Documents in chunks, worked on by all threads, in order.

use rayon::prelude::*;

use super::document::Document;
use crate::Result;

/// Documents of a chunk at most, however short.
const MAX_DOCUMENTS: usize = 4096;

/// The next documents: about `bytes` of them unless a single one has more, and none at the end.
///
/// # Errors
/// The first that reading meets.
pub(crate) fn next_chunk(
    documents: &mut impl Iterator<Item = Result<Document>>,
    bytes: usize,
) -> Result<Vec<Document>> {
    let (mut chunk, mut size) = (Vec::new(), 0);
    while chunk.len() < MAX_DOCUMENTS && size < bytes {
        let Some(document) = documents.next().transpose()? else { break };
        size += document.bytes();
        chunk.push(document);
    }
    Ok(chunk)
}

/// Hands each document with what `work` makes of it to `each`, in order, `bytes` or so at a time: the next are read while
/// all threads work.
///
/// # Errors
/// The first in the documents' order, however the threads ran.
pub(crate) fn map_in_order<R: Send>(
    documents: impl Iterator<Item = Result<Document>> + Send,
    bytes: usize,
    work: impl Fn(&Document) -> Result<R> + Sync,
    mut each: impl FnMut(&Document, R) -> Result<()>,
) -> Result<()> {
    let mut documents = documents.fuse();
    let mut chunk = next_chunk(&mut documents, bytes)?;
    while !chunk.is_empty() {
        let (next, done) = rayon::join(
            || next_chunk(&mut documents, bytes),
            || chunk.par_iter().map(&work).collect::<Vec<Result<R>>>(),
        );
        chunk.iter().zip(done).try_for_each(|(document, done)| each(document, done?))?;
        chunk = next?;
    }
    Ok(())
}
