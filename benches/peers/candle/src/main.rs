//! Scores documents with candle's own Llama on the CPU.
//!
//! Its forward pass returns the logits of the last position alone: each document's ids but the last go in, and the one
//! log-probability that comes out is compared with that of `toedit score --per-token`. The head's product for all other
//! positions, and their log-softmax, is work that candle is spared here.
//!
//! usage: candle-peer MODEL INPUT AGAINST      INPUT: JSON lines of equally long `input_ids`; $RAYON_NUM_THREADS threads
//!
//! Prints one JSON object per setting (dtype x batch size); what candle cannot compute is said on standard error.

use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Instant;

use candle_core::{D, DType, Device, Tensor, safetensors};
use candle_nn::{VarBuilder, ops::log_softmax};
use candle_transformers::models::llama::{Cache, Config, Llama, LlamaConfig};
use serde::Deserialize;
use serde_json::json;

const DTYPES: [(&str, DType); 3] = [("f32", DType::F32), ("bf16", DType::BF16), ("f16", DType::F16)];
const BATCH_SIZES: [usize; 2] = [1, 4];

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[derive(Deserialize)]
struct Record {
    input_ids: Vec<u32>,
}

#[derive(Deserialize)]
struct Scored {
    logprobs: Vec<Option<f64>>,
}

fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [model, input, against] = &arguments[..] else {
        return Err("usage: candle-peer MODEL INPUT AGAINST".into());
    };
    let documents: Vec<Record> = read_lines(input)?;
    let ours: Vec<Scored> = read_lines(against)?;
    let config = fs::read(Path::new(model).join("config.json"))?;
    let config = serde_json::from_slice::<LlamaConfig>(&config)?.into_config(false);
    let weights = safetensors::load(Path::new(model).join("model.safetensors"), &Device::Cpu)?;
    for (name, dtype) in DTYPES {
        for batch_size in BATCH_SIZES {
            match measure(&weights, &config, dtype, &documents, batch_size) {
                Ok((theirs, seconds)) => report(name, batch_size, &theirs, &ours, seconds, &documents)?,
                Err(error) => eprintln!("candle, {name}, batches of {batch_size}: {error}"),
            }
        }
    }
    Ok(())
}

fn read_lines<T: for<'a> Deserialize<'a>>(path: &str) -> Result<Vec<T>> {
    let text = fs::read_to_string(path)?;
    Ok(text.lines().map(serde_json::from_str).collect::<serde_json::Result<_>>()?)
}

/// The last log-probability of each document, and the seconds for all after one batch to warm up.
fn measure(
    weights: &HashMap<String, Tensor>,
    config: &Config,
    dtype: DType,
    documents: &[Record],
    batch_size: usize,
) -> Result<(Vec<f64>, f64)> {
    let model = Llama::load(VarBuilder::from_tensors(weights.clone(), dtype, &Device::Cpu), config)?;
    // Cosines, sines and masks; keys and values are not kept.
    let mut cache = Cache::new(false, dtype, config, &Device::Cpu)?;
    let mut score = |batch: &[Record]| score_batch(&model, &mut cache, batch);
    score(&documents[..batch_size])?;
    let start = Instant::now();
    let scored = documents.chunks(batch_size).map(&mut score).collect::<Result<Vec<_>>>()?;
    Ok((scored.concat(), start.elapsed().as_secs_f64()))
}

fn score_batch(model: &Llama, cache: &mut Cache, batch: &[Record]) -> Result<Vec<f64>> {
    let inputs: Vec<_> = batch.iter().map(|record| &record.input_ids[..record.input_ids.len() - 1]).collect();
    let targets: Vec<_> = batch.iter().filter_map(|record| record.input_ids.last().copied()).collect();
    let targets = Tensor::new(targets, &Device::Cpu)?.unsqueeze(1)?;
    let logits = model.forward(&Tensor::new(inputs, &Device::Cpu)?, 0, cache)?;
    let logprobs = log_softmax(&logits, D::Minus1)?.gather(&targets, 1)?.squeeze(1)?;
    Ok(logprobs.to_dtype(DType::F64)?.to_vec1()?)
}

fn report(
    dtype: &str,
    batch_size: usize,
    theirs: &[f64],
    ours: &[Scored],
    seconds: f64,
    documents: &[Record],
) -> Result<()> {
    let last =
        |scored: &Scored| scored.logprobs.last().copied().flatten().ok_or("a document without a score");
    let differences = ours.iter().zip(theirs).map(|(ours, theirs)| Ok((last(ours)? - theirs).abs()));
    let differences = differences.collect::<Result<Vec<f64>>>()?;
    let tokens: usize = documents.iter().map(|record| record.input_ids.len() - 1).sum();
    let figures = json!({
        "dtype": dtype,
        "batch_size": batch_size,
        "tokens": tokens,
        "seconds": seconds,
        "tokens_per_second": tokens as f64 / seconds,
        "compared": differences.len(),
        "mean_abs_difference": differences.iter().sum::<f64>() / differences.len() as f64,
        "max_abs_difference": differences.iter().copied().fold(0.0, f64::max),
    });
    println!("{figures}");
    Ok(())
}
