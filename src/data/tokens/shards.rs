//! Reading token shards: any document, any range of tokens.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::manifest::{MANIFEST, Manifest};
use super::shard::Shard;
use crate::Result;

/// A folder of token shards, mapped. Shared by threads.
///
/// The tokens of all documents, one after the other, are one stream; positions in it count from 0.
pub struct TokenShards {
    folder: PathBuf,
    manifest: Manifest,
    shards: Vec<Shard>,
    /// The first document and the first token of each shard.
    first_document: Vec<u64>,
    first_token: Vec<u64>,
}

/// One document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenDocument {
    /// Its tokens.
    pub ids: Vec<u32>,
    /// The runs of tokens that carry loss, ascending and apart.
    pub loss: Vec<Range<usize>>,
}

impl TokenShards {
    /// Whether `folder` is one of finished token shards, by its manifest.
    pub fn is_folder(folder: &Path) -> bool {
        folder.join(MANIFEST).is_file()
    }

    /// Maps the shards of `folder` and checks their indexes; ids are checked when they are read. The files must not
    /// change while they are open.
    ///
    /// # Errors
    /// The folder was never finished; a file is missing, has another size than the manifest says, or an index that does
    /// not ascend.
    pub fn open(folder: &Path) -> Result<Self> {
        let manifest = Manifest::read(folder)?;
        let mut shards = Self {
            folder: folder.to_owned(),
            shards: Vec::new(),
            first_document: Vec::new(),
            first_token: Vec::new(),
            manifest,
        };
        let (mut documents, mut tokens) = (0, 0);
        for (number, entry) in shards.manifest.shards.iter().enumerate() {
            let shard = Shard::open(folder, number, entry, shards.manifest.bytes_per_token)?;
            shards.first_document.push(documents);
            shards.first_token.push(tokens);
            documents += shard.documents;
            tokens += shard.tokens;
            shards.shards.push(shard);
        }
        Ok(shards)
    }

    /// Where they lie.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the folder says about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The number of documents.
    pub fn documents(&self) -> u64 {
        self.manifest.documents
    }

    /// The number of tokens.
    pub fn tokens(&self) -> u64 {
        self.manifest.tokens
    }

    /// A document.
    ///
    /// # Errors
    /// An id past the vocabulary.
    ///
    /// # Panics
    /// Where `index` is not below [`TokenShards::documents`].
    pub fn document(&self, index: u64) -> Result<TokenDocument> {
        let range = self.document_range(index);
        let mut document = TokenDocument { ids: Vec::new(), loss: Vec::new() };
        self.loss(range.clone(), 0, &mut document.loss);
        self.read(range, &mut document.ids)?;
        Ok(document)
    }

    /// Where a document lies in the stream.
    ///
    /// # Panics
    /// Where `index` is not below [`TokenShards::documents`].
    pub fn document_range(&self, index: u64) -> Range<u64> {
        let number = holder(&self.first_document, index);
        let range = self.shards[number].document(index - self.first_document[number]);
        let base = self.first_token[number];
        base + range.start..base + range.end
    }

    /// The document that holds the token at `position`.
    ///
    /// # Panics
    /// Where `position` is not below [`TokenShards::tokens`].
    pub fn document_at(&self, position: u64) -> u64 {
        let number = holder(&self.first_token, position);
        self.first_document[number] + self.shards[number].document_at(position - self.first_token[number])
    }

    /// Appends the ids of a range of the stream, which may span documents and shards.
    ///
    /// # Errors
    /// An id past the vocabulary.
    ///
    /// # Panics
    /// Where the range does not lie in the stream.
    pub fn read(&self, range: Range<u64>, out: &mut Vec<u32>) -> Result<()> {
        let vocabulary = self.manifest.vocab_size;
        self.parts(range).try_for_each(|(shard, part)| shard.read(part, vocabulary, out))
    }

    /// Appends the runs of a range of the stream that carry loss, moved so that the range begins at `base`; all of it
    /// where nothing else was written.
    ///
    /// # Panics
    /// Where the range does not lie in the stream.
    pub fn loss(&self, range: Range<u64>, base: usize, out: &mut Vec<Range<usize>>) {
        let mut base = base;
        for (shard, part) in self.parts(range) {
            shard.loss(part.clone(), base, out);
            base += (part.end - part.start) as usize;
        }
    }

    /// Whether a token of `range` carries loss.
    ///
    /// # Panics
    /// Where the range does not lie within the stream.
    pub fn has_loss(&self, range: Range<u64>) -> bool {
        self.parts(range).any(|(shard, part)| shard.has_loss(&part))
    }

    /// The id at `position` of the stream, whatever it is.
    ///
    /// # Panics
    /// Where `position` is not below [`TokenShards::tokens`].
    pub(crate) fn id(&self, position: u64) -> u32 {
        let number = holder(&self.first_token, position);
        self.shards[number].id(position - self.first_token[number])
    }

    /// A range of the stream, shard by shard.
    fn parts(&self, range: Range<u64>) -> impl Iterator<Item = (&Shard, Range<u64>)> {
        assert!(
            range.start <= range.end && range.end <= self.tokens(),
            "{range:?} of {} tokens",
            self.tokens()
        );
        let first = if range.is_empty() { self.shards.len() } else { holder(&self.first_token, range.start) };
        let shards = self.shards[first..].iter().zip(&self.first_token[first..]);
        shards.take_while(move |(_, base)| **base < range.end).map(move |(shard, &base)| {
            (shard, range.start.max(base) - base..(range.end - base).min(shard.tokens))
        })
    }
}

impl fmt::Debug for TokenShards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenShards").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// The shard that holds an item: the last that begins at or before it.
fn holder(firsts: &[u64], item: u64) -> usize {
    firsts.partition_point(|&first| first <= item).checked_sub(1).expect("an item of the shards")
}
