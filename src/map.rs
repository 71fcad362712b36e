//! Memory maps: of checkpoints on request, of token shards always.

use std::{fs::File, io};

use memmap2::Mmap;

/// Maps a whole file for reading.
#[allow(unsafe_code)]
pub(crate) fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the map is read-only and every bit pattern is a valid byte. What remains is that another process may
    // change or shorten the file meanwhile. For checkpoints the user accepts that with `--mmap`, the default being positioned
    // reads; token shards are complete once they have their names, and nothing writes to them again.
    unsafe { Mmap::map(file) }
}
