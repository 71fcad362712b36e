//! `toedit eval perplexity`: how well a model predicts a corpus.
//!
//! Perplexity is e^(−mean log p). The mean is over all scored tokens, each with equal weight; long documents are scored in
//! overlapping windows. With `--batch-mean` it is the ToEdit paper's: the first 1024 tokens of each document are scored
//! and the rest is left out; consecutive documents, in input order, form batches; the mean over a batch's tokens is taken,
//! then the mean over the batches, each with equal weight however many tokens it has, and e to its power. The last
//! batch may be smaller; one without a scored token does not count.

use serde::Serialize;

use crate::Result;
use crate::cli::args::{OnErrorArg, PerplexityArgs, WindowArgs};
use crate::cli::pipeline::{Entry, Job, MAX_DOCUMENTS, Pipeline};
use crate::cli::progress::{Mode, Progress};
use crate::cli::score::Totals;
use crate::cli::session::{Session, SessionCard};
use crate::cli::signals::Interrupt;
use crate::cli::summary::{self, DocumentCounts, Tally, Timing};
use crate::compose::{ComposeConfig, Layout};
use crate::data::{Document, Documents, Inputs};
use crate::model::{Config, folder};
use crate::score::{Scorer, Scores};

/// Tokens of a document that the paper's evaluation sees.
const BATCH_MEAN_TOKENS: usize = 1024;

/// The summary file.
#[derive(Serialize)]
struct Summary<'a> {
    command: &'static str,
    version: &'static str,
    #[serde(flatten)]
    session: SessionCard,
    #[serde(flatten)]
    documents: &'a DocumentCounts,
    scored: u64,
    windows: u64,
    nll: f64,
    /// By the mean that was asked for; null where nothing is scored.
    perplexity: Option<f64>,
    token_weighted_perplexity: Option<f64>,
    batch_mean: bool,
    /// Documents of a batch and their number, where the mean is over batches.
    batch_size: Option<usize>,
    batches: Option<u64>,
    #[serde(flatten)]
    timing: Timing,
}

/// Runs the command and gives the exit status.
///
/// # Errors
/// Those of the arguments, the files and the model.
pub fn run(args: &PerplexityArgs) -> Result<u8> {
    args.check()?;
    let interrupt = Interrupt::install()?;
    let inputs = Inputs::expand(&args.input.input)?;
    summary::check(args.output.summary.as_deref(), &inputs, None)?;
    let documents = inputs.documents(args.input.read_options())?;
    let window = window(args)?;
    let compose = ComposeConfig { bos: window.bos.into(), ..ComposeConfig::default() };
    let (session, model) = Session::open(&args.model, &args.run, &window, compose, &interrupt)?;
    let scorer = Scorer::new(&model, session.score.clone())?;
    let progress = Progress::new(Mode::of(&args.common), inputs.total_bytes());
    let mut figures = Figures::new(args.mean.batch_size);
    session.pool.install(|| figures.measure(&session, &scorer, &progress, &interrupt, documents))?;
    progress.finish();
    report(args, &session, &figures)?;
    Ok(0)
}

/// The windows that were asked for; for the mean over batches one, of the paper's length where none is given.
fn window(args: &PerplexityArgs) -> Result<WindowArgs> {
    let mut window = args.window.clone();
    if args.mean.batch_mean {
        let model = folder::resolve(args.model.model.as_deref().unwrap_or_default())?;
        let (_, longest) = Config::from_file(&model.join(folder::CONFIG))?.context();
        window.max_length.get_or_insert(BATCH_MEAN_TOKENS.min(longest));
        window.truncate = true;
    }
    Ok(window)
}

/// Sums over all documents.
struct Figures {
    tally: Tally,
    totals: Totals,
    batches: BatchMeans,
}

impl Figures {
    fn new(batch_size: usize) -> Self {
        let batches =
            BatchMeans { size: batch_size, documents: 0, batch: Totals::default(), count: 0, sum: 0.0 };
        Self { tally: Tally::default(), totals: Totals::default(), batches }
    }

    fn measure(
        &mut self,
        session: &Session,
        scorer: &Scorer,
        progress: &Progress,
        interrupt: &Interrupt,
        documents: Documents,
    ) -> Result<()> {
        let read = documents.progress();
        Pipeline {
            interrupt,
            on_error: OnErrorArg::Stop,
            chunk_tokens: session.chunk_tokens(),
            chunk_documents: MAX_DOCUMENTS,
            prepare: |document: &Document| session.composer.compose(document, false),
            work: |jobs: Vec<Job<Layout>>| {
                self.tally.begin_batch();
                let scores = session.score_jobs(scorer, &jobs, false)?;
                self.tally.end_batch();
                for (job, (scores, _)) in jobs.iter().zip(&scores) {
                    self.tally.done += &session.documents(job);
                    self.totals.add(scores);
                    self.batches.add(scores);
                }
                progress.update(self.tally.done.documents, self.tally.done.tokens, read.read());
                Ok(jobs)
            },
            write: |entry: Entry<Job<Layout>>| match entry {
                Entry::Done(_) => Ok(()),
                Entry::Refused(refused) => Err(refused.error()),
            },
        }
        .run(documents)?;
        self.batches.close();
        Ok(())
    }
}

/// The mean over batches, as documents arrive.
struct BatchMeans {
    /// Documents of a batch.
    size: usize,
    /// Documents of the batch that is open.
    documents: usize,
    batch: Totals,
    /// Batches with a scored token.
    count: u64,
    /// Sum of their means.
    sum: f64,
}

impl BatchMeans {
    fn add(&mut self, scores: &Scores) {
        self.batch.add(scores);
        self.documents += 1;
        if self.documents == self.size {
            self.close();
        }
    }

    /// Ends the batch that is open.
    fn close(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        self.documents = 0;
        if let Some(mean) = batch.mean() {
            self.count += 1;
            self.sum += mean;
        }
    }

    fn perplexity(&self) -> Option<f64> {
        (self.count > 0).then(|| (self.sum / self.count as f64).exp())
    }
}

fn report(args: &PerplexityArgs, session: &Session, figures: &Figures) -> Result<()> {
    let Figures { tally, totals, batches } = figures;
    let timing = tally.timing(session.load_seconds);
    let batch_mean = args.mean.batch_mean;
    let perplexity = if batch_mean { batches.perplexity() } else { totals.perplexity() };
    let figure = perplexity.map_or("none".to_owned(), |value| format!("{value:.4}"));
    let mut text =
        format!("{}{}, {} scored, perplexity {figure}", tally.done.text(), timing.text(), totals.scored);
    if batch_mean {
        text += &format!(" as a mean over batches of {}", batches.size);
    }
    let summary = Summary {
        command: "eval perplexity",
        version: env!("CARGO_PKG_VERSION"),
        session: session.card(),
        documents: &tally.done,
        scored: totals.scored,
        windows: totals.windows,
        nll: totals.nll,
        perplexity,
        token_weighted_perplexity: totals.perplexity(),
        batch_mean,
        batch_size: batch_mean.then_some(batches.size),
        batches: batch_mean.then_some(batches.count),
        timing,
    };
    summary::report(&args.common, args.output.summary.as_deref(), &text, &summary)
}
