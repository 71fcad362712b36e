//! `toedit score`: a line of figures per document.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use super::args::ScoreArgs;
use super::pipeline::{Entry, Job, MAX_DOCUMENTS, Pipeline, refuse_line};
use super::progress::{Mode, Progress};
use super::session::{Session, SessionCard};
use super::signals::Interrupt;
use super::summary::{self, DocumentCounts, Outcome, Tally, Timing};
use crate::Result;
use crate::compose::Layout;
use crate::data::{Document, Documents, Inputs, OutputWriter, Outputs, Payload, Written};
use crate::model::Model;
use crate::score::cache::{CacheWriter, Entry as Kept, Key};
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
struct Summary {
    command: &'static str,
    version: &'static str,
    #[serde(flatten)]
    session: SessionCard,
    tokens: u64,
    scored: u64,
    windows: u64,
    nll: f64,
    perplexity: Option<f64>,
    #[serde(flatten)]
    outcome: Outcome,
    #[serde(flatten)]
    timing: Timing,
}

/// Sums over documents, kept with the output.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Documents.
    pub documents: DocumentCounts,
    /// Scored tokens.
    pub scored: u64,
    /// Windows that they were scored in.
    pub windows: u64,
    /// Σ −log p in nats.
    pub nll: f64,
}

impl AddAssign<&Self> for Totals {
    fn add_assign(&mut self, other: &Self) {
        self.documents += &other.documents;
        self.scored += other.scored;
        self.windows += other.windows;
        self.nll += other.nll;
    }
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
    outputs.check(args.commit.begin(&args.output))?;
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
    let run = Run { args, session: &session, model: &model, progress: &progress, interrupt: &interrupt };
    let writer = run.writer(outputs)?;
    let (was_done, documents) = (writer.is_done(), documents.with_plan(writer.read_plan()));
    let (tally, written) = session.pool.install(|| run.score(&config, documents, writer))?;
    progress.finish();
    let outcome = Outcome::new(&written.counts.documents, &written, was_done);
    let status = outcome.exit_status();
    report(args, &session, &tally, &written.counts, outcome)?;
    Ok(status)
}

/// A document with its scores, and with what a cache keeps of them.
type Scored = (Job<Layout>, (Scores, Option<Kept>));

/// What the stages share.
struct Run<'a> {
    args: &'a ScoreArgs,
    session: &'a Session,
    model: &'a Model,
    progress: &'a Progress,
    interrupt: &'a Interrupt,
}

impl Run<'_> {
    /// Begins to write.
    fn writer(&self, outputs: Outputs) -> Result<OutputWriter<Totals>> {
        let Self { args, session, .. } = self;
        let tokens = &args.tokens;
        let mut settings = session.settings("score")?;
        settings.insert("per_token".to_owned(), tokens.any().into());
        settings.insert("entropy".to_owned(), tokens.entropy.into());
        settings.insert("rank".to_owned(), tokens.rank.into());
        settings.insert("top_k".to_owned(), json!(tokens.top_k));
        let read = args.records.prompt.read_options(args.input.read_options())?;
        outputs.writer(args.commit.write_config(&args.output, &read, settings))
    }

    fn score(
        &self,
        config: &ScoreConfig,
        documents: Documents,
        mut writer: OutputWriter<Totals>,
    ) -> Result<(Tally, Written<Totals>)> {
        let scorer = Scorer::new(self.model, config.clone())?;
        let mut cache = self.cache(config.top_k)?;
        let keeps = cache.is_some();
        let read = documents.progress();
        let mut tally = Tally::default();
        Pipeline {
            interrupt: self.interrupt,
            on_error: self.args.commit.on_error,
            chunk_tokens: self.session.chunk_tokens(),
            chunk_documents: MAX_DOCUMENTS,
            prepare: |document: &Document| self.session.composer.compose(document, false),
            work: |jobs: Vec<Job<Layout>>| {
                tally.begin_batch();
                let scores = self.session.score_jobs(&scorer, &jobs, keeps)?;
                tally.end_batch();
                for job in &jobs {
                    tally.done += &self.session.documents(job);
                }
                self.progress.update(tally.done.documents, tally.done.tokens, read.read());
                Ok(jobs.into_iter().zip(scores).collect())
            },
            write: |entry: Entry<Scored>| match entry {
                Entry::Done((job, (scores, kept))) => {
                    if let (Some(cache), Some(kept)) = (&mut cache, &kept) {
                        cache.push(Key::new(job.extra.stream(), &self.session.sequence(&job)), kept)?;
                    }
                    let mut totals = Totals { documents: self.session.documents(&job), ..Totals::default() };
                    totals.add(&scores);
                    writer.write_line(job.document.mark(), &self.line(&job, &scores)?, &totals)
                }
                Entry::Refused(refused) => {
                    let totals = Totals { documents: DocumentCounts::refused(), ..Totals::default() };
                    refuse_line(self.args.commit.on_error, &mut writer, &refused, &totals)
                }
            },
        }
        .run(documents)?;
        cache.map_or(Ok(()), CacheWriter::finish)?;
        Ok((tally, writer.finish()?))
    }

    /// Where the scores are kept.
    fn cache(&self, top_k: usize) -> Result<Option<CacheWriter>> {
        let Some(folder) = &self.args.tokens.cache else { return Ok(None) };
        let settings = self.session.cache_settings(top_k)?;
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

fn report(
    args: &ScoreArgs,
    session: &Session,
    tally: &Tally,
    totals: &Totals,
    outcome: Outcome,
) -> Result<()> {
    let timing = tally.timing(session.load_seconds);
    let perplexity = totals.perplexity().map_or("none".to_owned(), |value| format!("{value:.4}"));
    let text =
        format!("{}{}, {} scored, perplexity {perplexity}", outcome.text(), timing.text(), totals.scored);
    let summary = Summary {
        command: "score",
        version: env!("CARGO_PKG_VERSION"),
        session: session.card(),
        tokens: totals.documents.tokens,
        scored: totals.scored,
        windows: totals.windows,
        nll: totals.nll,
        perplexity: totals.perplexity(),
        outcome,
        timing,
    };
    summary::report(&args.common, args.output.summary.as_deref(), &text, &summary)
}
