//! `toedit mix`: a corpus of human and synthetic text, by shares of tokens.
//!
//! Corpora are read twice: their tokens are counted, then the documents that were chosen are carried over, byte for byte.
//! The memory that this takes is five bytes a document beside a few megabytes of documents at a time.

use std::iter::Peekable;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;
use xxhash_rust::xxh3::Xxh3;

use super::args::{MixArgs, pool};
use super::corpus::{Corpus, check_output};
use super::pipeline::Arrivals;
use super::progress::{Mode, Progress};
use super::signals::Interrupt;
use super::summary::{self, counted, documents_and_tokens};
use crate::data::chunks::map_in_order;
use crate::data::{Document, Format, Patch, Sink, stream_key};
use crate::mix::{Choice, Turns, choose};
use crate::train::data::{Bos, Encoder, Vocabulary};
use crate::{Error, Result};

/// About the bytes of the documents whose tokens are counted at a time.
const CHUNK_BYTES: usize = 8 << 20;

/// The summary file: with the seed, the shares and the same inputs, all that is needed to make the mixture again.
#[derive(Serialize)]
struct Summary<'a> {
    command: &'static str,
    version: &'static str,
    /// Whose tokenizer counted; null where records brought their ids.
    model: Option<&'a str>,
    tokenizer_fingerprint: Option<String>,
    seed: u64,
    /// As asked for.
    target_human_share: f64,
    target_tokens: u64,
    /// As it came out.
    human_share: Option<f64>,
    tokens: u64,
    documents: u64,
    /// XXH3-64 of the output's lines.
    content: String,
    human: &'a Part,
    synthetic: &'a Part,
    seconds: f64,
}

/// What a corpus has, and what it gives.
#[derive(Serialize)]
struct Part {
    inputs: Vec<String>,
    documents: u64,
    tokens: u64,
    /// XXH3-64 of the documents' contents and ids, in order.
    content: String,
    target_tokens: u64,
    chosen_documents: u64,
    chosen_tokens: u64,
    #[serde(skip)]
    counts: Vec<u32>,
    #[serde(skip)]
    choice: Choice,
}

/// Runs the command and gives the exit status.
///
/// # Errors
/// Those of the arguments, the files and the tokenizer; a corpus with fewer tokens than are wanted.
pub fn run(args: &MixArgs) -> Result<u8> {
    args.check()?;
    let interrupt = Interrupt::install()?;
    let targets = args.targets();
    let corpora = [
        Corpus::open("human", wanted(&args.input.human, targets[0]))?,
        Corpus::open("synthetic", wanted(&args.input.synthetic, targets[1]))?,
    ];
    let output = args.output.output.as_deref().expect("`check` has seen it");
    check_output(output, args.output.overwrite, args.output.summary.as_deref(), &corpora)?;
    let vocabulary = args.input.model.as_deref().map(Vocabulary::open).transpose()?;
    let encoder =
        vocabulary.as_ref().map(|vocabulary| Encoder::new(vocabulary, Bos::Never, None)).transpose()?;
    let total = corpora.iter().map(|corpus| corpus.inputs.total_bytes()).sum::<Option<u64>>();
    let progress = Progress::new(Mode::of(&args.common), total.map(|bytes| 2 * bytes));
    let start = Instant::now();
    let run = Run { args, interrupt: &interrupt, progress: &progress, corpora: &corpora };
    let parts = pool(args.threads)?.install(|| run.choose(encoder.as_ref(), targets))?;
    let content = run.write(&parts, output)?;
    progress.finish();
    report(args, vocabulary.as_ref(), &parts, &content, start.elapsed().as_secs_f64())?;
    Ok(0)
}

/// The paths, if any of their tokens are wanted.
fn wanted(paths: &[PathBuf], tokens: u64) -> &[PathBuf] {
    if tokens == 0 { &[] } else { paths }
}

/// What both passes share.
struct Run<'a> {
    args: &'a MixArgs,
    interrupt: &'a Interrupt,
    progress: &'a Progress,
    corpora: &'a [Corpus; 2],
}

impl Run<'_> {
    /// The first pass: counts, and chooses.
    fn choose(&self, encoder: Option<&Encoder>, targets: [u64; 2]) -> Result<[Part; 2]> {
        let [human, synthetic] = self.corpora;
        let (human, read) = self.part(human, encoder, (targets[0], 0), 0)?;
        let (synthetic, _) = self.part(synthetic, encoder, (targets[1], 1), read)?;
        Ok([human, synthetic])
    }

    /// A corpus with this target and number, after so many bytes were read. Gives those read now too.
    fn part(
        &self,
        corpus: &Corpus,
        encoder: Option<&Encoder>,
        (target, number): (u64, u32),
        before: u64,
    ) -> Result<(Part, u64)> {
        let (mut counts, mut hash, mut tokens) = (Vec::new(), Xxh3::new(), 0);
        let documents = corpus.documents(self.args.read.options())?;
        let read = documents.progress();
        let arrivals = Arrivals::new(documents, self.interrupt);
        map_in_order(
            arrivals,
            CHUNK_BYTES,
            |document| count(document, encoder),
            |document, count| {
                counts.push(count);
                tokens += u64::from(count);
                hash.update(&stream_key(document).to_le_bytes());
                self.progress.update(counts.len() as u64, tokens, before + read.read());
                Ok(())
            },
        )?;
        let choice = choose(&counts, target, self.args.seed, number)?.ok_or_else(|| {
            let Corpus { name, .. } = corpus;
            let documents = counted(counts.len() as u64, "document");
            Error::Usage(format!(
                "{target} {name} tokens are wanted, but the {documents} given have {tokens}: lower --tokens, or name more \
                 files as --{name}"
            ))
        })?;
        let part = Part {
            inputs: corpus.names(),
            documents: counts.len() as u64,
            tokens,
            content: format!("{:016x}", hash.digest()),
            target_tokens: target,
            chosen_documents: choice.documents,
            chosen_tokens: choice.tokens,
            counts,
            choice,
        };
        Ok((part, before + read.read()))
    }

    /// The second pass: writes the documents that were chosen, both corpora taking turns. Gives the hash of their lines.
    fn write(&self, parts: &[Part; 2], output: &Path) -> Result<String> {
        let mut sink = Sink::create(output, self.args.output.overwrite)?;
        let [human, synthetic] = self.corpora;
        let mut sources = [self.chosen(human, &parts[0])?, self.chosen(synthetic, &parts[1])?];
        let mut turns = Turns::new([parts[0].chosen_tokens, parts[1].chosen_tokens]);
        let mut hash = Xxh3::new();
        loop {
            let has_more = sources.each_mut().map(|source| source.peek().is_some());
            let tokens = |corpus: usize| match sources[corpus].peek() {
                Some(Ok((_, tokens))) => u64::from(*tokens),
                _ => 0,
            };
            let Some(corpus) = turns.take(has_more, tokens) else { break };
            let (document, _) = sources[corpus].next().expect("it was looked at")?;
            let mut line = document.render(&Patch::default(), Format::JsonLines)?;
            line.push(b'\n');
            hash.update(&line);
            sink.write(&line)?;
        }
        sink.finish()?;
        Ok(format!("{:016x}", hash.digest()))
    }

    /// The chosen documents of a corpus with their tokens, and an error in the end if it is no longer what it was.
    fn chosen<'a>(
        &'a self,
        corpus: &'a Corpus,
        part: &'a Part,
    ) -> Result<Peekable<impl Iterator<Item = Result<(Document, u32)>> + 'a>> {
        let mut arrivals = Arrivals::new(corpus.documents(self.args.read.options())?, self.interrupt);
        let (mut index, mut hash) = (0, Xxh3::new());
        let mut next = move || -> Result<Option<(Document, u32)>> {
            while let Some(document) = arrivals.next().transpose()? {
                hash.update(&stream_key(&document).to_le_bytes());
                let number = index;
                index += 1;
                if part.choice.is_chosen.get(number) == Some(&true) {
                    return Ok(Some((document, part.counts[number])));
                }
            }
            if index != part.counts.len() || format!("{:016x}", hash.digest()) != part.content {
                let name = corpus.name;
                return Err(Error::file(
                    corpus.place(),
                    format!("the {name} text has changed while it was read"),
                ));
            }
            Ok(None)
        };
        Ok(std::iter::from_fn(move || next().transpose()).fuse().peekable())
    }
}

/// Tokens of a document: by the tokenizer where there is one, else its own ids, which may stand beside a text.
fn count(document: &Document, encoder: Option<&Encoder>) -> Result<u32> {
    let tokens = match encoder {
        Some(encoder) => encoder.encode(document)?.ids.len(),
        None => match (document.ids(), document.raw_ids()) {
            (Some(ids), _) => ids.len(),
            (None, Some(raw)) => {
                let ids: Vec<u32> = serde_json::from_str(raw)
                    .map_err(|error| document.error(format!("field `input_ids`: {error}")))?;
                ids.len()
            }
            (None, None) => {
                let reason =
                    "no `input_ids` to count: name the model whose tokenizer counts tokens, --model M";
                return Err(document.error(reason));
            }
        },
    };
    u32::try_from(tokens).map_err(|_| document.error(format!("{tokens} tokens, more than {}", u32::MAX)))
}

fn report(
    args: &MixArgs,
    vocabulary: Option<&Vocabulary>,
    [human, synthetic]: &[Part; 2],
    content: &str,
    seconds: f64,
) -> Result<()> {
    let tokens = human.chosen_tokens + synthetic.chosen_tokens;
    let documents = human.chosen_documents + synthetic.chosen_documents;
    let human_share = (tokens > 0).then(|| human.chosen_tokens as f64 / tokens as f64);
    let shown = human_share.map_or(String::new(), |share| format!(", {:.4} % human", 100.0 * share));
    let text = format!("{}{shown}", documents_and_tokens(documents, tokens));
    let summary = Summary {
        command: "mix",
        version: env!("CARGO_PKG_VERSION"),
        model: vocabulary.map(|vocabulary| &*vocabulary.name),
        tokenizer_fingerprint: vocabulary.map(|vocabulary| format!("{:016x}", vocabulary.fingerprint)),
        seed: args.seed,
        target_human_share: args.mixture.human_share.unwrap_or_default(),
        target_tokens: args.mixture.tokens.unwrap_or_default(),
        human_share,
        tokens,
        documents,
        content: content.to_owned(),
        human,
        synthetic,
        seconds,
    };
    summary::report(&args.common, args.output.summary.as_deref(), &text, &summary)
}
