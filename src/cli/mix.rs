//! `toedit mix`: a corpus of human and synthetic text, by shares of tokens.
//!
//! Corpora are read twice: their tokens are counted, then the documents that were chosen are carried over, byte for byte.
//! The memory that this takes is five bytes a document beside a few megabytes of documents at a time.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;
use serde_json::json;

use super::args::{MixArgs, pool};
use super::chunks::map_chunks;
use super::corpus::{Content, Corpus, check_output, settings};
use super::pipeline::Arrivals;
use super::progress::{Mode, Progress};
use super::signals::Interrupt;
use super::summary::{self, counted, documents_and_tokens};
use crate::data::{Carried, Document};
use crate::mix::{Choice, Turns, choose};
use crate::train::data::{Bos, Encoder, Vocabulary};
use crate::{Error, Result};

/// About the bytes of the documents that a thread counts at a time.
const CHUNK_BYTES: usize = 256 << 10;

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
        Corpus::open("human", wanted(&args.input.human, targets[0]), args.read.options())?,
        Corpus::open("synthetic", wanted(&args.input.synthetic, targets[1]), args.read.options())?,
    ];
    let output = args.output.output.as_deref().expect("`check` has seen it");
    let inputs = corpora.iter().map(|corpus| &corpus.inputs);
    check_output(output, args.output.overwrite, args.output.summary.as_deref(), inputs)?;
    let vocabulary = args.input.model.as_deref().map(Vocabulary::open).transpose()?;
    let encoder =
        vocabulary.as_ref().map(|vocabulary| Encoder::new(vocabulary, Bos::Never, None)).transpose()?;
    let total = corpora.iter().map(|corpus| corpus.inputs.total_bytes()).sum::<Option<u64>>();
    let progress = Progress::new(Mode::of(&args.common), total.map(|bytes| 2 * bytes));
    let start = Instant::now();
    let run = Run { args, interrupt: &interrupt, progress: &progress, corpora: &corpora };
    let parts = pool(args.run.threads)?.install(|| run.choose(encoder.as_ref(), targets))?;
    let tokenizer = vocabulary.as_ref().map(|vocabulary| vocabulary.fingerprint);
    let content = run.write(&parts, output, tokenizer)?;
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
        let (mut counts, mut content, mut tokens) = (Vec::new(), Content::default(), 0);
        let documents = corpus.documents()?;
        let read = documents.progress();
        let work = |chunk: &[Document]| chunk.iter().map(|document| count(document, encoder)).collect();
        let each = |chunk: &[Document], found: Vec<u32>| {
            chunk.iter().for_each(|document| content.add(document));
            tokens += found.iter().copied().map(u64::from).sum::<u64>();
            counts.extend(found);
            self.progress.update(counts.len() as u64, tokens, before + read.read());
            Ok(())
        };
        map_chunks(Arrivals::new(documents, self.interrupt).documents(), CHUNK_BYTES, work, each)?;
        let choice = choose(&counts, target, self.args.run.seed, number)?.ok_or_else(|| {
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
            content: content.hash(),
            target_tokens: target,
            chosen_documents: choice.documents,
            chosen_tokens: choice.tokens,
            counts,
            choice,
        };
        Ok((part, before + read.read()))
    }

    /// The second pass: writes the documents that were chosen, both corpora taking turns. Gives the hash of their lines.
    fn write(&self, parts: &[Part; 2], output: &Path, tokenizer: Option<u64>) -> Result<String> {
        let mut output = Carried::create(output, self.args.output.overwrite)?;
        let mut chosen = |corpus: usize| {
            let Part { choice, content, .. } = &parts[corpus];
            self.corpora[corpus].chosen(&choice.is_chosen, content, &mut output, self.interrupt)
        };
        let mut sources = [chosen(0)?.peekable(), chosen(1)?.peekable()];
        let mut turns = Turns::new([parts[0].chosen_tokens, parts[1].chosen_tokens]);
        loop {
            let has_more = sources.each_mut().map(|source| source.peek().is_some());
            let tokens = |corpus: usize| match sources[corpus].peek() {
                Some(Ok((number, _))) => u64::from(parts[corpus].counts[*number]),
                _ => 0,
            };
            let Some(corpus) = turns.take(has_more, tokens) else { break };
            let next = sources[corpus].next().transpose()?;
            next.map_or(Ok(()), |(_, document)| output.write(&document))?;
        }
        let own = [
            ("command", "mix".into()),
            ("seed", self.args.run.seed.into()),
            ("tokenizer", tokenizer.map(|hash| format!("{hash:016x}")).into()),
            ("human_tokens", parts[0].target_tokens.into()),
            ("synthetic_tokens", parts[1].target_tokens.into()),
        ];
        let counts = json!({ "human": &parts[0], "synthetic": &parts[1] });
        output.finish(settings(&self.args.read.options(), own), counts)
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
        seed: args.run.seed,
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
