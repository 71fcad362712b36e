//! `toedit tokenize`: a corpus as token shards.

use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use super::args::{TokenizeArgs, pool};
use super::pipeline::Arrivals;
use super::progress::{Mode, Progress};
use super::signals::Interrupt;
use super::summary::{self, counted, documents_and_tokens};
use crate::data::tokens::{MANIFEST, Manifest, TokenWriter};
use crate::data::{Inputs, Outputs, Payload, is_dash};
use crate::train::data::{Encoder, TokenizeConfig, Tokenized, Vocabulary, tokenize};
use crate::{Error, Result};

/// The summary file.
#[derive(Serialize)]
struct Summary<'a> {
    command: &'static str,
    version: &'static str,
    model: &'a str,
    /// Of tokenizer, chat template and special ids.
    fingerprint: String,
    documents: u64,
    empty: u64,
    tokens: u64,
    loss_tokens: u64,
    shards: usize,
    load_seconds: f64,
    seconds: f64,
    tokens_per_second: Option<f64>,
}

/// Runs the command and gives the exit status.
///
/// # Errors
/// Those of the arguments, the files and the tokenizer.
pub fn run(args: &TokenizeArgs) -> Result<u8> {
    args.check()?;
    let interrupt = Interrupt::install()?;
    let inputs = Inputs::expand(&args.input.input)?;
    let output = args.output.output.as_deref().expect("`check` has seen it");
    check_output(args, &inputs, output)?;
    let config = TokenizeConfig { read: args.read_options()?, shard_tokens: args.shard_tokens };
    let documents = inputs.documents(config.read.clone())?;
    let pool = pool(args.threads)?;
    let start = Instant::now();
    let vocabulary = Vocabulary::open(args.model.as_deref().unwrap_or_default())?;
    let encoder =
        Encoder::new(&vocabulary, args.records.bos.into(), args.records.prompt.prompt_field.clone())?;
    let load_seconds = start.elapsed().as_secs_f64();
    let writer = config.writer(&encoder, Some(&inputs));
    let writer = TokenWriter::create(output, writer, args.output.overwrite)?;
    let progress = Progress::new(Mode::of(&args.common), inputs.total_bytes());
    let read = documents.progress();
    let watch = |done: &Tokenized| {
        progress.update(done.documents, done.tokens, read.read());
        Ok(())
    };
    let start = Instant::now();
    let arrivals = Arrivals::new(documents, &interrupt).documents();
    let (manifest, done) = pool.install(|| tokenize(arrivals, &encoder, writer, watch))?;
    progress.finish();
    report(args, &vocabulary, (&manifest, &done), [load_seconds, start.elapsed().as_secs_f64()])?;
    Ok(0)
}

/// Better to learn now than when the run is done.
fn check_output(args: &TokenizeArgs, inputs: &Inputs, output: &Path) -> Result<()> {
    if is_dash(output) {
        return Err(Error::Usage("token shards are files in a folder: --output cannot be `-`".into()));
    }
    TokenWriter::check(output, args.output.overwrite)?;
    // An output among the inputs would be an input of the next run.
    let outputs = Outputs::plan(inputs, &output.join(MANIFEST), Payload::Lines)?;
    summary::check(args.output.summary.as_deref(), inputs, Some(&outputs))
}

fn report(
    args: &TokenizeArgs,
    vocabulary: &Vocabulary,
    (manifest, done): (&Manifest, &Tokenized),
    [load_seconds, seconds]: [f64; 2],
) -> Result<()> {
    let tokens_per_second = (seconds > 0.0).then(|| done.tokens as f64 / seconds);
    let mut text = documents_and_tokens(done.documents, done.tokens);
    text += &format!(" in {}", counted(manifest.shards.len() as u64, "shard"));
    if manifest.response_spans {
        text += &format!(", {} with loss", done.loss_tokens);
    }
    if done.empty > 0 {
        text += &format!(", {} empty", done.empty);
    }
    text += &tokens_per_second.map_or(String::new(), |rate| format!(" at {rate:.0} tokens/s"));
    let summary = Summary {
        command: "tokenize",
        version: env!("CARGO_PKG_VERSION"),
        model: &vocabulary.name,
        fingerprint: format!("{:016x}", vocabulary.fingerprint),
        documents: done.documents,
        empty: done.empty,
        tokens: done.tokens,
        loss_tokens: done.loss_tokens,
        shards: manifest.shards.len(),
        load_seconds,
        seconds,
        tokens_per_second,
    };
    summary::report(&args.common, args.output.summary.as_deref(), &text, &summary)
}
