//! `toedit collapse`: train, generate or edit, train again.

mod progress;

use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;
use serde_json::{Map, Value};

use self::progress::CollapseProgress;
use super::args::{CollapseArgs, CollapseEditArgs, pool};
use super::figures::Figures;
use super::progress::Mode;
use super::signals::Interrupt;
use super::summary;
use crate::collapse::{
    CollapseConfig, Experiment, HumanConfig, Inputs, LearnerFiles, Mean, Strategy, SynthesisConfig, Table,
    TrainingConfig, plot,
};
use crate::data;
use crate::edit::{Action, Condition, EditConfig, Rule, Sampler, Strategy as Rules};
use crate::model::folder;
use crate::{Error, Result};

const JSON: &str = "collapse.json";
const CSV: &str = "collapse.csv";
const PERPLEXITY: &str = "perplexity.svg";
const CONCENTRATION: &str = "concentration.svg";

/// `collapse.json`: nothing in it depends on how long a run took or how often it was stopped.
#[derive(Serialize)]
struct Report<'a> {
    command: &'static str,
    version: &'static str,
    settings: &'a Map<String, Value>,
    rows: &'a Table,
    means: Vec<Mean>,
}

/// The summary file.
#[derive(Serialize)]
struct Summary<'a> {
    #[serde(flatten)]
    report: &'a Report<'a>,
    threads: usize,
    /// Of this run, which may have gone on with an earlier one.
    seconds: f64,
}

/// Runs the command and gives the exit status.
///
/// # Errors
/// Those of the arguments, the files and the stages.
pub fn run(args: &CollapseArgs) -> Result<u8> {
    args.check()?;
    let interrupt = Interrupt::install()?;
    let pool = pool(args.run.threads)?;
    pool.install(|| collapse(args, &interrupt, pool.current_num_threads()))?;
    Ok(0)
}

fn collapse(args: &CollapseArgs, interrupt: &Interrupt, threads: usize) -> Result<()> {
    let start = Instant::now();
    let output = args.output.output.as_deref().expect("`check` has seen it");
    let inputs = inputs(args)?;
    let files = inputs.data.files().iter().chain(inputs.held_out.iter().flat_map(data::Inputs::files));
    summary::check_apart(args.output.summary.as_deref(), files.map(|file| &*file.path).chain([output]))?;
    let config = config(args, interrupt)?;
    let experiment = Experiment::open(config.clone(), learner(args)?, inputs, output, args.begin())?;
    // Those of an earlier run are known to be one's, or not wanted.
    let figures = Figures::open(output, true, &[JSON, CSV, PERPLEXITY, CONCENTRATION])?;
    let mut progress = CollapseProgress::new(Mode::of(&args.common), &config);
    let table = experiment.run(&mut |event| {
        progress.show(&event);
        interrupt.requested().map_or(Ok(()), |signal| Err(Error::Stopped(signal)))
    })?;
    progress.finish();
    let settings = experiment.settings();
    let (command, version) = ("collapse", env!("CARGO_PKG_VERSION"));
    let report = Report { command, version, settings, rows: &table, means: table.means() };
    figures.write(CSV, &table.csv())?;
    figures.picture(PERPLEXITY, plot::perplexity(&table))?;
    figures.picture(CONCENTRATION, plot::concentration(&table))?;
    figures.json(JSON, &report)?;
    let seconds = start.elapsed().as_secs_f64();
    let text = text(&config, &report.means);
    let summary = Summary { report: &report, threads, seconds };
    summary::report(&args.common, args.output.summary.as_deref(), &text, &summary)
}

fn inputs(args: &CollapseArgs) -> Result<Inputs> {
    let held_out = (!args.data.eval_data.is_empty()).then(|| data::Inputs::expand(&args.data.eval_data));
    Ok(Inputs { data: data::Inputs::expand(&args.data.data)?, held_out: held_out.transpose()? })
}

/// The files that were named; none for the built-in learner.
fn learner(args: &CollapseArgs) -> Result<Option<LearnerFiles>> {
    let Some(config) = args.training.config_json.clone() else { return Ok(None) };
    let tokenizer = match &args.training.tokenizer {
        Some(model) => folder::resolve(model)?,
        None => summary::folder(&config).to_owned(),
    };
    Ok(Some(LearnerFiles { config, tokenizer }))
}

fn config(args: &CollapseArgs, interrupt: &Interrupt) -> Result<CollapseConfig> {
    let (device, dtype) = args.run.place()?;
    let (data, training, synthesis) = (&args.data, &args.training, &args.synthesis);
    Ok(CollapseConfig {
        strategies: args.strategies(),
        generations: args.experiment.generations.unwrap_or_default(),
        seed: args.run.seed,
        seeds: args.experiment.seeds,
        human: HumanConfig {
            tokens: data.tokens,
            document_tokens: data.document_tokens,
            held_out_share: data.held_out_share,
            read: args.read.options(),
        },
        training: TrainingConfig {
            steps: training.steps,
            batch_size: training.batch_size,
            sequence_length: training.sequence_length,
            learning_rate: training.learning_rate,
            save_every: training.save_every,
        },
        synthesis: SynthesisConfig {
            sampling: args.sampling.sampling(),
            prefix_tokens: synthesis.prefix_tokens,
            batch_size: synthesis.generate_batch_size,
        },
        human_share: args.experiment.human_share.unwrap_or(CollapseConfig::default().human_share),
        edit: edit_config(&args.edit)?,
        prior: prior(args)?,
        keep: args.output.keep.into(),
        device,
        dtype,
        stop: Some(interrupt.flag()),
    })
}

fn prior(args: &CollapseArgs) -> Result<Option<PathBuf>> {
    args.edit.prior.as_deref().map(folder::resolve).transpose()
}

fn edit_config(args: &CollapseEditArgs) -> Result<EditConfig> {
    let mut rules = args.rule.iter().map(|rule| rule.parse()).collect::<Result<Vec<Rule>>>()?;
    let above = args.resample_above.map(|t| Rule::new(Condition::AtLeast(t), Action::Resample));
    rules.extend(above.transpose()?);
    let config = EditConfig::new(Rules::UpRevise);
    let config = if rules.is_empty() { config } else { config.with_rules(rules) };
    let config = args.edit_top_k.map_or(Ok(config.clone()), |k| config.with_sampler(Sampler::TopK(k)))?;
    args.edit_temperature.map_or(Ok(config.clone()), |temperature| config.with_temperature(temperature))
}

/// What became of each strategy.
fn text(config: &CollapseConfig, means: &[Mean]) -> String {
    let of = |strategy: Strategy, generation: u32| {
        let is_it = |mean: &&Mean| (mean.strategy, mean.generation) == (strategy, generation);
        means.iter().find(is_it).map_or(String::new(), |mean| {
            let deviation = mean.deviation.map_or(String::new(), |deviation| format!(" ± {deviation:.4}"));
            format!("{:.4}{deviation}", mean.perplexity)
        })
    };
    let line = |strategy: &Strategy| {
        let (first, last) = (of(*strategy, 0), of(*strategy, config.generations));
        format!("{strategy}: held-out perplexity {first}, after {} generations {last}", config.generations)
    };
    config.strategies.iter().map(line).collect::<Vec<_>>().join("\n")
}
