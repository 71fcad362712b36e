//! Documents in, documents out: records, patches, compression, inputs and outputs.

mod compression;
mod faults;
mod inputs;
mod messages;
mod outputs;
#[cfg(feature = "parquet")]
mod parquet;
mod patches;
mod records;
mod shards;
mod tokens;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use toedit::Result;
use toedit::data::{Document, Documents, Inputs, ReadOptions};

/// Writes `bytes` to a new file of that name.
fn put(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

/// All documents and errors of `path`.
fn read(path: &Path) -> Vec<Result<Document>> {
    read_with(path, ReadOptions::default())
}

fn read_with(path: &Path, options: ReadOptions) -> Vec<Result<Document>> {
    Inputs::expand(&[path.to_owned()]).unwrap().documents(options).unwrap().collect()
}

/// The documents of `path`, one at a time.
fn documents(path: &Path) -> Documents {
    Inputs::expand(&[path.to_owned()]).unwrap().documents(ReadOptions::default()).unwrap()
}

/// The texts of documents that must all be readable.
fn texts(documents: Vec<Result<Document>>) -> Vec<String> {
    documents.into_iter().map(|document| document.unwrap().text().unwrap().to_owned()).collect()
}

/// Checks that an error names `place` and says `what`.
#[track_caller]
fn assert_error<T>(result: Result<T>, place: &str, what: &str) {
    let message = match result {
        Ok(_) => panic!("expected an error about {what:?}"),
        Err(error) => error.to_string(),
    };
    assert!(message.contains(place) && message.contains(what), "{message:?} lacks {place:?} or {what:?}");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
