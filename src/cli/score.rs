//! `toedit score`: a line of figures per document.

use serde::Serialize;
use serde_json::value::RawValue;

use super::args::ScoreArgs;
use super::pipeline::{Job, Pipeline};
use super::progress::{Mode, Progress};
use super::session::{Session, SessionCard};
use super::signals::Interrupt;
use super::summary::{self, Tally, Timing};
use crate::Result;
use crate::compose::Layout;
use crate::data::{Document, Inputs, Outputs, Payload};
use crate::model::Model;
use crate::score::cache::{CacheWriter, Entry, Key};
use crate::score::{ScoreConfig, Scorer, Scores};

/// A line of the output.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a RawValue>,
    /// The line number from 0, where there is no id.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    tokens: usize,
    scored: usize,
    nll: f64,
    perplexity: Option<f64>,
    #[serde(flatten)]
    per_token: Option<PerToken<'a>>,
}

/// The most likely tokens of a position with their log-probabilities.
type Candidates<'a> = &'a [(u32, f32)];

/// One entry per token of the document; null where there is no probability.
#[derive(Serialize)]
struct PerToken<'a> {
    input_ids: &'a [u32],
    logprobs: Vec<Option<f32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entropy: Option<Vec<Option<f32>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rank: Option<Vec<Option<u32>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top: Option<Vec<Option<Candidates<'a>>>>,
}

/// The summary file.
#[derive(Serialize)]
struct Summary<'a> {
    command: &'static str,
    version: &'static str,
    #[serde(flatten)]
    session: SessionCard,
    documents: u64,
    tokens: u64,
    scored: u64,
    windows: u64,
    truncated: u64,
    nll: f64,
    perplexity: Option<f64>,
    passed_through: &'a std::collections::BTreeMap<&'static str, u64>,
    #[serde(flatten)]
    timing: Timing,
}

/// Sums over documents.
#[derive(Default)]
pub struct Totals {
    /// Scored tokens.
    pub scored: u64,
    /// Windows that they were scored in.
    pub windows: u64,
    /// Σ −log p in nats.
    pub nll: f64,
}

/// Runs the command and gives the exit status.
///
/// # Errors
/// Those of the arguments, the files and the model.
pub fn run(args: &ScoreArgs) -> Result<u8> {
    args.check()?;
    let interrupt = Interrupt::install()?;
    let inputs = Inputs::expand(&args.input.input)?;
    let output = args.output.output.as_deref().expect("`check` has seen it");
    let outputs = Outputs::plan(&inputs, output, Payload::Lines)?;
    outputs.check(args.output.overwrite)?;
    summary::check(args.output.summary.as_deref(), &inputs, Some(&outputs))?;
    if let Some(folder) = &args.tokens.cache {
        CacheWriter::check(folder, args.output.overwrite)?;
    }
    let documents = inputs.documents(args.records.prompt.read_options(args.input.read_options())?)?;
    let compose = args.records.compose(args.window.bos);
    let (session, model) = Session::open(&args.model, &args.run, &args.window, compose, &interrupt)?;
    let config = ScoreConfig {
        entropy: args.tokens.entropy,
        rank: args.tokens.rank,
        top_k: args.tokens.top_k.unwrap_or(0),
        ..session.score.clone()
    };
    let progress = Progress::new(Mode::of(&args.common), inputs.total_bytes());
    let (tally, totals) = session.pool.install(|| {
        let run = Run { args, session: &session, model: &model, progress: &progress, interrupt: &interrupt };
        run.score(&config, documents, outputs.writer(args.output.overwrite))
    })?;
    progress.finish();
    report(args, &session, &tally, &totals)?;
    Ok(tally.exit_status())
}

/// What the stages share.
struct Run<'a> {
    args: &'a ScoreArgs,
    session: &'a Session,
    model: &'a Model,
    progress: &'a Progress,
    interrupt: &'a Interrupt,
}

impl Run<'_> {
    fn score(
        &self,
        config: &ScoreConfig,
        documents: crate::data::Documents,
        mut writer: crate::data::OutputWriter,
    ) -> Result<(Tally, Totals)> {
        let scorer = Scorer::new(self.model, config.clone())?;
        let mut cache = self.cache(config.top_k)?;
        let keeps = cache.is_some();
        let read = documents.progress();
        let (mut tally, mut totals) = (Tally::default(), Totals::default());
        Pipeline {
            interrupt: self.interrupt,
            chunk_tokens: self.session.chunk_tokens(),
            prepare: |document: Document| self.session.prepare(document, false),
            work: |jobs: Vec<Job<Layout>>| {
                tally.begin_batch();
                let scores = self.session.score_jobs(&scorer, &jobs, keeps)?;
                tally.end_batch();
                for (job, (scores, _)) in jobs.iter().zip(&scores) {
                    tally.count(&self.session.sequence(job), &config.windows);
                    tally.pass_through(job.extra.flaw());
                    totals.add(scores);
                }
                self.progress.update(tally.documents, tally.tokens, read.read());
                Ok(jobs.into_iter().zip(scores).collect())
            },
            write: |(job, (scores, entry)): (Job<Layout>, (Scores, Option<Entry>))| {
                if let (Some(cache), Some(entry)) = (&mut cache, &entry) {
                    cache.push(Key::new(job.extra.stream(), &self.session.sequence(&job)), entry)?;
                }
                writer.write_line(job.document.file(), &self.line(&job, &scores)?)
            },
        }
        .run(documents)?;
        cache.map_or(Ok(()), CacheWriter::finish)?;
        writer.finish()?;
        Ok((tally, totals))
    }

    /// Where the scores are kept.
    fn cache(&self, top_k: usize) -> Result<Option<CacheWriter>> {
        let Some(folder) = &self.args.tokens.cache else { return Ok(None) };
        let settings = self.session.cache_settings(top_k);
        CacheWriter::create(folder, settings, self.args.output.overwrite).map(Some)
    }

    fn line(&self, job: &Job<Layout>, scores: &Scores) -> Result<String> {
        let id = job.document.id().and_then(|id| serde_json::from_str(id).ok());
        let line = Line {
            index: id.is_none().then(|| job.document.line() - 1),
            id,
            tokens: scores.tokens,
            scored: scores.logprobs.len(),
            nll: scores.nll(),
            perplexity: scores.perplexity(),
            per_token: self.args.tokens.any().then(|| self.per_token(job, scores)),
        };
        serde_json::to_string(&line).map_err(|error| job.document.error(error.to_string()))
    }

    fn per_token<'a>(&self, job: &'a Job<Layout>, scores: &'a Scores) -> PerToken<'a> {
        let tokens = &self.args.tokens;
        let top = tokens.top_k.map(|_| {
            let k = scores.top.len() / scores.logprobs.len().max(1);
            pad(scores, scores.top.chunks_exact(k.max(1)))
        });
        PerToken {
            input_ids: &job.ids,
            logprobs: pad(scores, scores.logprobs.iter().copied()),
            entropy: tokens.entropy.then(|| pad(scores, scores.entropy.iter().copied())),
            rank: tokens.rank.then(|| pad(scores, scores.rank.iter().copied())),
            top,
        }
    }
}

/// Values of the scored positions among nulls for the others.
fn pad<T>(scores: &Scores, values: impl Iterator<Item = T>) -> Vec<Option<T>> {
    let mut padded: Vec<Option<T>> = Vec::with_capacity(scores.tokens);
    for (position, value) in scores.runs.iter().cloned().flatten().zip(values) {
        padded.resize_with(position, || None);
        padded.push(Some(value));
    }
    padded.resize_with(scores.tokens, || None);
    padded
}

impl Totals {
    /// Adds a document.
    pub fn add(&mut self, scores: &Scores) {
        self.scored += scores.logprobs.len() as u64;
        self.windows += scores.windows as u64;
        self.nll += scores.nll();
    }

    /// Mean −log p in nats; none where nothing is scored.
    pub fn mean(&self) -> Option<f64> {
        (self.scored > 0).then(|| self.nll / self.scored as f64)
    }

    /// e to that.
    pub fn perplexity(&self) -> Option<f64> {
        self.mean().map(f64::exp)
    }
}

fn report(args: &ScoreArgs, session: &Session, tally: &Tally, totals: &Totals) -> Result<()> {
    let timing = tally.timing(session.load_seconds);
    let perplexity = totals.perplexity().map_or("none".to_owned(), |value| format!("{value:.4}"));
    let text =
        format!("{}{}, {} scored, perplexity {perplexity}", tally.text(), timing.text(), totals.scored);
    let summary = Summary {
        command: "score",
        version: env!("CARGO_PKG_VERSION"),
        session: session.card(),
        documents: tally.documents,
        tokens: tally.tokens,
        scored: totals.scored,
        windows: totals.windows,
        truncated: tally.truncated,
        nll: totals.nll,
        perplexity: totals.perplexity(),
        passed_through: &tally.passed_through,
        timing,
    };
    summary::report(&args.common, args.output.summary.as_deref(), &text, &summary)
}
