//! The command: arguments, configuration, progress and signals. What it computes is the library's.

mod analyze;
mod args;
mod chunks;
mod collapse;
mod completions;
mod config_file;
mod corpus;
mod diff;
mod edit;
mod estimate;
mod eval;
mod figures;
mod generate;
mod info;
mod inspect;
mod logging;
mod marks;
mod mix;
mod panics;
mod pipeline;
mod progress;
mod revert;
mod score;
mod select;
mod session;
mod signals;
mod summary;
mod theory;
mod tokenize;
mod train;
mod verify;

use std::ffi::OsString;
use std::io::{ErrorKind, Write, stderr, stdout};
use std::path::Path;

use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::data::STANDARD_OUTPUT;
use crate::{Error, Result};
use args::{
    AnalyzeArgs, CollapseArgs, CommonArgs, EditArgs, EvalArgs, GenerateArgs, InfoArgs, InspectArgs,
    LogFormat, MixArgs, RevertArgs, ScoreArgs, SelectArgs, SelectRule, TheoryArgs, TokenizeArgs, TrainArgs,
    VerifyArgs,
};
use completions::CompletionsArgs;

/// Token-level editing of text corpora: score every token with a causal language model, resample the ones it finds too predictable.
#[derive(Debug, Parser)]
#[command(name = "toedit", version, max_term_width = 100)]
struct Cli {
    /// What to do.
    #[command(subcommand)]
    command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
enum Command {
    /// Log-probabilities and perplexity of each document
    Score(Box<ScoreArgs>),
    /// The method: an edited corpus
    Edit(Box<EditArgs>),
    /// Texts that go on from prompts, from the beginnings of documents, or from nothing
    Generate(Box<GenerateArgs>),
    /// A model, from scratch or further: all weights or adapters, whole texts or responses
    Train(Box<TrainArgs>),
    /// Measures of a model
    Eval(EvalArgs),
    /// Whether outputs are complete and what their manifests say
    Verify(VerifyArgs),
    /// The original, from edited text and provenance
    Revert(Box<RevertArgs>),
    /// Edited records, to look at in a terminal or a browser
    Inspect(Box<InspectArgs>),
    /// Memory-mapped token shards, to train on
    Tokenize(Box<TokenizeArgs>),
    /// Documents of a corpus, by importance weights or perplexity
    Select(SelectArgs),
    /// N-grams and token probabilities of corpora, as JSON, tables and pictures
    Analyze(Box<AnalyzeArgs>),
    /// A corpus of human and synthetic text, by shares of tokens
    Mix(Box<MixArgs>),
    /// Train, generate or edit, train again: perplexity by generation for four strategies
    Collapse(Box<CollapseArgs>),
    /// Collapse and editing in linear regression, simulated beside the closed forms
    Theory(Box<TheoryArgs>),
    /// What is built in, what the machine has, and a model's card
    Info(Box<InfoArgs>),
    /// A completion script for a shell
    Completions(CompletionsArgs),
}

impl Command {
    fn common(&self) -> Option<&CommonArgs> {
        match self {
            Self::Score(args) => Some(&args.common),
            Self::Edit(args) => Some(&args.common),
            Self::Generate(args) => Some(&args.common),
            Self::Train(args) => Some(&args.common),
            Self::Eval(args) => Some(args.measure.common()),
            Self::Verify(args) => Some(&args.common),
            Self::Revert(args) => Some(&args.common),
            Self::Inspect(args) => Some(&args.common),
            Self::Tokenize(args) => Some(&args.common),
            Self::Select(SelectArgs { rule: SelectRule::Dsir(args) }) => Some(&args.common),
            Self::Select(SelectArgs { rule: SelectRule::Perplexity(args) }) => Some(&args.common),
            Self::Analyze(args) => Some(&args.common),
            Self::Mix(args) => Some(&args.common),
            Self::Collapse(args) => Some(&args.common),
            Self::Theory(args) => Some(&args.common),
            Self::Info(args) => Some(&args.common),
            Self::Completions(_) => None,
        }
    }

    fn run(&self) -> Result<u8> {
        match self {
            Self::Score(args) => score::run(args),
            Self::Edit(args) => edit::run(args),
            Self::Generate(args) => generate::run(args),
            Self::Train(args) => train::run(args),
            Self::Eval(args) => eval::run(args),
            Self::Verify(args) => verify::run(args),
            Self::Revert(args) => revert::run(args),
            Self::Inspect(args) => inspect::run(args),
            Self::Tokenize(args) => tokenize::run(args),
            Self::Select(args) => select::run(args),
            Self::Analyze(args) => analyze::run(args),
            Self::Mix(args) => mix::run(args),
            Self::Collapse(args) => collapse::run(args),
            Self::Theory(args) => theory::run(args),
            Self::Info(args) => info::run(args),
            Self::Completions(args) => completions::run(args),
        }
    }
}

/// Why a command line was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The parser's word: wrong usage, or the help or version that was asked for.
    #[error(transparent)]
    Arguments(#[from] clap::Error),
    /// Anything later.
    #[error(transparent)]
    Run(#[from] Error),
}

impl Failure {
    /// Prints the message where it belongs and gives the exit status.
    pub fn report(&self) -> u8 {
        match self {
            Self::Arguments(error) => {
                let _ = error.print();
                error.exit_code() as u8
            }
            Self::Run(error) => {
                print_error(&format!("toedit: {error}"));
                error.exit_status()
            }
        }
    }
}

/// Carries out a command line (the program's name first) and gives the exit status.
///
/// # Errors
/// [`Failure`], whose [`report`](Failure::report) gives the status; with `--log-format json` only those of the arguments,
/// all later ones being reported here.
pub fn run(args: impl IntoIterator<Item = OsString>) -> Result<u8, Failure> {
    let mut root = Cli::command();
    let matches = parse(&mut root, args.into_iter().collect())?;
    let cli = Cli::from_arg_matches(&matches)?;
    if let Some(common) = cli.command.common() {
        if common.show_config {
            return Ok(show_config(&root, &matches)?);
        }
        logging::install(common);
    }
    let is_json = cli.command.common().is_some_and(|common| common.log_format == LogFormat::Json);
    match panics::catch(|| cli.command.run()) {
        Err(error) if is_closed_output(&error) => Ok(0),
        Err(error) if is_json => {
            print_error(&serde_json::json!({ "error": error.to_string() }).to_string());
            Ok(error.exit_status())
        }
        outcome => Ok(outcome?),
    }
}

/// Whether whoever read standard output has gone away, as `head` does when it has seen enough.
fn is_closed_output(error: &Error) -> bool {
    matches!(error, Error::Io { path, source }
        if path == Path::new(STANDARD_OUTPUT) && source.kind() == ErrorKind::BrokenPipe)
}

/// Parses twice where there is a configuration file: once to learn what the command line says, once with the rest of the file added.
fn parse(root: &mut clap::Command, mut args: Vec<OsString>) -> Result<ArgMatches, Failure> {
    let matches = root.try_get_matches_from_mut(&args)?;
    let cli = Cli::from_arg_matches(&matches)?;
    let Some(file) = cli.command.common().and_then(|common| common.config.as_deref()) else {
        return Ok(matches);
    };
    let running = Running::of(root, &matches);
    let added = config_file::arguments(file, root, &running)?;
    // Right after the command's name: further on, a `--` would turn them into positional ones.
    let name = running.command.get_name();
    let at = args.iter().position(|arg| arg == name).map_or(args.len(), |position| position + 1);
    args.splice(at..at, added);
    Ok(root.try_get_matches_from_mut(&args).map_err(|error| in_file(file, &error))?)
}

/// The command that runs.
struct Running<'a> {
    /// Its name, those of the commands that it belongs to first.
    path: Vec<&'a str>,
    command: &'a clap::Command,
    matches: &'a ArgMatches,
}

impl<'a> Running<'a> {
    fn of(root: &'a clap::Command, matches: &'a ArgMatches) -> Self {
        let mut running = Self { path: Vec::new(), command: root, matches };
        while let Some((name, matches)) = running.matches.subcommand()
            && let Some(command) = running.command.find_subcommand(name)
        {
            running.path.push(name);
            (running.command, running.matches) = (command, matches);
        }
        running
    }
}

/// The command line by itself was fine, so the parser's complaint is about the file.
fn in_file(file: &Path, error: &clap::Error) -> Error {
    let text = error.to_string();
    let reason = text.split("\n\n").next().unwrap_or(&text).trim_start_matches("error: ");
    Error::Usage(format!("{}: {}", file.display(), reason.trim()))
}

fn show_config(root: &clap::Command, matches: &ArgMatches) -> Result<u8> {
    let running = Running::of(root, matches);
    print(config_file::show(running.command, running.matches)?.as_bytes())?;
    Ok(0)
}

/// A line on standard error. Where that is closed there is nothing left to say it with.
fn print_error(line: &str) {
    let _ = writeln!(stderr(), "{line}");
}

/// Writes to standard output. A reader that has gone away, as `head` does, is no failure.
fn print(bytes: &[u8]) -> Result<()> {
    let mut stdout = stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Error::io(STANDARD_OUTPUT, error)),
        _ => Ok(()),
    }
}
