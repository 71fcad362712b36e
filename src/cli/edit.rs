//! `toedit edit`: the method, from records to records.

mod scores;

use std::collections::BTreeMap;

use serde::Serialize;

use super::args::{EditArgs, EmitArg, RuleArgs, SamplerArg, SamplerArgs, StrategyArg};
use super::diff::Diff;
use super::pipeline::{Job, Pipeline};
use super::progress::{Mode, Progress};
use super::session::{Session, SessionCard};
use super::signals::Interrupt;
use super::summary::{self, Tally, Timing};
use super::{estimate, print};
use crate::compose::{Layout, Record};
use crate::data::{Content, Documents, Inputs, Member, OutputWriter, Outputs, Patch, Payload};
use crate::edit::config::DEFAULT_TOP_K;
use crate::edit::{
    Action, Condition, Counts, EditConfig, EditedRecord, Metadata, RecordEditor, Rule, Sampler, Strategy,
    Vocabulary,
};
use crate::{Error, Result};
use scores::Scores;

/// What became of the tokens of all documents.
#[derive(Default)]
pub(super) struct Totals {
    /// Of each generation.
    generations: Vec<Counts>,
}

/// The summary file.
#[derive(Serialize)]
struct Summary<'a> {
    command: &'static str,
    version: &'static str,
    #[serde(flatten)]
    session: SessionCard,
    edit: &'a EditConfig,
    documents: u64,
    #[serde(flatten)]
    counts: Counts,
    /// Of each, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    generations: Option<Vec<Counts>>,
    truncated: u64,
    passed_through: &'a BTreeMap<&'static str, u64>,
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
    let outputs = plan(args, &inputs)?;
    if let Some(warning) = config.warning() {
        tracing::warn!("{warning}");
    }
    let documents = inputs.documents(args.records.prompt.read_options(args.input.read_options())?)?;
    scores::check(args, &config)?;
    let (mut session, model) = scores::open(args, &interrupt)?;
    let scores = Scores::new(args, &mut session, model.as_ref(), &config)?;
    let progress = Progress::new(Mode::of(&args.common), inputs.total_bytes());
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
        (Some(limit), _) => Sink::Diff(Diff::new(limit)),
        (None, Some(outputs)) => Sink::Write(Box::new(outputs.writer(args.output.overwrite))),
        (None, None) => unreachable!("`check` asks for an output"),
    };
    let (tally, totals) = session.pool.install(|| run.edit(documents, sink, &progress))?;
    scores.finish()?;
    progress.finish();
    run.report(&tally, &totals)?;
    Ok(tally.exit_status())
}

/// Where documents go, checked; none where nothing is written.
fn plan(args: &EditArgs, inputs: &Inputs) -> Result<Option<Outputs>> {
    let mut outputs = None;
    if let Some(output) = args.output.output.as_deref().filter(|_| args.writes()) {
        let outputs = outputs.insert(Outputs::plan(inputs, output, Payload::Documents)?);
        args.form.check_outputs(outputs)?;
        outputs.check(args.output.overwrite)?;
    }
    if !args.form.dry_run {
        summary::check(args.output.summary.as_deref(), inputs, outputs.as_ref())?;
    }
    Ok(outputs)
}

/// Where edited documents go.
enum Sink {
    Write(Box<OutputWriter>),
    Diff(Diff),
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
    fn edit(&self, documents: Documents, mut sink: Sink, progress: &Progress) -> Result<(Tally, Totals)> {
        let read = documents.progress();
        let (mut tally, mut totals) = (Tally::default(), Totals::default());
        Pipeline {
            interrupt: self.interrupt,
            chunk_tokens: self.session.chunk_tokens(),
            prepare: |document| self.session.prepare(document, true),
            work: |jobs: Vec<Job<Layout>>| {
                for job in &jobs {
                    tally.count(&self.session.sequence(job), &self.session.score.windows);
                }
                tally.begin_batch();
                let records = self.edit_chunk(jobs)?;
                tally.end_batch();
                for record in &records {
                    totals.add(&record.generations);
                    tally.pass_through(record.flaw);
                }
                progress.update(tally.documents, tally.tokens, read.read());
                Ok(records)
            },
            write: |record: EditedRecord| match &mut sink {
                Sink::Write(writer) => self.write(writer, &record),
                Sink::Diff(diff) => diff.show(&record),
            },
        }
        .run(documents)?;
        if let Sink::Write(writer) = sink {
            writer.finish()?;
        }
        Ok((tally, totals))
    }

    /// Takes a chunk through the model.
    pub fn edit_chunk(&self, jobs: Vec<Job<Layout>>) -> Result<Vec<EditedRecord>> {
        let record = |Job { document, ids, extra }| Record { document, ids, layout: extra };
        self.editor.edit(jobs.into_iter().map(record).collect())
    }

    fn write(&self, writer: &mut OutputWriter, edited: &EditedRecord) -> Result<()> {
        let Record { document, ids, .. } = &edited.record;
        let emit = self.args.form.emit;
        let wants_ids = match document.content() {
            Content::Ids(_) => !edited.edited.changes.is_empty(),
            Content::Messages(_) if emit == EmitArg::Ids => {
                return Err(document.error("--emit ids: a conversation stays text, expected --emit both"));
            }
            _ => emit != EmitArg::Text,
        };
        let ids = wants_ids.then(|| edited.edited.apply(ids));
        let metadata = self.metadata(edited)?;
        let patch = edited.patch(ids.as_deref());
        let patch = Patch {
            text: if emit == EmitArg::Ids && document.text().is_some() { Member::Remove } else { patch.text },
            metadata: metadata.as_deref().map_or(Member::Remove, Member::Set),
            ..patch
        };
        writer.write(document, &patch)
    }

    fn metadata(&self, edited: &EditedRecord) -> Result<Option<String>> {
        if self.args.form.no_metadata {
            return Ok(None);
        }
        let document = &edited.record.document;
        let edits = self.args.form.provenance.then(|| edited.token_edits.clone());
        let metadata = match self.args.generations.first_generation {
            0 => Metadata { edits, ..Metadata::of_generations(&edited.generations) },
            first => {
                let earlier = Metadata::of_earlier(document.metadata(), first, edits.is_some());
                earlier.map_err(|reason| document.error(reason))?.extended(&edited.generations, edits)
            }
        };
        let field = self.args.records.prompt.response_field.clone().filter(|_| document.text().is_some());
        let text = serde_json::to_string(&Metadata { field, ..metadata });
        text.map(Some).map_err(|error| document.error(error.to_string()))
    }

    /// The summary: on standard output after a diff, else on standard error; and in its file.
    fn report(&self, tally: &Tally, totals: &Totals) -> Result<()> {
        let timing = tally.timing(self.session.load_seconds);
        let text = format!("{}{}{}", tally.text(), timing.text(), totals.describe(self.config.generation()));
        let Metadata { counts, generations, .. } = Metadata::of_generations(&totals.generations);
        let summary = Summary {
            command: "edit",
            version: env!("CARGO_PKG_VERSION"),
            session: self.session.card(),
            edit: self.config,
            documents: tally.documents,
            counts,
            generations,
            truncated: tally.truncated,
            passed_through: &tally.passed_through,
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
    /// Adds a document's generations.
    pub fn add(&mut self, generations: &[Counts]) {
        self.generations.resize(self.generations.len().max(generations.len()), Counts::default());
        self.generations.iter_mut().zip(generations).for_each(|(total, counts)| *total += *counts);
    }

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
fn describe(counts: &Counts) -> String {
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
