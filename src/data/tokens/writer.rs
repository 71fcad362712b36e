//! Writing token shards, one document at a time.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::manifest::{MANIFEST, Manifest, ShardEntry};
use super::{ENDS, SPANS, TOKENS, shard_file};
use crate::data::Sink;
use crate::{Error, Result};

/// Tokens of a shard unless [`WriterConfig`] says otherwise: 200 or 400 MB.
pub const DEFAULT_SHARD_TOKENS: u64 = 100_000_000;

/// What a [`TokenWriter`] must know.
#[derive(Clone, Debug)]
pub struct WriterConfig {
    /// Ids are below it.
    pub vocab_size: u32,
    /// The id that ends a text, if there is one. It is not written; it is looked for.
    pub eos: Option<u32>,
    /// Tokens of a shard, unless a single document has more.
    pub shard_tokens: u64,
    /// Whose tokenizer made the ids.
    pub tokenizer: String,
    /// A hash of that tokenizer's file, where known.
    pub tokenizer_hash: Option<String>,
    /// Of all that the tokens depend on, so that finished shards can be known again.
    pub fingerprint: Option<String>,
}

impl WriterConfig {
    /// Shards of the usual size.
    pub fn new(vocab_size: u32, eos: Option<u32>) -> Self {
        Self {
            vocab_size,
            eos,
            shard_tokens: DEFAULT_SHARD_TOKENS,
            tokenizer: String::new(),
            tokenizer_hash: None,
            fingerprint: None,
        }
    }
}

/// Writes a folder of token shards in bounded memory. Files appear under their names when they are complete, the
/// manifest last: dropped or killed before [`TokenWriter::finish`], it leaves a folder that does not open.
pub struct TokenWriter {
    folder: PathBuf,
    shard_tokens: u64,
    manifest: Manifest,
    /// Open, hence locked, from the beginning.
    sink: Sink,
    shard: Option<ShardWriter>,
    /// The last token of the last document that has one.
    last: Option<u32>,
    /// Nothing of an earlier run stands in the way of this one's shards any more.
    cleared: bool,
}

impl TokenWriter {
    /// Whether [`TokenWriter::create`] can be expected to work: to be asked before anything long begins.
    ///
    /// # Errors
    /// As [`TokenWriter::create`].
    pub fn check(folder: &Path, overwrite: bool) -> Result<()> {
        match fs::metadata(folder) {
            Ok(metadata) if metadata.is_dir() => Sink::check(&folder.join(MANIFEST), overwrite),
            Ok(_) => Err(Error::file(folder, "exists and is not a folder, which token shards need")),
            Err(_) => Ok(()),
        }
    }

    /// Begins to write to `folder`, which is made where there is none. With `overwrite`, shards that lie there are
    /// replaced as soon as the first new one is complete.
    ///
    /// # Errors
    /// The folder holds finished shards and `overwrite` is false; [`Error::Busy`] if another process writes to it; the
    /// system refuses; a vocabulary without `eos`.
    pub fn create(folder: &Path, config: WriterConfig, overwrite: bool) -> Result<Self> {
        if let Some(eos) = config.eos.filter(|&eos| eos >= config.vocab_size) {
            return Err(Error::Usage(format!("eos token {eos}: expected less than {}", config.vocab_size)));
        }
        Self::check(folder, overwrite)?;
        fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        let sink = Sink::create(&folder.join(MANIFEST), overwrite)?;
        let mut manifest = Manifest::new(config.vocab_size, config.eos);
        manifest.tokenizer = config.tokenizer;
        manifest.tokenizer_hash = config.tokenizer_hash;
        manifest.fingerprint = config.fingerprint;
        let shard_tokens = config.shard_tokens.max(1);
        let folder = folder.to_owned();
        Ok(Self { folder, shard_tokens, manifest, sink, shard: None, last: None, cleared: false })
    }

    /// Appends a document, which may be empty. `loss` are the runs of its tokens that carry loss, ascending and apart;
    /// `None` where all do.
    ///
    /// # Errors
    /// [`Error::Document`] for an id past the vocabulary or runs that do not fit the document; the system's.
    pub fn push(&mut self, ids: &[u32], loss: Option<&[Range<usize>]>) -> Result<()> {
        self.check_document(ids, loss)
            .map_err(|reason| Error::Document { index: self.manifest.documents as usize, reason })?;
        let tokens = ids.len() as u64;
        let is_full = |shard: &ShardWriter| {
            let held = shard.entry.tokens;
            held > 0 && held.saturating_add(tokens) > self.shard_tokens
        };
        if self.shard.as_ref().is_some_and(is_full) {
            self.close_shard()?;
        }
        let shard = match &mut self.shard {
            Some(shard) => shard,
            None => {
                let number = self.manifest.shards.len();
                self.shard.insert(ShardWriter::create(&self.folder, number, self.manifest.bytes_per_token)?)
            }
        };
        shard.push(ids, loss)?;
        self.manifest.documents += 1;
        self.manifest.tokens += tokens;
        self.count_separator(ids);
        Ok(())
    }

    /// Completes all files, and gives the manifest.
    ///
    /// # Errors
    /// The system's: the folder does not open then.
    pub fn finish(mut self) -> Result<Manifest> {
        self.close_shard()?;
        self.clear()?;
        self.remove_shards_from(self.manifest.shards.len())?;
        let path = self.folder.join(MANIFEST);
        let mut text =
            serde_json::to_string_pretty(&self.manifest).map_err(|error| Error::file(&path, error))?;
        text.push('\n');
        self.sink.write(text.as_bytes())?;
        self.sink.finish()?;
        Ok(self.manifest)
    }

    fn check_document(&self, ids: &[u32], loss: Option<&[Range<usize>]>) -> Result<(), String> {
        let vocabulary = self.manifest.vocab_size;
        if let Some((position, id)) = ids.iter().enumerate().find(|(_, id)| **id >= vocabulary) {
            return Err(format!("token {position} has id {id}: expected less than {vocabulary}"));
        }
        let mut end = 0;
        for run in loss.unwrap_or_default() {
            if run.start < end || run.end <= run.start || run.end > ids.len() {
                let (start, stop, len) = (run.start, run.end, ids.len());
                return Err(format!(
                    "tokens {start} to {stop} cannot carry loss: expected runs within {len}"
                ));
            }
            end = run.end;
        }
        Ok(())
    }

    /// Counts the place before a document where no end of a text stands yet.
    fn count_separator(&mut self, ids: &[u32]) {
        let Some(&last) = ids.last() else { return };
        let eos = self.manifest.eos_token_id;
        if self.last.is_some() && self.last != eos && ids.first().copied() != eos {
            self.manifest.separators += 1;
        }
        self.last = Some(last);
    }

    fn close_shard(&mut self) -> Result<()> {
        if let Some(shard) = self.shard.take() {
            self.clear()?;
            let entry = shard.finish(&self.folder, self.manifest.shards.len())?;
            self.manifest.response_spans |= entry.spans.is_some();
            self.manifest.shards.push(entry);
        }
        Ok(())
    }

    /// Takes the manifest of an earlier run away, whose shards are about to be replaced.
    fn clear(&mut self) -> Result<()> {
        if !self.cleared {
            remove(&self.folder.join(MANIFEST))?;
            self.cleared = true;
        }
        Ok(())
    }

    /// Removes what an earlier run with more shards has left.
    fn remove_shards_from(&self, first: usize) -> Result<()> {
        for number in first.. {
            if !remove(&self.folder.join(shard_file(number, TOKENS)))? {
                break;
            }
            remove(&self.folder.join(shard_file(number, ENDS)))?;
            remove(&self.folder.join(shard_file(number, SPANS)))?;
        }
        Ok(())
    }
}

/// The files of the shard at hand.
struct ShardWriter {
    entry: ShardEntry,
    bytes_per_token: u32,
    tokens: Sink,
    ends: Sink,
    /// From the first document on of which some tokens carry no loss.
    spans: Option<Sink>,
    spans_path: PathBuf,
    bytes: Vec<u8>,
    hash: Xxh3,
}

impl ShardWriter {
    fn create(folder: &Path, number: usize, bytes_per_token: u32) -> Result<Self> {
        let file = shard_file(number, TOKENS);
        // Without a manifest, shards are what a run that was killed has left.
        let tokens = Sink::create(&folder.join(&file), true)?;
        let ends = Sink::create(&folder.join(shard_file(number, ENDS)), true)?;
        let spans_path = folder.join(shard_file(number, SPANS));
        let entry = ShardEntry { file, documents: 0, tokens: 0, spans: None, hash: String::new() };
        let (spans, bytes, hash) = (None, Vec::new(), Xxh3::new());
        Ok(Self { entry, bytes_per_token, tokens, ends, spans, spans_path, bytes, hash })
    }

    fn push(&mut self, ids: &[u32], loss: Option<&[Range<usize>]>) -> Result<()> {
        self.push_loss(ids.len(), loss)?;
        self.bytes.clear();
        match self.bytes_per_token {
            2 => ids.iter().for_each(|&id| self.bytes.extend_from_slice(&(id as u16).to_le_bytes())),
            _ => ids.iter().for_each(|&id| self.bytes.extend_from_slice(&id.to_le_bytes())),
        }
        self.hash.update(&self.bytes);
        self.tokens.write(&self.bytes)?;
        self.entry.documents += 1;
        self.entry.tokens += ids.len() as u64;
        let end = self.entry.tokens.to_le_bytes();
        self.hash.update(&end);
        self.ends.write(&end)
    }

    fn push_loss(&mut self, len: usize, loss: Option<&[Range<usize>]>) -> Result<()> {
        let start = self.entry.tokens;
        if self.spans.is_none() {
            if loss.is_none() {
                return Ok(());
            }
            self.spans = Some(Sink::create(&self.spans_path, true)?);
            self.entry.spans = Some(0);
            // All that came before carries loss.
            self.push_span(0..start)?;
        }
        match loss {
            None => self.push_span(start..start + len as u64),
            Some(runs) => runs
                .iter()
                .try_for_each(|run| self.push_span(start + run.start as u64..start + run.end as u64)),
        }
    }

    fn push_span(&mut self, span: Range<u64>) -> Result<()> {
        if let (Some(sink), Some(count), false) = (&mut self.spans, &mut self.entry.spans, span.is_empty()) {
            *count += 1;
            for bound in [span.start, span.end].map(u64::to_le_bytes) {
                self.hash.update(&bound);
                sink.write(&bound)?;
            }
        }
        Ok(())
    }

    fn finish(mut self, folder: &Path, number: usize) -> Result<ShardEntry> {
        self.entry.hash = format!("{:016x}", self.hash.digest());
        match self.spans {
            Some(spans) => spans.finish()?,
            None => drop(remove(&folder.join(shard_file(number, SPANS)))?),
        }
        self.ends.finish()?;
        self.tokens.finish()?;
        Ok(self.entry)
    }
}

/// Removes a file; false where there was none.
fn remove(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io(path, error)),
    }
}
