//! Records as prompts, and with their texts.

use serde::Serialize;
use serde_json::{Value, json};

use super::{Run, Totals};
use crate::Result;
use crate::cli::args::TextFormArg;
use crate::cli::pipeline::Job;
use crate::cli::summary::DocumentCounts;
use crate::data::{Content, Document, Member, OutputWriter, Patch, Settings, TextEdit};
use crate::generate::{Finish, Generated, TextStream, start_id};

/// What stands before a text, besides its tokens.
pub(super) struct Start {
    pub stream: u64,
    /// Tokens before those of the record.
    pub context: usize,
    /// Whether the prompt is all of the record.
    is_whole: bool,
}

/// A text of a record.
pub(super) struct Text<'a> {
    pub generated: Generated,
    /// None without a tokenizer.
    pub stream: Option<TextStream<'a>>,
}

impl Text<'_> {
    fn text(&self) -> String {
        self.stream.as_ref().map(TextStream::text).unwrap_or_default()
    }
}

impl<'a> Run<'a, '_> {
    /// The tokens that a record's texts go on from.
    pub fn start(&self, document: &Document) -> Result<(Vec<u32>, Start)> {
        if matches!(document.content(), Content::Messages(_)) {
            return Err(document.error("messages: expected text or `input_ids` to go on from"));
        }
        let (composer, config) = (&self.session.composer, &self.session.config);
        let (ids, layout) = composer.compose(document, false)?;
        let taken = self.args.prompts.prefix_tokens.unwrap_or(ids.len()).min(ids.len());
        let mut prompt = composer.sequence(document, &ids, &layout).context.to_vec();
        if prompt.is_empty() && taken == 0 {
            prompt.extend(start_id(config));
        }
        let start = Start { stream: layout.stream(), context: prompt.len(), is_whole: taken == ids.len() };
        prompt.extend(&ids[..taken]);
        match self.generator.config().refusal(&prompt, config) {
            Some(reason) => Err(document.error(reason)),
            None => Ok((prompt, start)),
        }
    }

    /// The text of a job to be.
    pub fn stream(&self, job: &Job<Start>) -> Option<TextStream<'a>> {
        let tokenizer = self.session.composer.tokenizer()?;
        Some(TextStream::new(tokenizer, &self.args.ends.stop, job.ids.len() == job.extra.context))
    }

    /// A record in numbers.
    pub fn totals(&self, job: &Job<Start>, texts: &[Text]) -> Totals {
        let tokens = texts.iter().map(|text| text.generated.ids.len() as u64).sum();
        let stopped = texts.iter().filter(|text| text.generated.finish != Finish::Length).count();
        Totals {
            documents: DocumentCounts { documents: 1, tokens, ..DocumentCounts::default() },
            texts: texts.len() as u64,
            prompt_tokens: (job.ids.len() - job.extra.context) as u64,
            stopped: stopped as u64,
        }
    }

    /// Writes a record with its texts.
    pub fn write(&self, writer: &mut OutputWriter<Totals>, job: &Job<Start>, texts: &[Text]) -> Result<()> {
        let members = self.members(job.document.text().is_some(), texts);
        let members: Vec<_> = members.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let (mut edits, mut ids) = (Vec::new(), None);
        if let (true, [text]) = (self.args.emit() != TextFormArg::Output, texts) {
            match job.document.text() {
                Some(before) => edits.push(self.text_edit(before, job, text)),
                None => ids = Some(self.ids(job, text)),
            }
        }
        let text = if edits.is_empty() { Member::Keep } else { Member::Set(&edits[..]) };
        let ids = ids.as_deref().map_or(Member::Keep, Member::Set);
        let patch = Patch { text, ids, members: &members, ..Patch::default() };
        writer.write(&job.document, &patch, &self.totals(job, texts))
    }

    /// Names and raw JSON of the members that are asked for.
    fn members(&self, is_text: bool, texts: &[Text]) -> Vec<(&'static str, String)> {
        let (mut members, form) = (Vec::new(), &self.args.form);
        let is_output = self.args.emit() == TextFormArg::Output;
        if is_output && is_text {
            members.push(("output", self.each(texts, |text| text.text())));
        }
        if is_output {
            members.push(("finish_reason", self.each(texts, |text| text.generated.finish.name())));
        }
        if form.ids || (is_output && !is_text) {
            members.push(("output_ids", self.each(texts, |text| text.generated.ids.clone())));
        }
        if form.logprobs {
            members.push(("output_logprobs", self.each(texts, |text| text.generated.logprobs.clone())));
        }
        members
    }

    /// Raw JSON of what each text has: a list where several texts are asked for.
    fn each<T: Serialize>(&self, texts: &[Text], value: impl Fn(&Text) -> T) -> String {
        let values: Vec<T> = texts.iter().map(value).collect();
        let json = match &values[..] {
            [value] if self.args.prompts.samples == 1 => serde_json::to_string(value),
            values => serde_json::to_string(values),
        };
        json.expect("texts and numbers always have a JSON form")
    }

    /// The record's text with the new one in its place, or behind the prompt.
    fn text_edit(&self, before: &str, job: &Job<Start>, text: &Text) -> TextEdit {
        let (start, end) = (0, before.len());
        match self.args.emit() {
            TextFormArg::Document if job.extra.is_whole => TextEdit { start: end, end, new: text.text() },
            TextFormArg::Document => {
                let own = &job.ids[job.extra.context..];
                let prompt = self.session.composer.tokenizer().map(|tokenizer| {
                    let mut stream = TextStream::new(tokenizer, &[], true);
                    for id in own {
                        // No stop text ends it.
                        let _ = stream.push(*id);
                    }
                    stream
                });
                let new = [prompt.as_ref(), text.stream.as_ref()].into_iter().flatten();
                let bytes: Vec<u8> = new.flat_map(|stream| stream.bytes()).copied().collect();
                TextEdit { start, end, new: String::from_utf8_lossy(&bytes).into_owned() }
            }
            _ => TextEdit { start, end, new: text.text() },
        }
    }

    fn ids(&self, job: &Job<Start>, text: &Text) -> Vec<u32> {
        let prompt =
            if self.args.emit() == TextFormArg::Document { &job.ids[job.extra.context..] } else { &[] };
        [prompt, text.generated.content()].concat()
    }

    /// What the output depends on beside the model and the input.
    pub fn settings(&self) -> Settings {
        let (config, prompts) = (self.generator.config(), &self.args.prompts);
        let sampling = config.sampling;
        let settings = json!({
            "seed": config.seed,
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "min_p": sampling.min_p,
            "repetition_penalty": sampling.repetition_penalty,
            "max_new_tokens": config.max_new_tokens,
            "eos": config.eos,
            "stop": self.args.ends.stop,
            "documents": prompts.documents,
            "prefix_tokens": prompts.prefix_tokens,
            "samples": prompts.samples,
            "emit": self.args.emit().name(),
            "ids": self.args.form.ids,
            "logprobs": self.args.form.logprobs,
        });
        let Value::Object(settings) = settings else { unreachable!("an object was written") };
        settings
    }
}
