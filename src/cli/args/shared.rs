//! Arguments that several commands share, in groups as the help shows them.

use std::num::NonZero;
use std::path::PathBuf;
use std::thread::available_parallelism;

use clap::{Args, ValueEnum};
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::eval::ItemArgs;
use super::values::{DeviceArg, DtypeArg, at_least, between};
use crate::compose::Bos;
use crate::data::{
    Begin, DEFAULT_FRAME_BYTES, DEFAULT_MAX_DOCUMENT_BYTES, OutputColumns, ReadOptions, Settings,
};
use crate::data::{MAX_DOCUMENT_BYTES, ON_ERROR, WriteConfig, is_dash};
use crate::device::Device;
use crate::model::Dtype;
use crate::{Error, Result};

/// The model that scores and resamples.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Model")]
pub struct ModelArgs {
    /// Folder of the model, or its id in the local Hugging Face cache
    #[arg(long, value_name = "M")]
    pub model: Option<String>,
    /// Map the weights' files instead of reading them (a file that shrinks meanwhile then ends the process)
    #[arg(long)]
    pub mmap: bool,
}

/// Where and how the arithmetic runs.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Run")]
pub struct RunArgs {
    /// auto, cpu, cuda, cuda:N or emulator; auto takes a usable GPU where there is one
    #[arg(long, value_name = "DEVICE", default_value_t = DeviceArg::Auto)]
    pub device: DeviceArg,
    /// Type of weights and activations; auto takes bf16 where the machine is fast at it
    #[arg(long, value_enum, value_name = "DTYPE", default_value_t = DtypeArg::Auto)]
    pub dtype: DtypeArg,
    /// Threads [default: the processors that the process may use]
    #[arg(long, value_name = "N", value_parser = at_least(1))]
    pub threads: Option<usize>,
    /// Seed of all that is random
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

/// How a command runs that needs no device.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Run")]
pub struct PoolArgs {
    /// Threads [default: the processors that the process may use]
    #[arg(long, value_name = "N", value_parser = at_least(1))]
    pub threads: Option<usize>,
    /// Seed of all that is random
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

impl RunArgs {
    /// The device and the type of its products.
    ///
    /// # Errors
    /// A device that this build does not know.
    pub fn place(&self) -> Result<(Device, Dtype)> {
        let device: Device = self.device.to_string().parse()?;
        let dtype = match self.dtype {
            DtypeArg::Auto => Dtype::auto(device),
            DtypeArg::F32 => Dtype::F32,
            DtypeArg::Bf16 => Dtype::Bf16,
        };
        Ok((device, dtype))
    }
}

/// As many threads as asked for.
///
/// # Errors
/// The system's.
pub fn pool(threads: Option<usize>) -> Result<ThreadPool> {
    let threads = threads.unwrap_or_else(default_threads);
    let pool = ThreadPoolBuilder::new().num_threads(threads).build();
    pool.map_err(|error| Error::Usage(format!("{threads} threads: {error}")))
}

/// The processors that the process may use; 1 where the system does not say.
pub fn default_threads() -> usize {
    available_parallelism().map_or(1, NonZero::get)
}

/// How a document meets the model's window.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Windows")]
pub struct WindowArgs {
    /// Window in tokens [default: the model's own, at most 2048]
    #[arg(long, value_name = "N", value_parser = at_least(2))]
    pub max_length: Option<usize>,
    /// Tokens that a window shares with the one before [default: half a window]
    #[arg(long, value_name = "N", value_parser = at_least(1))]
    pub overlap: Option<usize>,
    /// Score the first window alone; the tail is passed through unedited and counted
    #[arg(long)]
    pub truncate: bool,
    /// Beginning-of-sequence token; auto does what the tokenizer does by itself
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = BosArg::Auto)]
    pub bos: BosArg,
    /// Tokens worked on at a time, up to 16777216; results do not depend on it
    #[arg(long, value_name = "N", value_parser = between(1, 1 << 24), help_heading = "Run")]
    pub batch_tokens: Option<usize>,
}

/// Whether a beginning-of-sequence token stands before each document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BosArg {
    /// What the tokenizer's own post-processor does; nothing where the input is ids.
    Auto,
    /// Before every document.
    Always,
    /// Before none.
    Never,
}

impl From<BosArg> for Bos {
    fn from(arg: BosArg) -> Self {
        match arg {
            BosArg::Auto => Self::Auto,
            BosArg::Always => Self::Always,
            BosArg::Never => Self::Never,
        }
    }
}

/// What to read.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Input")]
pub struct InputArgs {
    /// JSON lines (plain, gzip or zstd), Parquet, text files, folders or patterns (`*`) of them, or `-`
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub input: Vec<PathBuf>,
    /// Field of the record that holds the text
    #[arg(long, value_name = "NAME", default_value = "text")]
    pub text_field: String,
    /// The longest line or text file that is read, in bytes after decompression
    #[arg(long, value_name = "N", value_parser = at_least(1), default_value_t = DEFAULT_MAX_DOCUMENT_BYTES)]
    pub max_document_bytes: usize,
}

impl InputArgs {
    /// How records are read.
    pub fn read_options(&self) -> ReadOptions {
        let (text_field, max_document_bytes) = (self.text_field.clone(), self.max_document_bytes);
        ReadOptions { text_field, max_document_bytes, ..ReadOptions::default() }
    }
}

/// What to write.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// File or folder to write, or `-` for standard output
    #[arg(long, value_name = "PATH")]
    pub output: Option<PathBuf>,
    /// Replace an existing output or summary
    #[arg(long)]
    pub overwrite: bool,
    /// Write counts, settings and rates to this file as one JSON object
    #[arg(long, value_name = "FILE")]
    pub summary: Option<PathBuf>,
}

/// How the output grows, and what becomes of records that cannot be used.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Output")]
pub struct CommitArgs {
    /// Go on where an earlier run of the same command was stopped or killed, to the same bytes; a finished output is done
    #[arg(long)]
    pub resume: bool,
    /// What becomes of a record that cannot be used
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = OnErrorArg::Stop)]
    pub on_error: OnErrorArg,
    /// Bytes, before compression, that are made durable at a time: at most so much is done again after a run was killed.
    /// Compressed outputs depend on it
    #[arg(long, value_name = "N", value_parser = between(1, 1 << 30), default_value_t = DEFAULT_FRAME_BYTES)]
    pub frame_bytes: usize,
}

/// What becomes of a record that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnErrorArg {
    /// The run ends with an error that names it; all before it is kept for --resume
    Stop,
    /// It goes to OUTPUT.rejects with its place and the reason
    Skip,
    /// It comes out as it is
    Pass,
}

impl OnErrorArg {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Skip => "skip",
            Self::Pass => "pass",
        }
    }
}

impl CommitArgs {
    /// What to do with an output that is there.
    pub fn begin(&self, output: &OutputArgs) -> Begin {
        match (self.resume, output.overwrite) {
            (true, _) => Begin::Resume,
            (_, true) => Begin::Overwrite,
            _ => Begin::New,
        }
    }

    /// Checks that there is a place for what is set aside.
    ///
    /// # Errors
    /// [`Error::Usage`].
    pub fn check(&self, output: &OutputArgs) -> Result<()> {
        if self.on_error == OnErrorArg::Skip && output.output.as_deref().is_some_and(is_dash) {
            let reason = "--on-error skip needs a place for what it sets aside: name a file as --output";
            return Err(Error::Usage(reason.into()));
        }
        Ok(())
    }

    /// How outputs are written whose bytes depend on `settings`.
    pub fn write_config(
        &self,
        output: &OutputArgs,
        read: &ReadOptions,
        mut settings: Settings,
    ) -> WriteConfig {
        settings.insert("text_field".to_owned(), read.text_field.clone().into());
        settings.insert(MAX_DOCUMENT_BYTES.to_owned(), read.max_document_bytes.into());
        settings.insert(ON_ERROR.to_owned(), self.on_error.name().into());
        let frame_bytes = self.frame_bytes;
        let columns = OutputColumns { text_field: read.text_field.clone(), ..OutputColumns::default() };
        WriteConfig { frame_bytes, settings, columns, ..WriteConfig::new(self.begin(output)) }
    }
}

/// What every command takes.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "General")]
pub struct CommonArgs {
    /// No progress and no summary on standard error; errors are still printed
    #[arg(long)]
    pub quiet: bool,
    /// Form of the lines on standard error
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Read flags from a TOML file, under their names without dashes; those on the command line win
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the configuration in effect as TOML and stop
    #[arg(long)]
    pub show_config: bool,
}

/// Form of the lines on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

const MODEL: &str = "--model M (a model's folder, or its id in the local Hugging Face cache)";
const INPUT: &str = "--input PATH (JSON lines or text files, or folders of them)";
const PROMPTS: &str =
    "--prompt TEXT, --input PATH (JSON lines or text files, or folders of them) or --documents N";
const ITEMS: &str = "--input PATH (JSON lines, or folders of them)";
const OUTPUT: &str = "--output PATH (or `-` for standard output)";

/// Collects what a command needs and was not given. Checked here rather than by the parser, since a configuration file may give it.
#[derive(Default)]
pub(super) struct Missing(Vec<&'static str>);

impl Missing {
    pub fn model(self, args: &ModelArgs) -> Self {
        self.model_name(args.model.as_deref())
    }

    pub fn model_name(self, model: Option<&str>) -> Self {
        self.unless(model.is_some(), MODEL)
    }

    pub fn input(self, args: &InputArgs) -> Self {
        self.unless(!args.input.is_empty(), INPUT)
    }

    pub fn prompts(self, args: &InputArgs) -> Self {
        self.unless(!args.input.is_empty(), PROMPTS)
    }

    pub fn items(self, args: &ItemArgs) -> Self {
        self.unless(!args.input.is_empty(), ITEMS)
    }

    pub fn output(self, args: &OutputArgs) -> Self {
        self.unless(args.output.is_some(), OUTPUT)
    }

    pub fn unless(mut self, given: bool, what: &'static str) -> Self {
        if !given {
            self.0.push(what);
        }
        self
    }

    /// Names all that is missing, and an example of the command.
    pub fn check(self, example: &str) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(Error::Usage(format!("missing {}\nfor example: {example}", self.0.join(", "))))
    }
}
