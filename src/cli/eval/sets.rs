//! Sets of items through the model: what all tests have in common.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::figures::{Figure, Table, Totals};
use super::items::{Item, Reader};
use crate::Result;
use crate::cli::args::SetArgs;
use crate::cli::pipeline::{Entry, Job, MAX_DOCUMENTS, Pipeline, name_record, refuse_line};
use crate::cli::progress::{Mode, Progress};
use crate::cli::session::{Session, SessionCard};
use crate::cli::signals::Interrupt;
use crate::cli::summary::{self, DocumentCounts, Outcome, Tally, Timing};
use crate::compose::ComposeConfig;
use crate::data::{Document, Documents, Inputs, OutputWriter, Outputs, Payload, Refused, Written};
use crate::evaluate::{Evaluator, Likelihood};
use crate::model::Model;

/// Chunks of other commands that one of items is as large as: what continuations share is read once.
const CHUNKS: usize = 4;

/// A test that items are put to. A value is what it has to know of one of them.
pub trait Test: Sized + Send {
    /// Its name on the command line.
    const NAME: &'static str;
    /// What is made of the means of `values`.
    const FIGURES: [Figure; 2];

    /// Reads an item: its continuations, each with a name for messages.
    ///
    /// # Errors
    /// Names the record.
    fn read(document: &Document) -> Result<(Self, Vec<(String, String)>)>;

    /// What the item gives for each of the figures.
    fn values(&self, likelihoods: &[Likelihood]) -> [f64; 2];

    /// The item's line of the output.
    ///
    /// # Errors
    /// The serialiser's.
    fn line(identity: Identity, item: &Item<Self>, likelihoods: &[Likelihood]) -> serde_json::Result<String>;
}

/// Which item a line is about.
#[derive(Serialize)]
pub struct Identity<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a RawValue>,
    /// The line number from 0, where there is no id.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
}

impl<'a> Identity<'a> {
    fn of(document: &'a Document) -> Self {
        let id = document.id().and_then(|id| serde_json::from_str(id).ok());
        Self { id, index: id.is_none().then(|| document.line() - 1) }
    }
}

/// The summary file.
#[derive(Serialize)]
struct Summary {
    command: String,
    version: &'static str,
    #[serde(flatten)]
    session: SessionCard,
    tokens: u64,
    #[serde(flatten)]
    figures: Map<String, Value>,
    #[serde(flatten)]
    outcome: Outcome,
    #[serde(flatten)]
    timing: Timing,
}

/// Runs the command and gives the exit status.
///
/// # Errors
/// Those of the arguments, the files and the model.
pub fn run<T: Test>(args: &SetArgs) -> Result<u8> {
    args.check(T::NAME)?;
    let interrupt = Interrupt::install()?;
    let inputs = Inputs::expand(&args.input.input)?;
    let output = args.output.output.as_deref();
    let outputs = output.map(|output| Outputs::plan(&inputs, output, Payload::Lines)).transpose()?;
    if let Some(outputs) = &outputs {
        outputs.check(args.commit.begin(&args.output))?;
    }
    summary::check(args.output.summary.as_deref(), &inputs, outputs.as_ref())?;
    let documents = inputs.documents(args.input.read_options())?;
    let compose = ComposeConfig { bos: args.context.bos.into(), ..ComposeConfig::default() };
    let (session, model) = Session::open(&args.model, &args.run, &args.window(), compose, &interrupt)?;
    let progress = Progress::new(Mode::of(&args.common), inputs.total_bytes());
    let run = Run { args, session: &session, model: &model, progress: &progress, interrupt: &interrupt };
    let kept = run.kept::<T>(outputs)?;
    let was_done = kept.writer.as_ref().is_some_and(OutputWriter::is_done);
    let (tally, written) = session.pool.install(|| run.measure::<T>(documents, kept))?;
    progress.finish();
    let outcome = Outcome::new(&written.counts.documents, &written, was_done);
    let status = outcome.exit_status();
    let names = inputs.files().iter().map(|file| file.path.display().to_string());
    let table = Table::new(&T::FIGURES, names, &written.counts);
    report::<T>(args, &session, tally.timing(session.load_seconds), &table, outcome)?;
    Ok(status)
}

/// What the stages share.
struct Run<'a> {
    args: &'a SetArgs,
    session: &'a Session,
    model: &'a Model,
    progress: &'a Progress,
    interrupt: &'a Interrupt,
}

/// An item with what the model makes of it.
type Scored<T> = (Job<Item<T>>, Vec<Likelihood>);

impl Run<'_> {
    /// Begins to write, where there is an output.
    fn kept<T: Test>(&self, outputs: Option<Outputs>) -> Result<Kept> {
        let Self { args, session, .. } = self;
        let settings = session.settings(&command::<T>())?;
        let config = args.commit.write_config(&args.output, &args.input.read_options(), settings);
        let writer = outputs.map(|outputs| outputs.writer(config)).transpose()?;
        Ok(Kept { writer, totals: Totals::default() })
    }

    fn measure<T: Test>(&self, documents: Documents, mut kept: Kept) -> Result<(Tally, Written<Totals>)> {
        let documents = match &kept.writer {
            Some(writer) => documents.with_plan(writer.read_plan()),
            None => documents,
        };
        let evaluator = Evaluator::new(self.model, self.session.score.clone())?;
        let max_length = self.session.score.windows.max_length();
        let reader = Reader { composer: &self.session.composer, max_length };
        let read = documents.progress();
        let mut tally = Tally::default();
        Pipeline {
            interrupt: self.interrupt,
            on_error: self.args.commit.on_error,
            chunk_tokens: self.session.chunk_tokens().saturating_mul(CHUNKS),
            chunk_documents: MAX_DOCUMENTS,
            prepare: |document: &Document| {
                let (test, continuations) = T::read(document)?;
                reader.read(document, &continuations, test)
            },
            work: |jobs: Vec<Job<Item<T>>>| {
                tally.begin_batch();
                let likelihoods = score(&evaluator, &jobs)?;
                tally.end_batch();
                jobs.iter().for_each(|job| tally.done += &documents_of(job));
                self.progress.update(tally.done.documents, tally.done.tokens, read.read());
                Ok(jobs.into_iter().zip(likelihoods).collect())
            },
            write: |entry: Entry<Scored<T>>| match entry {
                Entry::Done(scored) => kept.keep(&scored),
                Entry::Refused(refused) => self.refuse(&mut kept, &refused),
            },
        }
        .run(documents)?;
        Ok((tally, kept.finish()?))
    }

    fn refuse(&self, kept: &mut Kept, refused: &Refused) -> Result<()> {
        let totals = Totals::refused();
        match &mut kept.writer {
            Some(writer) => refuse_line(self.args.commit.on_error, writer, refused, &totals),
            None => Err(refused.error()),
        }
    }
}

/// Likelihoods of a chunk's continuations; an error names the record.
fn score<T>(evaluator: &Evaluator, jobs: &[Job<Item<T>>]) -> Result<Vec<Vec<Likelihood>>> {
    let items: Vec<_> = jobs.iter().map(|job| job.extra.continuations(&job.ids)).collect();
    evaluator.score(&items).map_err(|error| name_record(error, jobs))
}

/// Sums, with the output's lines where there is an output.
struct Kept {
    writer: Option<OutputWriter<Totals>>,
    /// Those without an output.
    totals: Totals,
}

impl Kept {
    fn keep<T: Test>(&mut self, (job, likelihoods): &Scored<T>) -> Result<()> {
        let Job { document, extra, .. } = job;
        let totals = Totals::item(documents_of(job), document.file(), extra.test.values(likelihoods));
        let Some(writer) = &mut self.writer else {
            self.totals += &totals;
            return Ok(());
        };
        let line = T::line(Identity::of(document), extra, likelihoods);
        let line = line.map_err(|error| document.error(error.to_string()))?;
        writer.write_line(document.mark(), &line, &totals)
    }

    fn finish(self) -> Result<Written<Totals>> {
        match self.writer {
            Some(writer) => writer.finish(),
            None => Ok(Written { counts: self.totals, ..Written::default() }),
        }
    }
}

/// An item in numbers.
fn documents_of<T>(job: &Job<Item<T>>) -> DocumentCounts {
    let Item { tokens, cut, .. } = job.extra;
    DocumentCounts { documents: 1, tokens: tokens as u64, truncated: cut as u64, ..DocumentCounts::default() }
}

/// The words that name the test.
fn command<T: Test>() -> String {
    format!("eval {}", T::NAME)
}

fn report<T: Test>(
    args: &SetArgs,
    session: &Session,
    timing: Timing,
    table: &Table,
    outcome: Outcome,
) -> Result<()> {
    let text = format!("{}{}\n{}", outcome.text(), timing.text(), table.text());
    let summary = Summary {
        command: command::<T>(),
        version: env!("CARGO_PKG_VERSION"),
        session: session.card(),
        tokens: table.tokens,
        figures: table.json(),
        outcome,
        timing,
    };
    summary::report(&args.common, args.output.summary.as_deref(), &text, &summary)
}
