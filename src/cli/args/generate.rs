//! Arguments of `toedit generate`.

use clap::{Args, ValueEnum, value_parser};

use super::shared::{
    BosArg, CommitArgs, CommonArgs, InputArgs, Missing, ModelArgs, OutputArgs, RunArgs, WindowArgs,
};
use super::values::{at_least, between, mass, non_negative, positive, share};
use crate::data::{Outputs, is_dash};
use crate::generate::Sampling;
use crate::{Error, Result};

/// Texts that go on from prompts, from the beginnings of documents, or from nothing.
#[derive(Args, Clone, Debug)]
pub struct GenerateArgs {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// What texts go on from.
    #[command(flatten)]
    pub prompts: PromptsArgs,
    /// What to read.
    #[command(flatten)]
    pub input: InputArgs,
    /// What to write.
    #[command(flatten)]
    pub output: OutputArgs,
    /// How the output grows.
    #[command(flatten)]
    pub commit: CommitArgs,
    /// What the records hold.
    #[command(flatten)]
    pub form: TextFormArgs,
    /// How tokens are chosen.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Where texts end.
    #[command(flatten)]
    pub ends: EndArgs,
    /// Where and how to compute.
    #[command(flatten)]
    pub run: RunArgs,
    /// Texts at a time; results do not depend on it
    #[arg(long, value_name = "N", value_parser = between(1, 4096), default_value_t = 32, help_heading = "Run")]
    pub batch_size: usize,
    /// What every command takes.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// What texts go on from.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Prompts")]
pub struct PromptsArgs {
    /// Go on from this text, and show it as it comes
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["input", "documents", "output"])]
    pub prompt: Option<String>,
    /// Write this many documents that begin from nothing
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..), conflicts_with = "input")]
    pub documents: Option<u64>,
    /// Go on from the first N tokens of each document instead of all of it
    #[arg(long, value_name = "N", value_parser = at_least(1), requires = "input")]
    pub prefix_tokens: Option<usize>,
    /// Texts from each prompt
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(1..=1 << 20))]
    pub samples: u32,
    /// Beginning-of-sequence token; auto does what the tokenizer does by itself
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = BosArg::Auto)]
    pub bos: BosArg,
}

/// What the records hold.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Output")]
pub struct TextFormArgs {
    /// Where the new text goes [default: output; text with --documents]
    #[arg(long, value_enum, value_name = "FORM")]
    pub emit: Option<TextFormArg>,
    /// Also write the new tokens as `output_ids`
    #[arg(long)]
    pub ids: bool,
    /// Also write their log-probabilities in the model's own distribution as `output_logprobs`
    #[arg(long)]
    pub logprobs: bool,
}

/// Where the new text goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TextFormArg {
    /// Into `output` (`output_ids` where the prompt is ids), with `finish_reason`
    Output,
    /// In place of the record's text (or ids)
    Text,
    /// Behind the prompt, in place of the record's text (or ids)
    Document,
}

impl TextFormArg {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Output => "output",
            Self::Text => "text",
            Self::Document => "document",
        }
    }
}

/// How tokens are chosen: transformers' order, the penalty first.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingArgs {
    /// Divides the logits; 0 takes the most likely token
    #[arg(long, value_name = "T", value_parser = non_negative, default_value_t = 1.0)]
    pub temperature: f64,
    /// Only the K most likely tokens [default: all]
    #[arg(long, value_name = "K", value_parser = at_least(1))]
    pub top_k: Option<usize>,
    /// Only the most likely tokens up to this mass [default: all]
    #[arg(long, value_name = "P", value_parser = mass)]
    pub top_p: Option<f64>,
    /// Only tokens with at least this share of the most likely one's probability [default: all]
    #[arg(long, value_name = "P", value_parser = share)]
    pub min_p: Option<f64>,
    /// Makes tokens of the prompt and the text so far less likely, above 1 [default: none]
    #[arg(long, value_name = "F", value_parser = positive)]
    pub repetition_penalty: Option<f64>,
}

impl SamplingArgs {
    /// What they mean.
    pub fn sampling(&self) -> Sampling {
        Sampling {
            temperature: self.temperature,
            top_k: self.top_k.unwrap_or(0),
            top_p: self.top_p.unwrap_or(1.0),
            min_p: self.min_p.unwrap_or(0.0),
            repetition_penalty: self.repetition_penalty.unwrap_or(1.0),
        }
    }
}

/// Where texts end.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "End")]
pub struct EndArgs {
    /// New tokens at most
    #[arg(long, value_name = "N", value_parser = at_least(1), default_value_t = 256)]
    pub max_new_tokens: usize,
    /// Tokens of prompt and text together [default: the model's own, at most 2048]
    #[arg(long, value_name = "N", value_parser = at_least(2))]
    pub max_length: Option<usize>,
    /// End before this text; repeatable, the first that comes decides
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// Make the token that ends a text an ordinary one: it can come, and does not end it
    #[arg(long)]
    pub ignore_eos: bool,
}

impl GenerateArgs {
    /// Where the new text goes.
    pub fn emit(&self) -> TextFormArg {
        let default = if self.prompts.documents.is_some() { TextFormArg::Text } else { TextFormArg::Output };
        self.form.emit.unwrap_or(default)
    }

    /// How a record meets the model's window.
    pub fn window(&self) -> WindowArgs {
        WindowArgs {
            max_length: self.ends.max_length,
            overlap: None,
            truncate: false,
            bos: self.prompts.bos,
            batch_tokens: None,
        }
    }

    /// Checks that everything needed was given.
    ///
    /// # Errors
    /// [`Error::Usage`] naming what is missing or does not go together.
    pub fn check(&self) -> Result<()> {
        let PromptsArgs { prompt, documents, samples, .. } = &self.prompts;
        let from_input = prompt.is_none() && documents.is_none();
        let missing = Missing::default().model(&self.model);
        let missing = if from_input { missing.prompts(&self.input) } else { missing };
        missing.check("toedit generate --model assets/tiny --prompt 'The President'")?;
        if self.ends.stop.iter().any(String::is_empty) {
            return Err(Error::Usage("--stop: an empty text would end every text".into()));
        }
        if *samples > 1 && self.emit() != TextFormArg::Output {
            let form = self.emit().name();
            return Err(Error::Usage(format!(
                "--samples {samples}: a record has room for one text with --emit {form}, expected --emit output"
            )));
        }
        let names = ["output", "output_ids", "output_logprobs", "finish_reason"];
        if names.contains(&self.input.text_field.as_str()) {
            let name = &self.input.text_field;
            return Err(Error::Usage(format!("--text-field {name}: a field that this command writes")));
        }
        if prompt.is_some() { Ok(()) } else { self.commit.check(&self.output) }
    }

    /// Checks that the outputs can hold what is asked for.
    ///
    /// # Errors
    /// [`Error::Usage`] if a text file would have to hold more than text.
    pub fn check_outputs(&self, outputs: &Outputs) -> Result<()> {
        match outputs.text_file().filter(|path| !is_dash(path)) {
            Some(path) if self.emit() == TextFormArg::Output || self.form.ids || self.form.logprobs => {
                let path = path.display();
                Err(Error::Usage(format!(
                    "{path}: a text file holds text only: write .jsonl instead, or --emit text or document alone"
                )))
            }
            _ => Ok(()),
        }
    }
}
