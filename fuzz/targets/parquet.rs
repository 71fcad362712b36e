//! A Parquet file: its footer, its pages, its rows as records. Panics of the library that decodes them become errors.
#![no_main]

use std::io::{Seek, Write};
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use toedit::data::{Format, Inputs, Patch, ReadOptions};

/// In memory where the system has such a folder: the reader wants a file.
fn place() -> &'static Path {
    let shared = Path::new("/dev/shm");
    if shared.is_dir() { shared } else { Path::new("/tmp") }
}

fn read(path: &Path) -> toedit::Result<()> {
    let inputs = Inputs::expand(&[path.to_owned()])?;
    for document in inputs.documents(ReadOptions { max_document_bytes: 1 << 20, ..ReadOptions::default() })? {
        let line = document?.render(&Patch::default(), Format::JsonLines)?;
        let row: Result<serde_json::Value, _> = serde_json::from_slice(&line);
        assert!(row.is_ok_and(|row| row.is_object()), "{}", String::from_utf8_lossy(&line));
    }
    Ok(())
}

fuzz_target!(
    // The default one ends the process at panics that are caught.
    init: std::panic::set_hook(Box::new(|_| {})),
    |bytes: &[u8]| {
        thread_local! {
            static FILE: tempfile::NamedTempFile =
                tempfile::Builder::new().suffix(".parquet").tempfile_in(place()).expect("a file for the case");
        }
        FILE.with(|temporary| {
            let mut file = temporary.as_file();
            let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(bytes));
            written.expect("room for the case");
            // An error is an answer.
            let _ = read(temporary.path());
        });
    }
);
