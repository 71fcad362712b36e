//! `toedit analyze`: n-grams of corpora, and what a model found probable in them, as JSON, tables and pictures.

mod report;
mod tables;

use std::path::PathBuf;
use std::time::Instant;

use super::args::{AnalyzeArgs, pool};
use super::chunks::map_chunks;
use super::corpus::{names, text};
use super::figures::Figures;
use super::pipeline::Arrivals;
use super::progress::{Mode, Progress};
use super::signals::Interrupt;
use super::summary::{self, counted};
use crate::analysis::{NgramStatistics, Perplexities, TokenProbabilities, plot};
use crate::data::{Document, Inputs, Line, Outputs, Payload};
use crate::score::ScoreLine;
use crate::{Error, Result};
use report::Report;

/// About the bytes of documents whose n-grams a thread counts at a time, text and record: more of them share more of the
/// hashing, fewer take less memory.
const UNIT_BYTES: usize = 8 << 20;
/// About the bytes of score lines that a thread reads at a time.
const LINES_BYTES: usize = 1 << 20;
/// Bigrams of the pictures and of the JSON file.
const TOP: [usize; 2] = [40, 64];

const JSON: &str = "analysis.json";
const BUCKETS: [&str; 2] = ["buckets.csv", "buckets.svg"];
const BIGRAMS: [&str; 3] = ["bigrams.csv", "bigrams-40.svg", "bigrams-64.svg"];
const PERPLEXITIES: [&str; 2] = ["perplexities.csv", "perplexities.svg"];
const PROBABILITIES: [&str; 3] =
    ["token-probabilities.csv", "token-probabilities-10.svg", "token-probabilities-300.svg"];

/// What is known of a corpus.
struct Corpus<'a> {
    /// What it is called.
    name: &'a str,
    ngrams: Option<Ngrams>,
    scores: Option<Scores>,
}

/// Of its text.
struct Ngrams {
    inputs: Vec<String>,
    documents: u64,
    /// Of text, in UTF-8.
    bytes: u64,
    statistics: NgramStatistics,
}

/// Of what a model made of it.
struct Scores {
    inputs: Vec<String>,
    scored: u64,
    nll: f64,
    perplexities: Perplexities,
    /// None where scores were not written by token.
    tokens: Option<TokenProbabilities>,
}

/// Runs the command and gives the exit status.
///
/// # Errors
/// Those of the arguments and the files; a document without text.
pub fn run(args: &AnalyzeArgs) -> Result<u8> {
    args.check()?;
    let interrupt = Interrupt::install()?;
    let expand = |paths: &[PathBuf]| (!paths.is_empty()).then(|| Inputs::expand(paths)).transpose();
    let given = &args.input;
    let texts = [expand(&given.input)?, expand(&given.against)?];
    let scores = [expand(&given.scores)?, expand(&given.against_scores)?];
    let figures = open(args, &texts, &scores)?;
    let total = texts.iter().chain(&scores).flatten().map(Inputs::total_bytes).sum::<Option<u64>>();
    let progress = Progress::new(Mode::of(&args.common), total);
    let mut run = Run { args, interrupt: &interrupt, progress: &progress, documents: 0, bytes: 0 };
    let start = Instant::now();
    let corpora = pool(args.threads)?.install(|| -> Result<Vec<Corpus>> {
        let mut corpora = Vec::new();
        let names = [&*given.name, &*given.against_name];
        for (name, (text, scores)) in names.into_iter().zip(texts.iter().zip(&scores)) {
            let ngrams = text.as_ref().map(|inputs| run.ngrams(inputs)).transpose()?;
            let scores = scores.as_ref().map(|inputs| run.scores(inputs)).transpose()?;
            if ngrams.is_some() || scores.is_some() {
                corpora.push(Corpus { name, ngrams, scores });
            }
        }
        Ok(corpora)
    })?;
    progress.finish();
    let report = Report::new(&corpora, start.elapsed().as_secs_f64());
    write(&figures, &corpora, &report)?;
    summary::report(&args.common, args.output.summary.as_deref(), &report.text(), &report)?;
    Ok(0)
}

/// The folder, once it is clear that all files can be written.
fn open(args: &AnalyzeArgs, texts: &[Option<Inputs>], scores: &[Option<Inputs>]) -> Result<Figures> {
    let output = args.output.output.as_deref().expect("`check` has seen it");
    let inputs = || texts.iter().chain(scores).flatten();
    let files = inputs().flat_map(Inputs::files).map(|file| &*file.path);
    summary::check_apart(args.output.summary.as_deref(), files.chain([output]))?;
    // An output among the inputs would be an input of the next run.
    inputs().try_for_each(|inputs| Outputs::plan(inputs, &output.join(JSON), Payload::Lines).map(drop))?;
    let streams = inputs().flat_map(Inputs::files).filter(|file| file.path.as_os_str() == "-");
    if streams.count() > 1 {
        return Err(Error::Usage("standard input `-` can be read only once".into()));
    }
    let mut names = vec![JSON];
    if texts.iter().any(Option::is_some) {
        names.extend(BUCKETS.iter().chain(&BIGRAMS));
    }
    if scores.iter().any(Option::is_some) {
        names.extend(PERPLEXITIES.iter().chain(&PROBABILITIES));
    }
    Figures::open(output, args.output.overwrite, &names)
}

/// What all passes share.
struct Run<'a> {
    args: &'a AnalyzeArgs,
    interrupt: &'a Interrupt,
    progress: &'a Progress,
    /// Documents and lines so far.
    documents: u64,
    /// Bytes of the inputs that are done with.
    bytes: u64,
}

impl Run<'_> {
    fn ngrams(&mut self, inputs: &Inputs) -> Result<Ngrams> {
        let documents = inputs.documents(self.args.read.options())?;
        let read = documents.progress();
        let names = names(inputs);
        let mut sums =
            Ngrams { inputs: names, documents: 0, bytes: 0, statistics: NgramStatistics::default() };
        let work = |chunk: &[Document]| {
            let texts = chunk.iter().map(text).collect::<Result<Vec<_>>>()?;
            Ok((
                texts.iter().map(|text| text.len() as u64).sum::<u64>(),
                NgramStatistics::count(texts.into_iter()),
            ))
        };
        map_chunks(
            Arrivals::new(documents, self.interrupt).documents(),
            UNIT_BYTES,
            work,
            |chunk, (bytes, counts)| {
                sums.documents += chunk.len() as u64;
                sums.bytes += bytes;
                sums.statistics.add(counts);
                self.documents += chunk.len() as u64;
                self.progress.update(
                    self.documents,
                    sums.statistics.distinct(1).total,
                    self.bytes + read.read(),
                );
                Ok(())
            },
        )?;
        self.bytes += read.read();
        Ok(sums)
    }

    fn scores(&mut self, inputs: &Inputs) -> Result<Scores> {
        let lines = inputs.lines(self.args.read.max_document_bytes);
        let read = lines.progress();
        let (perplexities, tokens) = (Perplexities::default(), TokenProbabilities::default());
        let mut sums =
            Scores { inputs: names(inputs), scored: 0, nll: 0.0, perplexities, tokens: Some(tokens) };
        let interrupt = self.interrupt;
        let lines = lines.map(|line| match interrupt.requested() {
            Some(signal) => Err(Error::Stopped(signal)),
            None => line,
        });
        let work = |chunk: &[Line]| chunk.iter().map(ScoreLine::parse).collect::<Result<Vec<_>>>();
        map_chunks(lines, LINES_BYTES, work, |_, scores: Vec<ScoreLine>| {
            self.documents += scores.len() as u64;
            scores.iter().for_each(|scores| sums.add(scores));
            self.progress.update(self.documents, sums.scored, self.bytes + read.read());
            Ok(())
        })?;
        self.bytes += read.read();
        // A few scores would pass for all of them.
        sums.tokens = sums.tokens.filter(|tokens| tokens.scored() == sums.scored);
        Ok(sums)
    }
}

impl Scores {
    fn add(&mut self, scores: &ScoreLine) {
        self.scored += scores.scored;
        self.nll += scores.nll;
        self.perplexities.add(scores.perplexity);
        if let Some(tokens) = &mut self.tokens {
            scores.logprobs.iter().flatten().flatten().for_each(|logprob| tokens.add(*logprob));
        }
    }
}

/// Writes tables and pictures.
fn write(figures: &Figures, corpora: &[Corpus], report: &Report) -> Result<()> {
    figures.json(JSON, report)?;
    let ngrams: Vec<_> =
        corpora.iter().filter_map(|corpus| Some((corpus.name, corpus.ngrams.as_ref()?))).collect();
    if !ngrams.is_empty() {
        let buckets: Vec<_> =
            ngrams.iter().map(|(name, ngrams)| (*name, ngrams.statistics.buckets())).collect();
        figures.write(BUCKETS[0], &tables::buckets(&buckets))?;
        figures.picture(BUCKETS[1], plot::draw_buckets(&buckets))?;
        figures.write(BIGRAMS[0], &tables::bigrams(&ngrams))?;
        for (count, name) in TOP.iter().zip(&BIGRAMS[1..]) {
            let top: Vec<_> =
                ngrams.iter().map(|(_, ngrams)| ngrams.statistics.top_bigrams(*count)).collect();
            let all = ngrams
                .iter()
                .zip(&top)
                .map(|((name, ngrams), top)| (*name, &top[..], ngrams.statistics.distinct(2).total));
            figures.picture(name, plot::draw_bigrams(&all.collect::<Vec<_>>()))?;
        }
    }
    let scores: Vec<_> =
        corpora.iter().filter_map(|corpus| Some((corpus.name, corpus.scores.as_ref()?))).collect();
    if !scores.is_empty() {
        let documents: Vec<_> = scores.iter().map(|(name, scores)| (*name, &scores.perplexities)).collect();
        figures.write(PERPLEXITIES[0], &tables::perplexities(&documents))?;
        figures.picture(PERPLEXITIES[1], plot::draw_perplexities(&documents))?;
    }
    let tokens: Vec<_> =
        scores.iter().filter_map(|(name, scores)| Some((*name, scores.tokens.as_ref()?))).collect();
    if !tokens.is_empty() {
        figures.write(PROBABILITIES[0], &tables::probabilities(&tokens))?;
        let of = |bins: fn(&TokenProbabilities) -> &[u64]| -> Vec<_> {
            tokens.iter().map(|(name, tokens)| (*name, bins(tokens))).collect()
        };
        figures.picture(PROBABILITIES[1], plot::draw_bins(&of(TokenProbabilities::bins)))?;
        figures.picture(PROBABILITIES[2], plot::draw_fine_bins(&of(TokenProbabilities::fine_bins)))?;
    }
    Ok(())
}
