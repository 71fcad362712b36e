//! Memory maps of checkpoints, on request only.

use std::{fs::File, io};

use memmap2::Mmap;

/// Maps a whole file for reading.
#[allow(unsafe_code)]
pub(super) fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the map is read-only and every bit pattern is a valid byte. What remains is that another process may
    // change or shorten the file meanwhile; the user accepts that with `--mmap`, and the default is positioned reads.
    unsafe { Mmap::map(file) }
}
