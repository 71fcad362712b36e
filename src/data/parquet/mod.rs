//! Parquet in and out. Columns are read and written by their physical types, never converted: whatever is not edited,
//! nested columns, decimals, old time stamps, comes out with the type and the values that it had.
//!
//! Writing goes by frames, each a Parquet file of one row group; the final file is put together from their pages, and the
//! pages are not encoded again.

mod arrow;
mod assemble;
mod chunks;
mod cursor;
mod frame;
mod framing;
mod json;
mod layout;
mod leaf;
mod pages;
mod row;
mod rows;
mod scalar;
mod table;
mod thrift;

use std::fs::File;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use parquet::errors::ParquetError;

pub(super) use framing::RowFraming;
pub(super) use row::Row;
pub(super) use rows::Rows;

use crate::data::source::is_dash;
use crate::{Error, Result};

/// First and last bytes of a file.
pub(super) const MAGIC: &[u8] = b"PAR1";
/// The same where the footer is encrypted.
const ENCRYPTED: &[u8] = b"PARE";

/// The column that holds token ids.
const IDS: &str = "input_ids";
/// The column that holds what an edit did.
const METADATA: &str = "toedit";

/// Whether `path` is a regular file that begins as a Parquet file does.
pub(super) fn begins(path: &Path) -> Result<bool> {
    if is_dash(path) {
        return Ok(false);
    }
    let failed = |e| Error::io(path, e);
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        return Ok(false);
    }
    let mut head = Vec::new();
    File::open(path).and_then(|file| file.take(4).read_to_end(&mut head)).map_err(failed)?;
    Ok(head == MAGIC || head == ENCRYPTED)
}

/// Runs `work`, a call into the crate. What it says, and a panic in it, becomes an error that names the file.
fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T, ParquetError>) -> Result<T> {
    // What `work` borrows is not used any more after it has failed.
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(ParquetError::External(error))) => Err(match error.downcast::<std::io::Error>() {
            Ok(error) if error.raw_os_error().is_some() => Error::io(path, *error),
            // Of a decompressor.
            Ok(error) => malformed(path, &error.to_string()),
            Err(error) => malformed(path, &error.to_string()),
        }),
        Ok(Err(ParquetError::General(reason) | ParquetError::EOF(reason) | ParquetError::NYI(reason))) => {
            Err(malformed(path, &reason))
        }
        Ok(Err(error)) => Err(malformed(path, &error.to_string())),
        Err(payload) => {
            let text = payload.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("unknown reason");
            Err(malformed(path, &format!("reading it panicked: {text}")))
        }
    }
}

fn malformed(path: &Path, reason: &str) -> Error {
    Error::file(path, format!("malformed parquet: {reason}"))
}
