//! `toedit generate`: texts that go on from prompts, from the beginnings of documents, or from nothing.

mod prompt;
mod records;

use std::io::{self, BufWriter, Write};
use std::ops::{AddAssign, ControlFlow};

use serde::{Deserialize, Serialize};
use serde_json::json;

use self::records::{Start, Text};
use super::args::GenerateArgs;
use super::pipeline::{Entry, Job, MAX_DOCUMENTS, Pipeline, name_record, refuse};
use super::progress::{Mode, Progress};
use super::session::{Session, SessionCard};
use super::signals::Interrupt;
use super::summary::{self, DocumentCounts, Outcome, Tally, Timing, counted};
use crate::compose::ComposeConfig;
use crate::data::{Document, Documents, Inputs, OutputWriter, Outputs, Payload, Settings, Written};
use crate::generate::{GenerateConfig, Generator, Prompt, eos_ids};
use crate::model::{Model, folder};
use crate::{Error, Result};

/// Texts of a chunk for each place in the batch: places stand empty only at a chunk's end.
const ROUNDS: usize = 8;
/// Tokens of a chunk's prompts.
const CHUNK_TOKENS: usize = 1 << 20;

/// The summary file.
#[derive(Serialize)]
struct Summary<'a> {
    command: &'static str,
    version: &'static str,
    #[serde(flatten)]
    session: SessionCard,
    #[serde(flatten)]
    settings: Settings,
    texts: u64,
    prompt_tokens: u64,
    generated_tokens: u64,
    stopped: u64,
    #[serde(flatten)]
    outcome: &'a Outcome,
    /// Tokens a second are new ones.
    #[serde(flatten)]
    timing: Timing,
}

/// Sums over documents, kept with the output.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Documents, and their new tokens.
    pub documents: DocumentCounts,
    /// Texts.
    pub texts: u64,
    /// Tokens of prompts.
    pub prompt_tokens: u64,
    /// Texts that the model or a stop text ended.
    pub stopped: u64,
}

impl AddAssign<&Self> for Totals {
    fn add_assign(&mut self, other: &Self) {
        self.documents += &other.documents;
        self.texts += other.texts;
        self.prompt_tokens += other.prompt_tokens;
        self.stopped += other.stopped;
    }
}

/// Runs the command and gives the exit status.
///
/// # Errors
/// Those of the arguments, the files and the model.
pub fn run(args: &GenerateArgs) -> Result<u8> {
    args.check()?;
    let interrupt = Interrupt::install()?;
    if let Some(text) = &args.prompts.prompt {
        return prompt::run(args, text, &interrupt);
    }
    let inputs = inputs(args)?;
    let output = args.output.output.as_deref().unwrap_or("-".as_ref());
    let outputs = Outputs::plan(&inputs, output, Payload::Documents)?;
    args.check_outputs(&outputs)?;
    outputs.check(args.commit.begin(&args.output))?;
    summary::check(args.output.summary.as_deref(), &inputs, Some(&outputs))?;
    let documents = inputs.documents(args.input.read_options())?;
    let (session, model) = open(args, &interrupt)?;
    let config = config(args, &session, &model, &interrupt)?;
    let generator = Generator::new(&model, config)?;
    let progress = Progress::new(Mode::of(&args.common), inputs.total_bytes());
    let run =
        Run { args, session: &session, generator: &generator, progress: &progress, interrupt: &interrupt };
    let writer = run.writer(outputs)?;
    let (was_done, documents) = (writer.is_done(), documents.with_plan(writer.read_plan()));
    let (tally, written) = session.pool.install(|| run.generate(documents, writer))?;
    progress.finish();
    let outcome = Outcome::new(&written.counts.documents, &written, was_done);
    run.report(&tally, &written.counts, &outcome)?;
    Ok(outcome.exit_status())
}

/// What is read; documents from nothing are a stream of numbered records without text.
fn inputs(args: &GenerateArgs) -> Result<Inputs> {
    let Some(documents) = args.prompts.documents else {
        return Inputs::expand(&args.input.input);
    };
    let model = folder::resolve(args.model.model.as_deref().unwrap_or_default())?;
    let content = if model.join(folder::TOKENIZER).exists() {
        format!("{}:\"\"", json!(args.input.text_field))
    } else {
        "\"input_ids\":[]".to_owned()
    };
    let write = || {
        let mut file = BufWriter::new(tempfile::tempfile()?);
        (0..documents).try_for_each(|number| writeln!(file, "{{\"id\":{number},{content}}}"))?;
        Ok(Inputs::from_stream(file.into_inner()?))
    };
    write().map_err(|error: io::Error| Error::io(std::env::temp_dir(), error))
}

fn open(args: &GenerateArgs, interrupt: &Interrupt) -> Result<(Session, Model)> {
    let compose = ComposeConfig { bos: args.prompts.bos.into(), ..ComposeConfig::default() };
    let (session, model) = Session::open(&args.model, &args.run, &args.window(), compose, interrupt)?;
    if !args.ends.stop.is_empty() && session.composer.tokenizer().is_none() {
        return Err(Error::Usage("--stop: the model's folder has no tokenizer.json to find it by".into()));
    }
    Ok((session, model))
}

/// The settings of the generator.
fn config(
    args: &GenerateArgs,
    session: &Session,
    model: &Model,
    interrupt: &Interrupt,
) -> Result<GenerateConfig> {
    let eos = if args.ends.ignore_eos { Vec::new() } else { eos_ids(model.folder(), model.config())? };
    let vocabulary = model.config().vocab_size;
    let tokenizer = session.composer.tokenizer();
    Ok(GenerateConfig {
        max_new_tokens: args.ends.max_new_tokens,
        sampling: args.sampling.sampling(),
        seed: args.run.seed,
        eos,
        vocabulary: tokenizer.map_or(vocabulary, |tokenizer| tokenizer.len().min(vocabulary)),
        max_length: session.score.windows.max_length(),
        batch_size: args.batch_size,
        logprobs: args.form.logprobs,
        stop: Some(interrupt.flag()),
    })
}

/// What the stages share.
struct Run<'a, 'm> {
    args: &'a GenerateArgs,
    session: &'a Session,
    generator: &'a Generator<'m>,
    progress: &'a Progress,
    interrupt: &'a Interrupt,
}

impl<'a> Run<'a, '_> {
    fn generate(
        &self,
        documents: Documents,
        mut writer: OutputWriter<Totals>,
    ) -> Result<(Tally, Written<Totals>)> {
        let read = documents.progress();
        let mut tally = Tally::default();
        let samples = self.args.prompts.samples as usize;
        Pipeline {
            interrupt: self.interrupt,
            on_error: self.args.commit.on_error,
            chunk_tokens: CHUNK_TOKENS,
            chunk_documents: (ROUNDS * self.args.batch_size / samples).clamp(1, MAX_DOCUMENTS),
            prepare: |document: &Document| self.start(document),
            work: |jobs: Vec<Job<Start>>| {
                tally.begin_batch();
                let mut counts = tally.done.clone();
                let texts = self.texts(&jobs, || {
                    counts.tokens += 1;
                    self.progress.update(counts.documents, counts.tokens, read.read());
                })?;
                tally.end_batch();
                let done: Vec<_> = jobs.into_iter().zip(texts).collect();
                done.iter().for_each(|(job, texts)| tally.done += &self.totals(job, texts).documents);
                Ok(done)
            },
            write: |entry: Entry<(Job<Start>, Vec<Text>)>| match entry {
                Entry::Done((job, texts)) => self.write(&mut writer, &job, &texts),
                Entry::Refused(refused) => {
                    let totals = Totals { documents: DocumentCounts::refused(), ..Totals::default() };
                    refuse(self.args.commit.on_error, &mut writer, &refused, &totals)
                }
            },
        }
        .run(documents)?;
        Ok((tally, writer.finish()?))
    }

    /// The texts of each job; `watch` is called for each new token.
    fn texts<'j>(&self, jobs: &'j [Job<Start>], mut watch: impl FnMut()) -> Result<Vec<Vec<Text<'a>>>> {
        let samples = self.args.prompts.samples;
        let of_job = |job: &'j Job<Start>| (0..samples).map(move |sample| (job, sample));
        let each: Vec<_> = jobs.iter().flat_map(of_job).collect();
        let prompt = |(job, sample): &(&'j Job<Start>, u32)| Prompt {
            ids: &job.ids,
            stream: job.extra.stream,
            sample: *sample,
        };
        let prompts: Vec<_> = each.iter().map(prompt).collect();
        let mut streams: Vec<_> = each.iter().map(|(job, _)| self.stream(job)).collect();
        let eos = &self.generator.config().eos;
        let generated = self.generator.generate_with(&prompts, |index, id| {
            watch();
            match &mut streams[index] {
                Some(stream) if !eos.contains(&id) => stream.push(id),
                _ => ControlFlow::Continue(()),
            }
        });
        let generated = generated.map_err(|error| match error {
            Error::Document { index, reason } => {
                name_record(Error::Document { index: index / samples as usize, reason }, jobs)
            }
            other => other,
        })?;
        let text = |(generated, stream)| Text { generated, stream };
        let mut texts = generated.into_iter().zip(streams).map(text);
        Ok(jobs.iter().map(|_| texts.by_ref().take(samples as usize).collect()).collect())
    }

    /// Begins to write.
    fn writer(&self, outputs: Outputs) -> Result<OutputWriter<Totals>> {
        let Self { args, session, .. } = self;
        let mut settings = session.settings("generate")?;
        settings.extend(self.settings());
        outputs.writer(args.commit.write_config(&args.output, &args.input.read_options(), settings))
    }

    fn report(&self, tally: &Tally, totals: &Totals, outcome: &Outcome) -> Result<()> {
        let timing = tally.timing(self.session.load_seconds);
        let Totals { texts, prompt_tokens, stopped, .. } = *totals;
        let text = format!(
            "{}{}, {}, {prompt_tokens} tokens of prompts, {stopped} ended before their length",
            outcome.text(),
            timing.text(),
            counted(texts, "text"),
        );
        let summary = Summary {
            command: "generate",
            version: env!("CARGO_PKG_VERSION"),
            session: self.session.card(),
            settings: self.settings(),
            texts,
            prompt_tokens,
            generated_tokens: totals.documents.tokens,
            stopped,
            outcome,
            timing,
        };
        summary::report(&self.args.common, self.args.output.summary.as_deref(), &text, &summary)
    }
}
