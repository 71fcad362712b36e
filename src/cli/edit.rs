//! `toedit edit`: the method, from records to records.

use std::collections::BTreeMap;

use serde::Serialize;

use super::args::{EditArgs, EmitArg, RuleArgs, SamplerArg, SamplerArgs, ShardArg, StrategyArg};
use super::diff::Diff;
use super::pipeline::{Job, Pipeline, name_record};
use super::progress::{Mode, Progress};
use super::session::{Session, SessionCard};
use super::signals::Interrupt;
use super::summary::{self, Tally, Timing};
use super::{estimate, print};
use crate::data::{Document, Documents, Inputs, Member, OutputWriter, Outputs, Patch, Payload};
use crate::data::{ReadOptions, Shard, TextEdit, stream_key};
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
        (Some(limit), _) => Sink::Diff(Diff::new(limit)),
        (None, Some(outputs)) => Sink::Write(Box::new(outputs.writer(args.output.overwrite))),
        (None, None) => unreachable!("`check` asks for an output"),
    };
    let (tally, counts) = session.pool.install(|| run.edit(&editor, documents, sink, &progress))?;
    progress.finish();
    run.report(&tally, counts)?;
    Ok(tally.exit_status())
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
    ) -> Result<(Tally, Counts)> {
        let read = documents.progress();
        let (mut tally, mut counts) = (Tally::default(), Counts::default());
        Pipeline {
            interrupt: self.interrupt,
            chunk_tokens: self.session.chunk_tokens(),
            prepare: |document| prepare(self.session, document),
            work: |jobs| {
                tally.begin_batch();
                let outputs = self.edit_chunk(editor, jobs)?;
                tally.end_batch();
                for output in &outputs {
                    tally.count(&self.session.sequence(&output.job), &self.session.score.windows);
                    counts += output.edited.counts;
                    if matches!(output.job.extra, Layout::Unaligned) {
                        *tally.passed_through.entry(UNALIGNED).or_default() += 1;
                    }
                }
                progress.update(tally.documents, tally.tokens, read.read());
                Ok(outputs)
            },
            write: |output: Output| match &mut sink {
                Sink::Write(writer) => self.write(writer, &output),
                Sink::Diff(diff) => diff.show(&output.job.document, &output.edited, &output.token_edits),
            },
        }
        .run(documents)?;
        if let Sink::Write(writer) = sink {
            writer.finish()?;
        }
        Ok((tally, counts))
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

    fn write(&self, writer: &mut OutputWriter, output: &Output) -> Result<()> {
        let Output { job, edited, .. } = output;
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
        writer.write(&job.document, &patch)
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
    fn report(&self, tally: &Tally, counts: Counts) -> Result<()> {
        let timing = tally.timing(self.session.load_seconds);
        let text = format!("{}{}{}", tally.text(), timing.text(), describe(&counts));
        let summary = Summary {
            command: "edit",
            version: env!("CARGO_PKG_VERSION"),
            session: self.session.card(),
            edit: self.config,
            documents: tally.documents,
            counts,
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

/// Encodes a document and finds its tokens' bytes.
pub(super) fn prepare(session: &Session, document: Document) -> Result<Job<Layout>> {
    let ids = session.encode(&document)?;
    let extra = match (document.text(), &session.tokenizer) {
        (Some(text), Some(tokenizer)) => tokenizer.align(text, &ids).map_or(Layout::Unaligned, Layout::Text),
        _ => Layout::Ids,
    };
    Ok(Job { document, ids, extra })
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
