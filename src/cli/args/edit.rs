//! Arguments of `toedit edit`.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum, value_parser};

use super::records::{ResponseArgs, no_resume};
use super::shared::{CommitArgs, CommonArgs, InputArgs, Missing, ModelArgs, OutputArgs, RunArgs, WindowArgs};
use super::values::{ShardArg, at_least, mass, positive, threshold};
use crate::data::Outputs;
use crate::{Error, Result};

/// The method: an edited corpus.
#[derive(Args, Clone, Debug)]
pub struct EditArgs {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// What to read.
    #[command(flatten)]
    pub input: InputArgs,
    /// Take part I of N of the documents, from 0, and write name-I-of-N; auto asks Slurm's array, OpenMPI or torchrun
    #[arg(long, value_name = "I/N|auto", help_heading = "Input")]
    pub shard: Option<ShardArg>,
    /// What is edited of them.
    #[command(flatten)]
    pub records: ResponseArgs,
    /// What to write.
    #[command(flatten)]
    pub output: OutputArgs,
    /// How the output grows.
    #[command(flatten)]
    pub commit: CommitArgs,
    /// What the records hold.
    #[command(flatten)]
    pub form: FormArgs,
    /// Which tokens are edited.
    #[command(flatten)]
    pub rules: RuleArgs,
    /// How a replacement is drawn.
    #[command(flatten)]
    pub sampler: SamplerArgs,
    /// How often.
    #[command(flatten)]
    pub generations: GenerationArgs,
    /// Scores that are kept.
    #[command(flatten)]
    pub cache: CacheArgs,
    /// How a document meets the window.
    #[command(flatten)]
    pub window: WindowArgs,
    /// Where and how to compute.
    #[command(flatten)]
    pub run: RunArgs,
    /// What every command takes.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// What the edited records hold, and runs that write nothing.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Output")]
pub struct FormArgs {
    /// Record every edit, so that `toedit revert` can undo it
    #[arg(long, conflicts_with = "no_metadata")]
    pub provenance: bool,
    /// Text, ids (as `input_ids`), or both
    #[arg(long, value_enum, value_name = "FORM", default_value_t = EmitArg::Text)]
    pub emit: EmitArg,
    /// Leave out the `toedit` object with the counts of each record
    #[arg(long)]
    pub no_metadata: bool,
    /// Print the first N documents with their edits, then the summary, which covers all of the input; write nothing (N
    /// is 10 where left out)
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "10", value_parser = at_least(1))]
    #[arg(conflicts_with = "dry_run")]
    pub diff: Option<usize>,
    /// Count and estimate; write nothing
    #[arg(long)]
    pub dry_run: bool,
}

impl FormArgs {
    /// Checks that the outputs can hold what is asked for.
    ///
    /// # Errors
    /// [`Error::Usage`] if a text file would have to hold more than text.
    pub fn check_outputs(&self, outputs: &Outputs) -> Result<()> {
        let asked = match self.emit {
            _ if self.provenance => "--provenance",
            EmitArg::Ids => "--emit ids",
            EmitArg::Both => "--emit both",
            EmitArg::Text => return Ok(()),
        };
        outputs.text_file().map_or(Ok(()), |path| {
            let path = path.display();
            Err(Error::Usage(format!(
                "{path}: a text file cannot hold what {asked} adds: write .jsonl instead"
            )))
        })
    }
}

/// What an edited record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EmitArg {
    /// The edited text (the edited ids where the input is ids).
    Text,
    /// The edited ids.
    Ids,
    /// Text and ids.
    Both,
}

impl EmitArg {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Ids => "ids",
            Self::Both => "both",
        }
    }
}

/// Which tokens are edited. The group is one setting: any of it on the command line replaces all of it in a configuration file.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Rules")]
#[group(id = super::super::config_file::RULES)]
pub struct RuleArgs {
    /// Rules by name; any other rule replaces them
    #[arg(long, value_enum, value_name = "NAME", default_value_t = StrategyArg::UpRevise)]
    pub strategy: StrategyArg,
    /// Resample tokens with p >= T
    #[arg(long, value_name = "T", value_parser = threshold, allow_negative_numbers = true)]
    pub resample_above: Option<f64>,
    /// Resample tokens with p < T
    #[arg(long, value_name = "T", value_parser = threshold, allow_negative_numbers = true)]
    pub resample_below: Option<f64>,
    /// Drop tokens with p >= T
    #[arg(long, value_name = "T", value_parser = threshold, allow_negative_numbers = true)]
    pub drop_above: Option<f64>,
    /// Drop tokens with p < T
    #[arg(long, value_name = "T", value_parser = threshold, allow_negative_numbers = true)]
    pub drop_below: Option<f64>,
    /// A rule such as 'p<=0.1:resample' or '0.2<=p<0.3:keep'; repeatable, the first that holds decides
    #[arg(long, value_name = "RULE")]
    pub rule: Vec<String>,
}

/// A named list of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StrategyArg {
    /// p >= 0.99 → resample, at temperature 1.5
    UpRevise,
    /// p >= 0.99 → resample, p < 0.001 → drop, at temperature 1
    LowDropUpRevise,
    /// p < 0.001 → drop
    Filtering,
}

/// How often the text is edited.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Generations")]
pub struct GenerationArgs {
    /// Edit the output again, by the same model, until this many generations are done
    #[arg(long, value_name = "G", default_value_t = 1, value_parser = value_parser!(u32).range(1..=1 << 20))]
    pub generations: u32,
    /// Go on with the output of an earlier run: its generations are 0 to N − 1
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = value_parser!(u32).range(..1 << 20))]
    pub first_generation: u32,
}

/// Where scores are kept, so that other rules need not run the model again.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Score cache")]
pub struct CacheArgs {
    /// Keep the scores in this folder, with as many of the largest logits as the sampler top-k draws from
    #[arg(long, value_name = "DIR", conflicts_with_all = ["from_cache", "dry_run", "diff"])]
    pub cache: Option<PathBuf>,
    /// Edit by the scores that `toedit score --top-k K --cache DIR` or `toedit edit --cache DIR` kept, without running the
    /// model; for the sampler top-k with no more than K candidates
    #[arg(long, value_name = "DIR")]
    pub from_cache: Option<PathBuf>,
}

impl CacheArgs {
    /// Checks them against the rest.
    fn check(&self, generations: u32, output: Option<&Path>) -> Result<()> {
        let (flag, folder) = match (&self.cache, &self.from_cache) {
            (Some(folder), _) => ("--cache", folder),
            (_, Some(folder)) => ("--from-cache", folder),
            _ => return Ok(()),
        };
        if generations > 1 {
            return Err(Error::Usage(format!(
                "{flag} is for one generation: a later one edits texts that are not known before"
            )));
        }
        if output == Some(folder.as_path()) {
            return Err(Error::Usage(format!("--output and {flag} are both {}", folder.display())));
        }
        Ok(())
    }
}

/// How a replacement is drawn.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Sampling")]
pub struct SamplerArgs {
    /// Where candidates come from
    #[arg(long, value_enum, value_name = "SAMPLER", default_value_t = SamplerArg::TopK)]
    pub sampler: SamplerArg,
    /// Candidates of the sampler top-k [default: 8]
    #[arg(long, value_name = "K", value_parser = at_least(1))]
    pub top_k: Option<usize>,
    /// Probability mass of the candidates of the sampler top-p
    #[arg(long, value_name = "P", value_parser = mass)]
    pub top_p: Option<f64>,
    /// Divides the logits before the draw [default: the strategy's, else 1.5]
    #[arg(long, value_name = "B", value_parser = positive)]
    pub temperature: Option<f64>,
    /// Never draw the token that is there already
    #[arg(long)]
    pub exclude_original: bool,
}

/// Where the candidates of a replacement come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SamplerArg {
    /// The K most likely tokens
    TopK,
    /// The most likely tokens up to a mass of P
    TopP,
    /// The whole vocabulary
    Full,
    /// The whole vocabulary, by up to 64 proposals
    Rejection,
}

impl EditArgs {
    /// Whether the run writes an output.
    pub fn writes(&self) -> bool {
        self.form.diff.is_none() && !self.form.dry_run
    }

    /// Checks that everything needed was given.
    ///
    /// # Errors
    /// [`Error::Usage`] naming what is missing.
    pub fn check(&self) -> Result<()> {
        let missing = Missing::default().model(&self.model).input(&self.input);
        let missing = if self.writes() { missing.output(&self.output) } else { missing };
        missing.check("toedit edit --model assets/tiny --input assets/sample.jsonl --diff")?;
        let GenerationArgs { generations, first_generation } = self.generations;
        self.cache.check(generations, self.output.output.as_deref())?;
        if self.cache.cache.is_some() && self.commit.resume {
            return Err(no_resume());
        }
        if self.form.provenance && self.form.emit != EmitArg::Text && generations + first_generation > 1 {
            return Err(Error::Usage(format!(
                "--provenance cannot restore the ids of several generations of text: leave out --emit {}, or --provenance",
                self.form.emit.name()
            )));
        }
        if self.writes() { self.commit.check(&self.output) } else { Ok(()) }
    }
}
