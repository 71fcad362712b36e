//! Checkpoints: tensors in safetensors files, read where they lie and widened to f32.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Range,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use half::{f16, slice::HalfFloatSliceExt};
use rayon::prelude::*;
pub use safetensors::Dtype;
use serde::Deserialize;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::{
    config::FILE_LIMIT,
    folder::{CONFIG, WeightFiles, is_plain_name, read_small, weight_files},
    names::PREFIXES,
};
use crate::{Error, Result};

mod header;
mod shard;

use header::{Entry, Unique, tensor_error};
use shard::Shard;

/// Elements read and widened at a time: both forms stay in a core's cache.
const CHUNK: usize = 1 << 15;
/// The largest index of shards, bytes.
const INDEX_LIMIT: u64 = 64 << 20;

thread_local! {
    /// Raw bytes on their way to f32.
    static BOUNCE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The tensors of a model folder: `model.safetensors`, or the shards that `model.safetensors.index.json` lists.
///
/// Opening reads the headers only. Reads take `&self` and may run on many threads at once.
#[derive(Debug)]
pub struct Checkpoint {
    folder: PathBuf,
    /// The single file or the index, for messages about missing tensors.
    path: PathBuf,
    shards: Vec<Shard>,
    tensors: HashMap<String, (usize, Entry)>,
    fingerprint: OnceLock<u64>,
}

impl Checkpoint {
    /// Opens the weights of a model folder, with positioned reads or (`mmap`) memory maps. A mapped file that another
    /// process shortens meanwhile ends this one.
    ///
    /// # Errors
    /// Where there are no weights, only pickled ones, or a file is malformed; names the file and the tensor.
    pub fn open(folder: &Path, mmap: bool) -> Result<Self> {
        let (path, weight_map) = match weight_files(folder)? {
            WeightFiles::Single(path) => (path, None),
            WeightFiles::Indexed(path) => {
                let weight_map = read_index(&path)?;
                (path, Some(weight_map))
            }
        };
        let files: BTreeSet<PathBuf> = match &weight_map {
            None => [path.clone()].into(),
            Some(weight_map) => weight_map.values().map(|name| folder.join(name)).collect(),
        };
        let mut checkpoint = Self {
            folder: folder.to_owned(),
            path,
            shards: Vec::new(),
            tensors: HashMap::new(),
            fingerprint: OnceLock::new(),
        };
        for file in &files {
            checkpoint.add(file, mmap)?;
        }
        checkpoint.check_index(&weight_map.unwrap_or_default())?;
        Ok(checkpoint)
    }

    /// Opens one safetensors file that belongs to no model.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_file(path: &Path) -> Result<Self> {
        let mut checkpoint = Self {
            folder: path.parent().unwrap_or(Path::new("")).to_owned(),
            path: path.to_owned(),
            shards: Vec::new(),
            tensors: HashMap::new(),
            fingerprint: OnceLock::new(),
        };
        checkpoint.add(path, false)?;
        Ok(checkpoint)
    }

    /// Adds the tensors of one file.
    fn add(&mut self, path: &Path, mmap: bool) -> Result<()> {
        let (shard, entries) = Shard::open(path, mmap)?;
        let index = self.shards.len();
        for (name, entry) in entries {
            if let Some((other, _)) = self.tensors.get(&name) {
                let other = self.shards[*other].path.display();
                return Err(tensor_error(path, &name, format!("also in {other}")));
            }
            self.tensors.insert(name, (index, entry));
        }
        self.shards.push(shard);
        Ok(())
    }

    /// Checks that each tensor lies where the index says.
    fn check_index(&self, weight_map: &BTreeMap<String, String>) -> Result<()> {
        for (name, file) in weight_map {
            let found = self.tensors.get(name).map(|(shard, _)| &self.shards[*shard].path);
            if found != Some(&self.folder.join(file)) {
                let found = found.map_or("no shard".to_owned(), |path| path.display().to_string());
                return Err(tensor_error(&self.path, name, format!("found in {found}, expected in {file}")));
            }
        }
        Ok(())
    }

    /// The tensor `name`, with or without the base model's prefix, of exactly this shape and in F32, F16 or BF16.
    ///
    /// # Errors
    /// [`Error::Tensor`] that says what was found and what is expected.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor<'_>> {
        let Some((name, (shard, entry))) = self.find(name) else {
            return Err(tensor_error(&self.path, name, format!("missing, expected shape {shape:?}")));
        };
        let shard = &self.shards[*shard];
        if entry.shape != shape {
            let reason = format!("found shape {:?}, expected shape {shape:?} by {CONFIG}", entry.shape);
            return Err(tensor_error(&shard.path, name, reason));
        }
        if !matches!(entry.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            let reason = format!("found dtype {:?}, expected F32, F16 or BF16", entry.dtype);
            return Err(tensor_error(&shard.path, name, reason));
        }
        Ok(Tensor { name, shard, entry })
    }

    /// Whether there is a tensor `name`, with or without the base model's prefix.
    pub fn contains(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// The identity of the model, for telling whether two runs used the same one: XXH3-64 over `config.json` and each
    /// file's headers and contents. Reads everything the first time.
    pub fn fingerprint(&self) -> Result<u64> {
        if let Some(fingerprint) = self.fingerprint.get() {
            return Ok(*fingerprint);
        }
        let config = read_small(&self.folder.join(CONFIG), FILE_LIMIT)?;
        let mut hasher = Xxh3::new();
        hasher.update(&xxh3_64(&config).to_le_bytes());
        for shard in &self.shards {
            hasher.update(&shard.hash()?.to_le_bytes());
        }
        Ok(*self.fingerprint.get_or_init(|| hasher.digest()))
    }

    fn find(&self, name: &str) -> Option<(&str, &(usize, Entry))> {
        let get = |name: &str| self.tensors.get_key_value(name);
        let without = || PREFIXES.iter().find_map(|prefix| get(name.strip_prefix(prefix)?));
        let with = || PREFIXES.iter().find_map(|prefix| get(&format!("{prefix}{name}")));
        let (name, place) = get(name).or_else(without).or_else(with)?;
        Some((name, place))
    }
}

/// Reads which file holds which tensor. Files are named plainly: an index cannot point outside its folder.
fn read_index(path: &Path) -> Result<BTreeMap<String, String>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: Unique<String>,
    }
    let json = read_small(path, INDEX_LIMIT)?;
    let Index { weight_map: Unique(weight_map) } = serde_json::from_slice(&json)
        .map_err(|error| Error::file(path, format!("malformed index: {error}")))?;
    if weight_map.is_empty() {
        return Err(Error::file(path, "an empty weight_map, expected the names of tensors and files"));
    }
    for (tensor, file) in &weight_map {
        if !is_plain_name(file) || !file.ends_with(".safetensors") {
            let file: String = file.chars().take(80).collect();
            let reason = format!("in the file {file:?}, expected a plain name ending in .safetensors");
            return Err(tensor_error(path, tensor, reason));
        }
    }
    Ok(weight_map)
}

/// A tensor in a [`Checkpoint`].
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'a> {
    name: &'a str,
    shard: &'a Shard,
    entry: &'a Entry,
}

impl Tensor<'_> {
    /// Its name in the file.
    pub fn name(&self) -> &str {
        self.name
    }

    /// Its shape.
    pub fn shape(&self) -> &[usize] {
        &self.entry.shape
    }

    /// Its type in the file: F32, F16 or BF16.
    pub fn dtype(&self) -> Dtype {
        self.entry.dtype
    }

    /// Its number of elements.
    pub fn elements(&self) -> usize {
        self.entry.shape.iter().product()
    }

    /// Reads a range of its elements (row-major) into `out`, which has as many.
    ///
    /// # Errors
    /// NaN and infinity, with the element's index; what the operating system reports.
    ///
    /// # Panics
    /// If the range exceeds the tensor or differs from `out` in length.
    pub fn read(&self, elements: Range<usize>, out: &mut [f32]) -> Result<()> {
        assert!(elements.end <= self.elements() && elements.len() == out.len(), "{elements:?} of {self:?}");
        let width = self.entry.dtype.bitsize() / 8;
        BOUNCE.with_borrow_mut(|bounce| {
            for (first, out) in elements.step_by(CHUNK).zip(out.chunks_mut(CHUNK)) {
                let offset = self.entry.start + (first * width) as u64;
                let bytes = self.shard.data(offset, out.len() * width, bounce)?;
                widen(self.entry.dtype, bytes, out);
                self.check_finite(first, out)?;
            }
            Ok(())
        })
    }

    /// The whole tensor, read in parallel.
    pub fn to_vec(&self) -> Result<Vec<f32>> {
        let mut values = vec![0.0; self.elements()];
        values.par_chunks_mut(CHUNK).enumerate().try_for_each(|(chunk, out)| {
            let first = chunk * CHUNK;
            self.read(first..first + out.len(), out)
        })?;
        Ok(values)
    }

    fn check_finite(&self, first: usize, values: &[f32]) -> Result<()> {
        // Adding one to an exponent of all ones carries into the sign bit. An OR, unlike a search, vectorises.
        let carried =
            values.iter().fold(0, |carried, v| carried | ((v.to_bits() & 0x7fff_ffff) + 0x0080_0000));
        if carried >> 31 == 0 {
            return Ok(());
        }
        let at = values.iter().position(|value| !value.is_finite()).expect("a value carried");
        let reason = format!("element {} is {}, expected finite numbers", first + at, values[at]);
        Err(tensor_error(&self.shard.path, self.name, reason))
    }
}

/// Widens little-endian elements to f32.
fn widen(dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    match dtype {
        Dtype::BF16 => {
            for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                *out = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
            }
        }
        Dtype::F16 => widen_f16(bytes, out),
        _ => {
            for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                *out = f32::from_le_bytes(*bytes);
            }
        }
    }
}

/// By way of an aligned block, on which `half` uses the processor's instructions.
fn widen_f16(bytes: &[u8], out: &mut [f32]) {
    let mut block = [f16::ZERO; 512];
    for (bytes, out) in bytes.chunks(2 * block.len()).zip(out.chunks_mut(block.len())) {
        let block = &mut block[..out.len()];
        for (value, bytes) in block.iter_mut().zip(bytes.as_chunks().0) {
            *value = f16::from_le_bytes(*bytes);
        }
        block.convert_to_f32_slice(out);
    }
}
