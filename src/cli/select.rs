//! `toedit select`: documents of a corpus, chosen and carried over byte for byte, in their order.

use std::path::Path;
use std::time::Instant;

use serde::Serialize;
use serde_json::{Value, json};

use super::args::{CommonArgs, DsirArgs, OutputArgs, PerplexityRangeArgs, SelectArgs, SelectRule, pool};
use super::chunks::map_chunks;
use super::corpus::{Content, Corpus, check_output, names, settings, text};
use super::pipeline::Arrivals;
use super::progress::{Mode, Progress};
use super::signals::Interrupt;
use super::summary::{self, counted};
use crate::analysis::{NgramStatistics, bucket_sums};
use crate::data::{Carried, Document, Inputs};
use crate::score::ScoreLine;
use crate::select::{PerplexityRange, gumbel_top, log_ratios};
use crate::{Error, Result};

/// About the bytes of documents whose n-grams a thread counts at a time.
const UNIT_BYTES: usize = 8 << 20;

/// The summary file.
#[derive(Serialize)]
struct Summary<'a> {
    command: &'static str,
    version: &'static str,
    inputs: Vec<String>,
    /// XXH3-64 of the inputs' documents, in order.
    input_content: &'a str,
    documents: u64,
    chosen: u64,
    /// XXH3-64 of the output's lines.
    content: String,
    #[serde(flatten)]
    rule: Value,
    seconds: f64,
}

/// What DSIR chose by.
#[derive(Serialize)]
struct Dsir {
    target: Vec<String>,
    /// XXH3-64 of the target's documents, in order.
    target_content: String,
    /// As asked for.
    wanted: usize,
    seed: u64,
    /// Of all documents, and of those chosen.
    mean_log_weight: Option<f64>,
    chosen_mean_log_weight: Option<f64>,
}

/// What perplexities were chosen.
#[derive(Serialize)]
struct Range {
    scores: Vec<String>,
    min_perplexity: Option<f64>,
    max_perplexity: Option<f64>,
    quantiles: Option<[f64; 2]>,
    /// Documents without a perplexity, which are not chosen.
    unscored_documents: u64,
}

/// Runs the command and gives the exit status.
///
/// # Errors
/// Those of the arguments and the files.
pub fn run(args: &SelectArgs) -> Result<u8> {
    match &args.rule {
        SelectRule::Dsir(args) => dsir(args),
        SelectRule::Perplexity(args) => perplexity(args),
    }
}

fn dsir(args: &DsirArgs) -> Result<u8> {
    args.check()?;
    let interrupt = Interrupt::install()?;
    let corpus = Corpus::open("input", &args.input.input, args.input.read.options())?;
    let target = Corpus::open("target", &args.target, args.input.read.options())?;
    let bytes = target.inputs.total_bytes().zip(corpus.inputs.total_bytes());
    let total = bytes.map(|(target, input)| target + 3 * input);
    let select = Select::new(&args.common, &args.output, &corpus, &interrupt, total);
    select.check([&corpus.inputs, &target.inputs])?;
    let (weights, [target_content, content]) = pool(args.run.threads)?.install(|| select.weights(&target))?;
    let wanted = args.documents.unwrap_or_default();
    let is_chosen = gumbel_top(&weights, wanted, args.run.seed);
    let chosen: Vec<f64> = weights
        .iter()
        .zip(&is_chosen)
        .filter(|(_, is_chosen)| **is_chosen)
        .map(|(weight, _)| *weight)
        .collect();
    let mean =
        |weights: &[f64]| (!weights.is_empty()).then(|| weights.iter().sum::<f64>() / weights.len() as f64);
    let rule = Dsir {
        target: target.names(),
        target_content,
        wanted,
        seed: args.run.seed,
        mean_log_weight: mean(&weights),
        chosen_mean_log_weight: mean(&chosen),
    };
    select.finish("select dsir", &is_chosen, &content, rule)
}

fn perplexity(args: &PerplexityRangeArgs) -> Result<u8> {
    args.check()?;
    let interrupt = Interrupt::install()?;
    let corpus = Corpus::open("input", &args.input.input, args.input.read.options())?;
    let scores = Inputs::expand(&args.scores)?;
    let total = corpus.inputs.total_bytes().map(|bytes| 2 * bytes);
    let select = Select::new(&args.common, &args.output, &corpus, &interrupt, total);
    select.check([&corpus.inputs, &scores])?;
    let (perplexities, content) = select.perplexities(&scores, args.input.read.max_document_bytes)?;
    let range = match args.quantiles {
        Some(quantiles) => PerplexityRange::between(&perplexities, quantiles),
        None => Some(PerplexityRange {
            min: args.min_perplexity.unwrap_or(0.0),
            max: args.max_perplexity.unwrap_or(f64::INFINITY),
        }),
    };
    let is_wanted = |perplexity: &Option<f64>| range.is_some_and(|range| range.contains(*perplexity));
    let is_chosen: Vec<bool> = perplexities.iter().map(is_wanted).collect();
    let finite = |end: fn(PerplexityRange) -> f64| range.map(end).filter(|end| end.is_finite());
    let rule = Range {
        scores: names(&scores),
        min_perplexity: finite(|range| range.min),
        max_perplexity: finite(|range| range.max),
        quantiles: args.quantiles,
        unscored_documents: perplexities.iter().filter(|perplexity| perplexity.is_none()).count() as u64,
    };
    select.finish("select perplexity", &is_chosen, &content, rule)
}

/// What both rules share.
struct Select<'a> {
    common: &'a CommonArgs,
    output: &'a OutputArgs,
    corpus: &'a Corpus,
    interrupt: &'a Interrupt,
    progress: Progress,
    start: Instant,
}

impl<'a> Select<'a> {
    fn new(
        common: &'a CommonArgs,
        output: &'a OutputArgs,
        corpus: &'a Corpus,
        interrupt: &'a Interrupt,
        total_bytes: Option<u64>,
    ) -> Self {
        let progress = Progress::new(Mode::of(common), total_bytes);
        Self { common, output, corpus, interrupt, progress, start: Instant::now() }
    }

    fn output(&self) -> &'a Path {
        self.output.output.as_deref().expect("the arguments have been checked")
    }

    fn check(&self, inputs: [&Inputs; 2]) -> Result<()> {
        check_output(self.output(), self.output.overwrite, self.output.summary.as_deref(), inputs)
    }

    /// The log importance weight of each document, and what the target's and the corpus' documents were.
    fn weights(&self, target: &Corpus) -> Result<(Vec<f64>, [String; 2])> {
        let (wanted, target_content) = self.buckets(target, 0)?;
        let before = target.inputs.total_bytes().unwrap_or_default();
        let (raw, content) = self.buckets(self.corpus, before)?;
        let ratios = log_ratios(&wanted, &raw);
        let documents = self.corpus.documents()?;
        let read = documents.progress();
        let before = before + self.corpus.inputs.total_bytes().unwrap_or_default();
        let (mut weights, mut seen) = (Vec::new(), Content::default());
        let work = |chunk: &[Document]| Ok(bucket_sums(texts(chunk)?.into_iter(), &ratios));
        map_chunks(Arrivals::new(documents, self.interrupt).documents(), UNIT_BYTES, work, |chunk, sums| {
            chunk.iter().for_each(|document| seen.add(document));
            weights.extend(sums);
            self.progress.update(weights.len() as u64, 0, before + read.read());
            Ok(())
        })?;
        self.corpus.check(&seen, &content)?;
        Ok((weights, [target_content, content]))
    }

    /// How often the n-grams of a corpus fall into each bucket, and what it was.
    fn buckets(&self, corpus: &Corpus, before: u64) -> Result<(Vec<u64>, String)> {
        let documents = corpus.documents()?;
        let read = documents.progress();
        let (mut statistics, mut content) = (NgramStatistics::default(), Content::default());
        let work = |chunk: &[Document]| Ok(NgramStatistics::count(texts(chunk)?.into_iter()));
        map_chunks(
            Arrivals::new(documents, self.interrupt).documents(),
            UNIT_BYTES,
            work,
            |chunk, counts| {
                chunk.iter().for_each(|document| content.add(document));
                statistics.add(counts);
                self.progress.update(content.documents as u64, 0, before + read.read());
                Ok(())
            },
        )?;
        Ok((statistics.buckets().to_vec(), content.hash()))
    }

    /// The perplexity of each document, from the lines about them, and what the documents were.
    fn perplexities(&self, scores: &Inputs, limit: usize) -> Result<(Vec<Option<f64>>, String)> {
        let documents = self.corpus.documents()?;
        let read = documents.progress();
        let mut lines = scores.lines(limit);
        let (mut perplexities, mut content) = (Vec::new(), Content::default());
        for document in Arrivals::new(documents, self.interrupt).documents() {
            let document = document?;
            let line = lines.next().transpose()?.ok_or_else(|| {
                document.error("no line of the scores is about this document: were other inputs scored")
            })?;
            let scores = ScoreLine::parse(&line)?;
            if !scores.is_about(&document) {
                let (path, number) = (document.source().display(), document.line());
                return Err(line.error(format!(
                    "not about {path}:{number}: expected scores of the inputs, in their order"
                )));
            }
            content.add(&document);
            perplexities.push(scores.perplexity);
            self.progress.update(content.documents as u64, 0, read.read());
        }
        match lines.next().transpose()? {
            Some(line) => Err(line.error("about a document that the inputs do not have")),
            None => Ok((perplexities, content.hash())),
        }
    }

    /// Writes the documents that were chosen, and what was done.
    fn finish(
        &self,
        command: &'static str,
        is_chosen: &[bool],
        input_content: &str,
        rule: impl Serialize,
    ) -> Result<u8> {
        let mut output = Carried::create(self.output(), self.output.overwrite)?;
        for document in self.corpus.chosen(is_chosen, input_content, &mut output, self.interrupt)? {
            output.write(&document?.1)?;
        }
        self.progress.finish();
        let (documents, chosen) = (is_chosen.len() as u64, output.written());
        let rule = serde_json::to_value(rule).map_err(|error| Error::file(self.output(), error))?;
        let own = [("command", command.into()), ("rule", rule.clone())];
        let counts = json!({ "documents": documents, "chosen": chosen });
        let summary = Summary {
            command,
            version: env!("CARGO_PKG_VERSION"),
            inputs: self.corpus.names(),
            input_content,
            documents,
            chosen,
            content: output.finish(settings(&self.corpus.read, own), counts)?,
            rule,
            seconds: self.start.elapsed().as_secs_f64(),
        };
        let text = format!("{chosen} of {} chosen", counted(documents, "document"));
        summary::report(self.common, self.output.summary.as_deref(), &text, &summary)?;
        Ok(0)
    }
}

fn texts(chunk: &[Document]) -> Result<Vec<&str>> {
    chunk.iter().map(text).collect()
}
