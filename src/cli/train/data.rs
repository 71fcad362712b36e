//! The data of a training run: token shards as they lie, everything else tokenized first.

use std::path::{Path, PathBuf};

use super::super::args::{PackingArg, TrainArgs};
use super::super::progress::{Mode, Progress};
use super::{tokens_folder, warn};
use crate::data::Inputs;
use crate::data::tokens::{DEFAULT_SHARD_TOKENS, Manifest, TokenShards};
use crate::train::Origin;
use crate::train::data::{
    DataConfig, Encoder, Loader, Packing, Source, TokenizeConfig, Vocabulary, tokenize_into,
};
use crate::{Error, Result};

/// What a run learns from, and what it is measured on.
pub struct TrainData {
    pub train: Loader,
    pub held_out: Option<Loader>,
    /// What identifies the tokens that are learnt from.
    pub hashes: Vec<String>,
}

/// What all inputs are read with.
struct Reader<'a> {
    args: &'a TrainArgs,
    vocabulary: &'a Vocabulary,
    encoder: Encoder<'a>,
    output: &'a Path,
    mode: Mode,
    stop: &'a dyn Fn() -> Result<()>,
}

impl TrainData {
    /// Opens all data; what are no token shards yet is tokenized into the output.
    ///
    /// # Errors
    /// Files that cannot be read; documents that cannot be encoded; nothing to train on.
    pub fn open(
        args: &TrainArgs,
        origin: &Origin,
        sequence_length: usize,
        output: &Path,
        mode: Mode,
        stop: &dyn Fn() -> Result<()>,
    ) -> Result<Self> {
        let folder = origin.folder().or(origin.config_path().parent()).unwrap_or(Path::new("."));
        let vocabulary = Vocabulary::with_config(folder, origin.config())?;
        let encoder =
            Encoder::new(&vocabulary, args.records.bos.into(), args.records.prompt.prompt_field.clone())?;
        let reader = Reader { args, vocabulary: &vocabulary, encoder, output, mode, stop };
        let config = data_config(args, sequence_length, vocabulary.eos);
        let shards = reader.shards("train", &args.data.data)?;
        let hashes = shards.iter().map(|shards| shards.manifest().content_hash()).collect();
        let weight = |index: usize| args.data.data_weight.get(index).copied();
        let sources = shards.into_iter().enumerate();
        let sources = sources.map(|(index, shards)| Source { shards, weight: weight(index) }).collect();
        let train = Loader::new(sources, &config)?;
        tell_left_out(mode, &train);
        let held_out = match &args.data.eval_data[..] {
            [] => None,
            paths => {
                let shards = reader.shards("eval", paths)?;
                let sources = shards.into_iter().map(|shards| Source { shards, weight: None }).collect();
                Some(Loader::new(sources, &DataConfig { shuffle: false, ..config })?)
            }
        };
        Ok(Self { train, held_out, hashes })
    }
}

fn data_config(args: &TrainArgs, sequence_length: usize, eos: Option<u32>) -> DataConfig {
    DataConfig {
        sequence_length,
        packing: match args.data.packing {
            PackingArg::Concatenate => Packing::Concatenate,
            PackingArg::Documents => Packing::Documents,
        },
        shuffle: !args.data.no_shuffle,
        seed: args.run.seed,
        response_only: args.data.response_only,
        eos,
    }
}

/// No text is lost in silence.
fn tell_left_out(mode: Mode, loader: &Loader) {
    let left = loader.left_out();
    if left.tokens > 0 || left.documents > 0 {
        let (documents, tokens) = (left.documents, left.tokens);
        warn(mode, &format!("{documents} documents have nothing to train on; {tokens} tokens are in no row"));
    }
}

impl Reader<'_> {
    /// Whether ready-made tokens are this model's.
    fn check(&self, manifest: &Manifest) -> Result<(), String> {
        let (found, expected) = (manifest.vocab_size, self.vocabulary.size);
        if found > expected {
            return Err(format!("tokens of a vocabulary of {found}, the model has {expected}"));
        }
        match (&manifest.tokenizer_hash, &self.vocabulary.tokenizer_hash) {
            (Some(theirs), Some(ours)) if theirs != ours => {
                let (whose, ours) = (&manifest.tokenizer, &self.vocabulary.name);
                Err(format!(
                    "tokens of the tokenizer of {whose}, which is not that of {ours}: tokenize again"
                ))
            }
            _ => Ok(()),
        }
    }

    fn shards(&self, kind: &str, paths: &[PathBuf]) -> Result<Vec<TokenShards>> {
        paths
            .iter()
            .enumerate()
            .map(|(index, path)| self.open(path, tokens_folder(self.output, kind, index)))
            .collect()
    }

    fn open(&self, path: &Path, folder: PathBuf) -> Result<TokenShards> {
        if TokenShards::is_folder(path) {
            let shards = TokenShards::open(path)?;
            self.check(shards.manifest()).map_err(|reason| Error::file(path, reason))?;
            return Ok(shards);
        }
        let inputs = Inputs::expand(std::slice::from_ref(&path.to_owned()))?;
        let config = TokenizeConfig { read: self.args.read_options()?, shard_tokens: DEFAULT_SHARD_TOKENS };
        let progress = Progress::new(self.mode, None);
        let shards = tokenize_into(&inputs, &self.encoder, &config, &folder, |done| {
            progress.update(done.documents, done.tokens, 0);
            (self.stop)()
        })?;
        progress.finish();
        Ok(shards)
    }
}
