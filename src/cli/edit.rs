//! `toedit edit`: the method, from records to records.

mod scores;

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::args::{EditArgs, EmitArg, OnErrorArg, RuleArgs, SamplerArg, SamplerArgs, ShardArg, StrategyArg};
use super::diff::Diff;
use super::pipeline::{Entry, Job, MAX_DOCUMENTS, Pipeline, refuse};
use super::progress::{Mode, Progress};
use super::session::{Session, SessionCard};
use super::signals::Interrupt;
use super::summary::{self, DocumentCounts, Outcome, Tally, Timing};
use super::{estimate, print};
use crate::compose::{Layout, Record};
use crate::data::{Content, Document, Documents, Inputs, Member, OutputWriter, Outputs, Patch, Payload};
use crate::data::{OutputColumns, ReadOptions, Refused, Settings, Shard, WriteConfig, Written};
use crate::edit::config::DEFAULT_TOP_K;
use crate::edit::{
    Action, Condition, Counts, EditConfig, EditedRecord, Metadata, RecordEditor, Rule, Sampler, Strategy,
    Vocabulary,
};
use crate::{Error, Result};
use scores::Scores;

/// An edited document, ready to write.
pub(super) struct Output {
    edited: EditedRecord,
    /// As it came.
    documents: DocumentCounts,
}

impl Output {
    /// The document in numbers.
    pub fn totals(&self) -> Totals {
        let documents = self.documents.clone().passed(self.edited.flaw);
        Totals { documents, generations: self.edited.generations.clone() }
    }
}

/// Sums over documents, kept with the output.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Totals {
    documents: DocumentCounts,
    /// What became of the tokens in each generation.
    generations: Vec<Counts>,
}

impl AddAssign<&Self> for Totals {
    fn add_assign(&mut self, other: &Self) {
        self.documents += &other.documents;
        self.generations.resize(self.generations.len().max(other.generations.len()), Counts::default());
        self.generations.iter_mut().zip(&other.generations).for_each(|(total, counts)| *total += *counts);
    }
}

/// The summary file.
#[derive(Serialize)]
struct Summary<'a> {
    command: &'static str,
    version: &'static str,
    #[serde(flatten)]
    session: SessionCard,
    edit: &'a EditConfig,
    #[serde(flatten)]
    counts: Counts,
    /// Of each, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    generations: Option<Vec<Counts>>,
    #[serde(flatten)]
    outcome: Outcome,
    #[serde(flatten)]
    timing: Timing,
}

/// Runs the command and gives the exit status.
///
/// # Errors
/// Those of the arguments, the files and the model.
pub fn run(args: &EditArgs) -> Result<u8> {
    args.check()?;
    let config = edit_config(args)?;
    let interrupt = Interrupt::install()?;
    let inputs = Inputs::expand(&args.input.input)?;
    let shard = args.shard.map(ShardArg::resolve).transpose()?;
    let outputs = plan(args, &inputs, shard)?;
    if let Some(warning) = config.warning() {
        tracing::warn!("{warning}");
    }
    let read = args.records.prompt.read_options(args.input.read_options())?;
    let documents = inputs.documents(ReadOptions { shard, ..read })?;
    scores::check(args, &config)?;
    let (mut session, model) = scores::open(args, &interrupt)?;
    let scores = Scores::new(args, &mut session, model.as_ref(), &config)?;
    let progress = Progress::new(Mode::of(&args.common), documents.progress().total());
    let vocabulary = Vocabulary::new(&session.config, session.composer.tokenizer());
    let generations = args.generations.generations;
    let provenance = args.form.provenance || args.form.diff.is_some();
    let editor =
        RecordEditor::new(&session.composer, &vocabulary, scores.prior(), &config, generations, provenance)?;
    let run = Run { args, session: &session, config: &config, editor: &editor, interrupt: &interrupt };
    if args.form.dry_run {
        return session.pool.install(|| estimate::run(&run, documents, &progress));
    }
    let sink = match (args.form.diff, outputs) {
        (Some(limit), _) => Sink::Diff(Diff::new(limit), Box::default()),
        (None, Some(outputs)) => Sink::Write(Box::new(run.writer(outputs)?)),
        (None, None) => unreachable!("`check` asks for an output"),
    };
    let was_done = sink.is_done();
    let documents = sink.rest(documents);
    let (tally, written) = session.pool.install(|| run.edit(documents, sink, &progress))?;
    scores.finish()?;
    progress.finish();
    let outcome = Outcome::new(&written.counts.documents, &written, was_done);
    let status = outcome.exit_status();
    run.report(&tally, &written.counts, outcome)?;
    Ok(status)
}

/// Where documents go, checked; none where nothing is written.
fn plan(args: &EditArgs, inputs: &Inputs, shard: Option<Shard>) -> Result<Option<Outputs>> {
    let mut outputs = None;
    if let Some(output) = args.output.output.as_deref().filter(|_| args.writes()) {
        let planned = Outputs::plan(inputs, output, Payload::Documents)?;
        let planned = match shard {
            Some(shard) => planned.sharded(inputs, shard)?,
            None => planned,
        };
        let outputs = outputs.insert(planned);
        args.form.check_outputs(outputs)?;
        outputs.check(args.commit.begin(&args.output))?;
    }
    if !args.form.dry_run {
        summary::check(args.output.summary.as_deref(), inputs, outputs.as_ref())?;
    }
    Ok(outputs)
}

/// Where edited documents go.
enum Sink {
    Write(Box<OutputWriter<Totals>>),
    /// With sums of what was shown, or could have been.
    Diff(Diff, Box<Written<Totals>>),
}

impl Sink {
    fn is_done(&self) -> bool {
        matches!(self, Self::Write(writer) if writer.is_done())
    }

    /// What is left to be read.
    fn rest(&self, documents: Documents) -> Documents {
        match self {
            Self::Write(writer) => documents.with_plan(writer.read_plan()),
            Self::Diff(..) => documents,
        }
    }

    fn finish(self) -> Result<Written<Totals>> {
        match self {
            Self::Write(writer) => writer.finish(),
            Self::Diff(_, written) => Ok(*written),
        }
    }
}

/// What the stages share.
pub(super) struct Run<'a> {
    pub args: &'a EditArgs,
    pub session: &'a Session,
    pub config: &'a EditConfig,
    pub editor: &'a RecordEditor<'a>,
    pub interrupt: &'a Interrupt,
}

impl Run<'_> {
    fn edit(
        &self,
        documents: Documents,
        mut sink: Sink,
        progress: &Progress,
    ) -> Result<(Tally, Written<Totals>)> {
        let read = documents.progress();
        let mut tally = Tally::default();
        Pipeline {
            interrupt: self.interrupt,
            on_error: self.args.commit.on_error,
            chunk_tokens: self.session.chunk_tokens(),
            chunk_documents: MAX_DOCUMENTS,
            prepare: |document: &Document| self.prepare(document),
            work: |jobs| {
                tally.begin_batch();
                let outputs = self.edit_chunk(jobs)?;
                tally.end_batch();
                for output in &outputs {
                    tally.done += &output.totals().documents;
                }
                progress.update(tally.done.documents, tally.done.tokens, read.read());
                Ok(outputs)
            },
            write: |entry: Entry<Output>| match entry {
                Entry::Done(output) => self.write(&mut sink, &output),
                Entry::Refused(refused) => self.refuse(&mut sink, &refused),
            },
        }
        .run(documents)?;
        Ok((tally, sink.finish()?))
    }

    /// Begins to write.
    fn writer(&self, outputs: Outputs) -> Result<OutputWriter<Totals>> {
        let Self { args, session, .. } = self;
        let mut settings = session.settings("edit")?;
        settings.extend(self.settings());
        let read = args.records.prompt.read_options(args.input.read_options())?;
        let config = args.commit.write_config(&args.output, &read, settings);
        let columns = OutputColumns {
            // What is passed through keeps its text.
            has_text: args.form.emit != EmitArg::Ids || args.commit.on_error == OnErrorArg::Pass,
            has_ids: args.form.emit != EmitArg::Text,
            metadata: if args.form.no_metadata { Member::Remove } else { Member::Set(()) },
            ..config.columns
        };
        outputs.writer(WriteConfig { columns, ..config })
    }

    /// What of the method and its form the output depends on.
    fn settings(&self) -> Settings {
        let (form, config) = (&self.args.form, json!(self.config));
        let mut settings = config.as_object().cloned().unwrap_or_default();
        settings.insert("emit".to_owned(), form.emit.name().into());
        settings.insert("provenance".to_owned(), form.provenance.into());
        settings.insert("metadata".to_owned(), (!form.no_metadata).into());
        settings.insert("generations".to_owned(), self.args.generations.generations.into());
        settings
    }

    /// Encodes a document and finds its tokens' bytes.
    pub fn prepare(&self, document: &Document) -> Result<(Vec<u32>, Layout)> {
        self.earlier(document)?;
        if self.args.form.emit == EmitArg::Ids && matches!(document.content(), Content::Messages(_)) {
            return Err(document.error("--emit ids: a conversation stays text, expected --emit both"));
        }
        self.session.composer.compose(document, true)
    }

    /// What generations before this run's have left in a record, where it goes on with theirs.
    fn earlier(&self, document: &Document) -> Result<Option<Metadata>> {
        let (form, first) = (&self.args.form, self.args.generations.first_generation);
        if first == 0 || form.no_metadata {
            return Ok(None);
        }
        let earlier = Metadata::of_earlier(document.metadata(), first, form.provenance);
        earlier.map(Some).map_err(|reason| document.error(reason))
    }

    /// Deals with a record that cannot be used.
    fn refuse(&self, sink: &mut Sink, refused: &Refused) -> Result<()> {
        let totals = Totals { documents: DocumentCounts::refused(), ..Totals::default() };
        match sink {
            Sink::Write(writer) => refuse(self.args.commit.on_error, writer, refused, &totals),
            Sink::Diff(_, written) => {
                written.counts += &totals;
                match self.args.commit.on_error {
                    OnErrorArg::Stop => return Err(refused.error()),
                    OnErrorArg::Skip => written.records.set_aside += 1,
                    OnErrorArg::Pass => written.records.passed += 1,
                }
                Ok(())
            }
        }
    }

    /// Takes a chunk through the model.
    pub fn edit_chunk(&self, jobs: Vec<Job<Layout>>) -> Result<Vec<Output>> {
        let of_job =
            |job: &Job<Layout>| DocumentCounts::of(&self.session.sequence(job), &self.session.score.windows);
        let documents: Vec<_> = jobs.iter().map(of_job).collect();
        let record = |Job { document, ids, extra }| Record { document, ids, layout: extra };
        let edited = self.editor.edit(jobs.into_iter().map(record).collect())?;
        let outputs = edited.into_iter().zip(documents);
        Ok(outputs.map(|(edited, documents)| Output { edited, documents }).collect())
    }

    fn write(&self, sink: &mut Sink, output: &Output) -> Result<()> {
        let (edited, totals) = (&output.edited, output.totals());
        let writer = match sink {
            Sink::Write(writer) => writer,
            Sink::Diff(diff, written) => {
                written.counts += &totals;
                return diff.show(edited);
            }
        };
        let (Record { document, ids, .. }, emit) = (&edited.record, self.args.form.emit);
        let wants_ids = match document.content() {
            Content::Ids(_) => !edited.edited.changes.is_empty(),
            Content::Text(_) | Content::Messages(_) => emit != EmitArg::Text,
        };
        let ids = wants_ids.then(|| edited.edited.apply(ids));
        let metadata = self.metadata(edited)?;
        let patch = edited.patch(ids.as_deref());
        let patch = Patch {
            text: if emit == EmitArg::Ids && document.text().is_some() { Member::Remove } else { patch.text },
            metadata: metadata.as_deref().map_or(Member::Remove, Member::Set),
            ..patch
        };
        writer.write(document, &patch, &totals)
    }

    fn metadata(&self, edited: &EditedRecord) -> Result<Option<String>> {
        if self.args.form.no_metadata {
            return Ok(None);
        }
        let document = &edited.record.document;
        let edits = self.args.form.provenance.then(|| edited.token_edits.clone());
        let metadata = match self.earlier(document)? {
            None => Metadata { edits, ..Metadata::of_generations(&edited.generations) },
            Some(earlier) => earlier.extended(&edited.generations, edits),
        };
        let field = self.args.records.prompt.response_field.clone().filter(|_| document.text().is_some());
        let text = serde_json::to_string(&Metadata { field, ..metadata });
        text.map(Some).map_err(|error| document.error(error.to_string()))
    }

    /// The summary: on standard output after a diff, else on standard error; and in its file.
    fn report(&self, tally: &Tally, totals: &Totals, outcome: Outcome) -> Result<()> {
        let timing = tally.timing(self.session.load_seconds);
        let words = totals.describe(self.config.generation());
        let text = format!("{}{}{words}", outcome.text(), timing.text());
        let Metadata { counts, generations, .. } = Metadata::of_generations(&totals.generations);
        let summary = Summary {
            command: "edit",
            version: env!("CARGO_PKG_VERSION"),
            session: self.session.card(),
            edit: self.config,
            counts,
            generations,
            outcome,
            timing,
        };
        let path = self.args.output.summary.as_deref();
        if self.args.form.diff.is_none() {
            return summary::report(&self.args.common, path, &text, &summary);
        }
        print(format!("{text}\n").as_bytes())?;
        summary::write(path, &summary)
    }
}

impl Totals {
    /// Of all generations; tokens are the first one's.
    pub fn counts(&self) -> Counts {
        Metadata::of_generations(&self.generations).counts
    }

    /// The counts in words, and those of each generation, which are numbered from `first` on, where there are several.
    pub fn describe(&self, first: u32) -> String {
        let mut text = describe(&self.counts());
        if self.generations.len() > 1 {
            for (number, counts) in self.generations.iter().enumerate() {
                let number = u64::from(first) + number as u64;
                text += &format!(
                    "; generation {number}: {} scored, {} eligible, {} changed",
                    counts.scored, counts.eligible, counts.changed
                );
                if counts.dropped > 0 {
                    text += &format!(", {} dropped", counts.dropped);
                }
            }
        }
        text
    }
}

/// The counts that are not zero; eligible and changed always, changed last.
pub(super) fn describe(counts: &Counts) -> String {
    let mut text = format!(", {} scored", counts.scored);
    for (count, name) in [
        (counts.dropped, "dropped"),
        (counts.not_editable, "not editable"),
        (counts.no_alternative, "without alternative"),
    ] {
        if count > 0 {
            text += &format!(", {count} {name}");
        }
    }
    text + &format!(", {} eligible, {} changed", counts.eligible, counts.changed)
}

/// The settings of the method.
fn edit_config(args: &EditArgs) -> Result<EditConfig> {
    let rules = rules(&args.rules)?;
    let strategy = match args.rules.strategy {
        StrategyArg::UpRevise => Strategy::UpRevise,
        StrategyArg::LowDropUpRevise => Strategy::LowDropUpRevise,
        StrategyArg::Filtering => Strategy::Filtering,
    };
    let config = EditConfig::new(strategy);
    let config = if rules.is_empty() { config } else { config.with_rules(rules) };
    let config = match args.sampler.temperature {
        Some(temperature) => config.with_temperature(temperature)?,
        None => config,
    };
    let config = config.with_sampler(sampler(&args.sampler)?)?;
    let config = config.with_exclude_original(args.sampler.exclude_original).with_seed(args.run.seed);
    config.with_generation(args.generations.first_generation)
}

/// Rules in full come first, then the short forms: resample before drop, above before below.
fn rules(args: &RuleArgs) -> Result<Vec<Rule>> {
    let mut rules = args.rule.iter().map(|rule| rule.parse()).collect::<Result<Vec<Rule>>>()?;
    let short = [
        (args.resample_above.map(Condition::AtLeast), Action::Resample),
        (args.resample_below.map(Condition::Below), Action::Resample),
        (args.drop_above.map(Condition::AtLeast), Action::Drop),
        (args.drop_below.map(Condition::Below), Action::Drop),
    ];
    for (condition, action) in short {
        rules.extend(condition.map(|condition| Rule::new(condition, action)).transpose()?);
    }
    Ok(rules)
}

/// A parameter of another sampler than the one chosen is a mistake, not something to pass over.
fn sampler(args: &SamplerArgs) -> Result<Sampler> {
    match (args.sampler, args.top_k, args.top_p) {
        (SamplerArg::TopK, k, None) => Ok(Sampler::TopK(k.unwrap_or(DEFAULT_TOP_K))),
        (SamplerArg::TopP, None, Some(mass)) => Ok(Sampler::TopP(mass)),
        (SamplerArg::TopP, _, None) => {
            Err(Error::Usage("the sampler top-p needs --top-p P, above 0 and at most 1".into()))
        }
        (SamplerArg::Full, None, None) => Ok(Sampler::Full),
        (SamplerArg::Rejection, None, None) => Ok(Sampler::Rejection),
        (_, Some(_), _) => Err(Error::Usage("--top-k goes with --sampler top-k only".into())),
        (_, _, Some(_)) => Err(Error::Usage("--top-p goes with --sampler top-p only".into())),
    }
}
