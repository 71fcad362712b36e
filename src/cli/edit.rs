//! `toedit edit`: the method, from records to records.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::args::{EditArgs, EmitArg, OnErrorArg, RuleArgs, SamplerArg, SamplerArgs, ShardArg, StrategyArg};
use super::diff::Diff;
use super::pipeline::{Entry, Job, Pipeline, name_record, refuse};
use super::progress::{Mode, Progress};
use super::session::{Session, SessionCard};
use super::signals::Interrupt;
use super::summary::{self, DocumentCounts, Outcome, Tally, Timing};
use super::{estimate, print};
use crate::data::{Document, Documents, Inputs, Member, OutputWriter, Outputs, Patch, Payload};
use crate::data::{
    OutputColumns, ReadOptions, Refused, Settings, Shard, TextEdit, WriteConfig, Written, stream_key,
};
use crate::edit::config::DEFAULT_TOP_K;
use crate::edit::text::{AlignedText, token_edit};
use crate::edit::{
    Action, Condition, Constraint, Counts, EditConfig, EditInput, Edited, Editor, IdConstraint, Metadata,
    Rule, Sampler, Strategy, TextConstraint, TokenEdit, Vocabulary,
};
use crate::tokenizer::Alignment;
use crate::{Error, Result};

/// Why a document comes out unedited.
const UNALIGNED: &str = "tokens do not add up to the text";

/// What reading prepares: where the tokens lie in the text.
pub(super) enum Layout {
    Ids,
    Text(Alignment),
    /// To be passed through.
    Unaligned,
}

/// An edited document, ready to write.
pub(super) struct Output {
    job: Job<Layout>,
    edited: Edited,
    text_edits: Vec<TextEdit>,
    token_edits: Vec<TokenEdit>,
}

impl Output {
    /// What became of the tokens.
    pub fn counts(&self) -> Counts {
        self.edited.counts
    }
}

/// Sums over documents, kept with the output.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Totals {
    documents: DocumentCounts,
    tokens: Counts,
}

impl AddAssign<&Self> for Totals {
    fn add_assign(&mut self, other: &Self) {
        self.documents += &other.documents;
        self.tokens += other.tokens;
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
    let documents = inputs.documents(ReadOptions { shard, ..args.input.read_options() })?;
    let session = Session::open(&args.model, &args.run, &args.window, &interrupt)?;
    let progress = Progress::new(Mode::of(&args.common), documents.progress().total());
    let vocabulary = Vocabulary::new(session.model.config(), session.tokenizer.as_ref());
    let run =
        Run { args, session: &session, config: &config, vocabulary: &vocabulary, interrupt: &interrupt };
    let editor = Editor::new(&session.model, session.score.clone(), config.clone())?;
    if args.form.dry_run {
        return session.pool.install(|| estimate::run(&run, &editor, documents, &progress));
    }
    let sink = match (args.form.diff, outputs) {
        (Some(limit), _) => Sink::Diff(Diff::new(limit), Box::default()),
        (None, Some(outputs)) => Sink::Write(Box::new(run.writer(outputs)?)),
        (None, None) => unreachable!("`check` asks for an output"),
    };
    let was_done = sink.is_done();
    let documents = sink.rest(documents);
    let (tally, written) = session.pool.install(|| run.edit(&editor, documents, sink, &progress))?;
    progress.finish();
    let outcome = Outcome::new(&written.counts.documents, &written, was_done);
    let status = outcome.exit_status();
    run.report(&tally, written.counts.tokens, outcome)?;
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
    pub vocabulary: &'a Vocabulary,
    pub interrupt: &'a Interrupt,
}

impl Run<'_> {
    fn edit(
        &self,
        editor: &Editor,
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
            prepare: |document: &Document| prepare(self.session, document),
            work: |jobs| {
                tally.begin_batch();
                let outputs = self.edit_chunk(editor, jobs)?;
                tally.end_batch();
                for output in &outputs {
                    tally.done += &self.documents(output);
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
        let read = args.input.read_options();
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
        settings
    }

    /// A document in numbers.
    fn documents(&self, output: &Output) -> DocumentCounts {
        let sequence = self.session.sequence(&output.job);
        let mut documents = DocumentCounts::of(&sequence, &self.session.score.windows);
        if matches!(output.job.extra, Layout::Unaligned) {
            documents.passed_through.insert(UNALIGNED.to_owned(), 1);
        }
        documents
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
    pub fn edit_chunk(&self, editor: &Editor, jobs: Vec<Job<Layout>>) -> Result<Vec<Output>> {
        let constraints: Vec<_> = jobs.iter().map(|job| self.constraint(job)).collect();
        let (mut places, mut inputs) = (Vec::new(), Vec::new());
        for (place, (job, constraint)) in jobs.iter().zip(&constraints).enumerate() {
            if let Some(constraint) = constraint {
                let (sequence, stream) = (self.session.sequence(job), stream_key(&job.document));
                inputs.push(EditInput { sequence, stream, constraint: &**constraint });
                places.push(place);
            }
        }
        let named = |error| match error {
            Error::Document { index, reason } => Error::Document { index: places[index], reason },
            other => other,
        };
        let mut results = vec![Edited::default(); jobs.len()];
        let edited = editor.edit(&inputs).map_err(|error| name_record(named(error), &jobs))?;
        for (place, edited) in places.iter().zip(edited) {
            results[*place] = edited;
        }
        drop(constraints);
        jobs.into_iter().zip(results).map(|(job, edited)| self.output(job, edited)).collect()
    }

    /// None where the document is passed through.
    fn constraint<'a>(&'a self, job: &'a Job<Layout>) -> Option<Box<dyn Constraint + 'a>> {
        let (vocabulary, ids) = (self.vocabulary, &job.ids[..]);
        match (&job.extra, &self.session.tokenizer) {
            (Layout::Text(alignment), Some(tokenizer)) => {
                Some(Box::new(TextConstraint { vocabulary, tokenizer, ids, alignment }))
            }
            (Layout::Ids, tokenizer) => {
                Some(Box::new(IdConstraint::new(vocabulary, tokenizer.as_ref(), ids)))
            }
            _ => None,
        }
    }

    fn output(&self, job: Job<Layout>, mut edited: Edited) -> Result<Output> {
        let provenance = self.args.form.provenance || self.args.form.diff.is_some();
        let (mut text_edits, mut token_edits) = (Vec::new(), Vec::new());
        match (&job.extra, job.document.text(), &self.session.tokenizer) {
            (Layout::Text(alignment), Some(text), Some(tokenizer)) => {
                let aligned = AlignedText { tokenizer, text, alignment };
                let spliced =
                    aligned.splice(&edited.changes).map_err(|error| job.document.error(error.to_string()))?;
                if provenance {
                    token_edits = aligned.provenance(&edited.changes, &spliced, self.config);
                }
                text_edits = spliced.edits;
            }
            (Layout::Ids, ..) if provenance => {
                token_edits = edited.changes.iter().map(|change| token_edit(change, self.config)).collect();
            }
            (Layout::Unaligned, ..) => edited.counts.tokens = job.ids.len() as u64,
            _ => {}
        }
        Ok(Output { job, edited, text_edits, token_edits })
    }

    fn write(&self, sink: &mut Sink, output: &Output) -> Result<()> {
        let Output { job, edited, .. } = output;
        let totals = Totals { documents: self.documents(output), tokens: edited.counts };
        let writer = match sink {
            Sink::Write(writer) => writer,
            Sink::Diff(diff, written) => {
                written.counts += &totals;
                return diff.show(&job.document, edited, &output.token_edits);
            }
        };
        let form = &self.args.form;
        let is_text = job.document.text().is_some();
        let wants_ids = if is_text { form.emit != EmitArg::Text } else { !edited.changes.is_empty() };
        let ids = wants_ids.then(|| edited.apply(&job.ids));
        let metadata = self.metadata(output)?;
        let patch = Patch {
            text: match form.emit {
                EmitArg::Ids if is_text => Member::Remove,
                _ if output.text_edits.is_empty() => Member::Keep,
                _ => Member::Set(&output.text_edits),
            },
            ids: ids.as_deref().map_or(Member::Keep, Member::Set),
            metadata: metadata.as_deref().map_or(Member::Remove, Member::Set),
        };
        writer.write(&job.document, &patch, &totals)
    }

    fn metadata(&self, output: &Output) -> Result<Option<String>> {
        if self.args.form.no_metadata {
            return Ok(None);
        }
        let edits = self.args.form.provenance.then(|| output.token_edits.clone());
        let metadata = Metadata { counts: output.edited.counts, edits };
        let text = serde_json::to_string(&metadata);
        text.map(Some).map_err(|error| output.job.document.error(error.to_string()))
    }

    /// The summary: on standard output after a diff, else on standard error; and in its file.
    fn report(&self, tally: &Tally, counts: Counts, outcome: Outcome) -> Result<()> {
        let timing = tally.timing(self.session.load_seconds);
        let text = format!("{}{}{}", outcome.text(), timing.text(), describe(&counts));
        let summary = Summary {
            command: "edit",
            version: env!("CARGO_PKG_VERSION"),
            session: self.session.card(),
            edit: self.config,
            counts,
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

/// Encodes a document and finds its tokens' bytes.
pub(super) fn prepare(session: &Session, document: &Document) -> Result<(Vec<u32>, Layout)> {
    let ids = session.encode(document)?;
    let layout = match (document.text(), &session.tokenizer) {
        (Some(text), Some(tokenizer)) => tokenizer.align(text, &ids).map_or(Layout::Unaligned, Layout::Text),
        _ => Layout::Ids,
    };
    Ok((ids, layout))
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
    Ok(config.with_exclude_original(args.sampler.exclude_original).with_seed(args.run.seed))
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
