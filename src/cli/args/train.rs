//! Arguments of `toedit train`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::shared::{CommonArgs, RunArgs};
use super::tokenize::RecordArgs;
use super::values::{at_least, betas, fraction, non_negative, positive};
use crate::data::{DEFAULT_MAX_DOCUMENT_BYTES, ReadOptions};
use crate::{Error, Result};

/// Trains a model: from scratch, further, by adapters, or on responses alone.
#[derive(Args, Clone, Debug)]
pub struct TrainArgs {
    /// What learns.
    #[command(flatten)]
    pub learner: LearnerArgs,
    /// What it learns from.
    #[command(flatten)]
    pub data: TrainDataArgs,
    /// How records become tokens.
    #[command(flatten)]
    pub records: RecordArgs,
    /// How it learns.
    #[command(flatten)]
    pub optimizer: OptimizerArgs,
    /// What is written.
    #[command(flatten)]
    pub output: TrainOutputArgs,
    /// Where and how to compute.
    #[command(flatten)]
    pub run: RunArgs,
    /// What every command takes.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// What learns.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Model")]
pub struct LearnerArgs {
    /// Folder of the model to train further, or its id in the local Hugging Face cache
    #[arg(long, value_name = "M", conflicts_with = "config_json")]
    pub model: Option<String>,
    /// Train a model of this configuration from scratch
    #[arg(long, value_name = "FILE")]
    pub config_json: Option<PathBuf>,
    /// Folder with the tokenizer of a model from scratch [default: the one that lies beside --config-json]
    #[arg(long, value_name = "DIR", conflicts_with = "model")]
    pub tokenizer: Option<PathBuf>,
    /// Train adapters of this rank on all products inside the blocks instead of all weights; merged when saved
    #[arg(long, value_name = "R", value_parser = at_least(1), conflicts_with = "config_json")]
    pub lora_rank: Option<usize>,
    /// Over the rank, the factor of what adapters add [default: twice the rank]
    #[arg(long, value_name = "A", value_parser = positive, requires = "lora_rank")]
    pub lora_alpha: Option<f64>,
    /// Compute each block's activations again in the backward pass instead of keeping them: a third more time, far less memory
    #[arg(long)]
    pub recompute: bool,
}

/// What it learns from.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Data")]
pub struct TrainDataArgs {
    /// JSON lines, text files, folders of them, or folders that `toedit tokenize` wrote; each is one part of a mixture
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub data: Vec<PathBuf>,
    /// Share of the tokens that each --data gives, in their order [default: by their size]
    #[arg(long, value_name = "W", num_args = 1.., value_parser = positive)]
    pub data_weight: Vec<f64>,
    /// Field of the record that holds the text
    #[arg(long, value_name = "NAME", default_value = "text")]
    pub text_field: String,
    /// Only responses carry loss, not what they answer
    #[arg(long)]
    pub response_only: bool,
    /// The longest line or text file that is read, in bytes after decompression
    #[arg(long, value_name = "N", value_parser = at_least(1), default_value_t = DEFAULT_MAX_DOCUMENT_BYTES)]
    pub max_document_bytes: usize,
    /// How documents become rows
    #[arg(long, value_enum, value_name = "HOW", default_value_t = PackingArg::Concatenate)]
    pub packing: PackingArg,
    /// Tokens of a row; one less are predicted [default: the model's own length, at most 1024]
    #[arg(long, value_name = "T", value_parser = at_least(2))]
    pub sequence_length: Option<usize>,
    /// Take rows in the order of the data
    #[arg(long)]
    pub no_shuffle: bool,
    /// Held-out data
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub eval_data: Vec<PathBuf>,
    /// Steps between evaluations of the held-out data; they are also evaluated at the end
    #[arg(long, value_name = "N", value_parser = at_least(1))]
    pub eval_every: Option<usize>,
}

/// How documents become rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PackingArg {
    /// One stream with an end-of-sequence token between documents, cut into rows.
    Concatenate,
    /// Each document is a row, and nothing is added.
    Documents,
}

/// How it learns.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Optimizer")]
pub struct OptimizerArgs {
    /// Optimizer steps; wins over --epochs
    #[arg(long, value_name = "N", value_parser = at_least(1))]
    pub steps: Option<usize>,
    /// Passes over the data [default: 1]
    #[arg(long, value_name = "E", value_parser = positive)]
    pub epochs: Option<f64>,
    /// Rows of a batch
    #[arg(long, value_name = "B", value_parser = at_least(1), default_value_t = 8)]
    pub batch_size: usize,
    /// Batches whose gradients make one step
    #[arg(long, value_name = "N", value_parser = at_least(1), default_value_t = 1)]
    pub accumulate: usize,
    /// Peak learning rate
    #[arg(long, value_name = "R", value_parser = positive, default_value_t = 3e-4)]
    pub learning_rate: f64,
    /// How the learning rate goes on after its warm-up
    #[arg(long, value_enum, value_name = "HOW", default_value_t = ScheduleArg::Cosine)]
    pub schedule: ScheduleArg,
    /// Steps over which the learning rate rises [default: 100, but at least 1 %
    /// and at most 10 % of the steps]
    #[arg(long, value_name = "N", value_parser = at_least(0))]
    pub warmup: Option<usize>,
    /// What the learning rate falls to [default: a tenth of the peak]
    #[arg(long, value_name = "R", value_parser = non_negative)]
    pub min_learning_rate: Option<f64>,
    /// Decay of AdamW's two moments
    #[arg(long, value_name = "A,B", value_parser = betas, default_value = "0.9,0.95")]
    pub betas: [f64; 2],
    /// Added to the root of the second moment
    #[arg(long, value_name = "E", value_parser = positive, default_value_t = 1e-8)]
    pub eps: f64,
    /// Decay of the tensors of two or more dimensions
    #[arg(long, value_name = "W", value_parser = non_negative, default_value_t = 0.1)]
    pub weight_decay: f64,
    /// Largest global norm of the gradient, 0 for none
    #[arg(long, value_name = "N", value_parser = non_negative, default_value_t = 1.0)]
    pub clip: f64,
    /// No loss where the model gives the token more than this probability (ForTIFAI)
    #[arg(long, value_name = "G", value_parser = fraction)]
    pub truncate_above: Option<f64>,
}

/// How the learning rate goes on after its warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ScheduleArg {
    /// It stays.
    Constant,
    /// It falls along half a cosine.
    Cosine,
    /// It stays, and falls linearly over the last fifth.
    Wsd,
}

/// What is written.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Output")]
pub struct TrainOutputArgs {
    /// Folder of the trained model, its metrics and its checkpoints
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Replace what an earlier run left in the output
    #[arg(long, conflicts_with = "resume")]
    pub overwrite: bool,
    /// Go on from the last checkpoint in the output, if there is one
    #[arg(long)]
    pub resume: bool,
    /// Steps between checkpoints [default: only at the end]
    #[arg(long, value_name = "N", value_parser = at_least(1))]
    pub save_every: Option<usize>,
    /// Checkpoints that are kept, besides the one with the lowest held-out loss
    #[arg(long, value_name = "N", value_parser = at_least(1), default_value_t = 2)]
    pub keep_last: usize,
    /// Write TensorBoard's event files to this folder
    #[arg(long, value_name = "DIR")]
    pub log_dir: Option<PathBuf>,
    /// Write counts, settings and rates to this file as one JSON object
    #[arg(long, value_name = "FILE")]
    pub summary: Option<PathBuf>,
}

impl TrainArgs {
    /// How records are read.
    ///
    /// # Errors
    /// [`Error::Usage`] if prompt and response are the same field.
    pub fn read_options(&self) -> Result<ReadOptions> {
        let TrainDataArgs { text_field, max_document_bytes, .. } = &self.data;
        let (text_field, max_document_bytes) = (text_field.clone(), *max_document_bytes);
        let options = ReadOptions { text_field, max_document_bytes, ..ReadOptions::default() };
        self.records.prompt.read_options(options)
    }

    /// Checks that everything needed was given.
    ///
    /// # Errors
    /// [`Error::Usage`] naming what is missing.
    pub fn check(&self) -> Result<()> {
        let example = "toedit train --model assets/tiny --data assets/sample.jsonl --output target/trained";
        let missing = [
            (
                self.learner.model.is_none() && self.learner.config_json.is_none(),
                "--model M or --config-json FILE",
            ),
            (self.data.data.is_empty(), "--data PATH (JSON lines, text files, or folders of tokens)"),
            (self.output.output.is_none(), "--output DIR"),
        ];
        let missing: Vec<_> = missing.iter().filter(|(missing, _)| *missing).map(|(_, what)| *what).collect();
        if !missing.is_empty() {
            return Err(Error::Usage(format!("missing {}\nfor example: {example}", missing.join(", "))));
        }
        if ![0, self.data.data.len()].contains(&self.data.data_weight.len()) {
            let (weights, data) = (self.data.data_weight.len(), self.data.data.len());
            return Err(Error::Usage(format!(
                "{weights} --data-weight for {data} --data: expected one for each"
            )));
        }
        if self.data.eval_every.is_some() && self.data.eval_data.is_empty() {
            return Err(Error::Usage(
                "--eval-every without --eval-data: there is nothing to evaluate".into(),
            ));
        }
        Ok(())
    }
}
