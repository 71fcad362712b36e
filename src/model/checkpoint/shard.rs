//! One safetensors file: opened once, read at positions by many threads.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, ErrorKind},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use memmap2::Mmap;
use rayon::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::header::{Entry, HEADER_LIMIT, parse};
use crate::{Error, Result, map::map, model::folder::open_regular};

/// Bytes hashed at a time; part of the fingerprint's definition.
const HASH_CHUNK: u64 = 4 << 20;
/// Bytes of the header's length.
const PREFIX: u64 = 8;

/// An open file of a checkpoint.
#[derive(Debug)]
pub(super) struct Shard {
    pub path: PathBuf,
    file: File,
    map: Option<Mmap>,
    len: u64,
    /// Where the data starts.
    data: u64,
}

impl Shard {
    /// Opens `path` and reads its header.
    pub fn open(path: &Path, mmap: bool) -> Result<(Self, BTreeMap<String, Entry>)> {
        let (file, len) = open_regular(path)?;
        let map = mmap.then(|| map(&file)).transpose().map_err(|source| Error::io(path, source))?;
        let mut shard = Self { path: path.to_owned(), file, map, len, data: 0 };
        let header = shard.read_header()?;
        shard.data = PREFIX + header.len() as u64;
        let entries = parse(&header, len - shard.data, path)?;
        Ok((shard, entries))
    }

    fn read_header(&self) -> Result<Vec<u8>> {
        let Some(rest) = self.len.checked_sub(PREFIX) else {
            return Err(Error::file(&self.path, format!("{} bytes, too short for safetensors", self.len)));
        };
        let mut prefix = [0; PREFIX as usize];
        self.read_at(0, &mut prefix)?;
        let header_len = u64::from_le_bytes(prefix);
        if header_len > rest || header_len > HEADER_LIMIT {
            let reason =
                format!("a header of {header_len} bytes, expected at most {}", rest.min(HEADER_LIMIT));
            return Err(Error::file(&self.path, reason));
        }
        let mut header = vec![0; header_len as usize];
        self.read_at(PREFIX, &mut header)?;
        Ok(header)
    }

    /// `len` bytes of data from `offset`: of the map, or read into `bounce`.
    pub fn data<'a>(&'a self, offset: u64, len: usize, bounce: &'a mut Vec<u8>) -> Result<&'a [u8]> {
        self.bytes(self.data + offset, len, bounce)
    }

    /// XXH3-64 of the hashes of the file's chunks. Reads the whole file, in parallel.
    pub fn hash(&self) -> Result<u64> {
        let hashes = (0..self.len.div_ceil(HASH_CHUNK))
            .into_par_iter()
            .map_init(Vec::new, |bounce, chunk| {
                let start = chunk * HASH_CHUNK;
                let len = HASH_CHUNK.min(self.len - start) as usize;
                Ok(xxh3_64(self.bytes(start, len, bounce)?))
            })
            .collect::<Result<Vec<_>>>()?;
        let bytes: Vec<u8> = hashes.into_iter().flat_map(u64::to_le_bytes).collect();
        Ok(xxh3_64(&bytes))
    }

    fn bytes<'a>(&'a self, start: u64, len: usize, bounce: &'a mut Vec<u8>) -> Result<&'a [u8]> {
        if let Some(map) = &self.map {
            let start = start as usize;
            return map.get(start..start + len).ok_or_else(|| self.io(ErrorKind::UnexpectedEof.into()));
        }
        bounce.resize(len, 0);
        self.read_at(start, bounce)?;
        Ok(bounce)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.file.read_exact_at(out, offset).map_err(|source| self.io(source))
    }

    fn io(&self, source: io::Error) -> Error {
        if source.kind() == ErrorKind::UnexpectedEof {
            return Error::file(&self.path, "ends early: it was shortened while it was being read");
        }
        Error::io(&self.path, source)
    }
}
