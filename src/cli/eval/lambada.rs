//! `toedit eval lambada`: the last word of a passage.
//!
//! `acc` is the share of items of whose target every token is the most likely one in its place; `perplexity` is
//! e^(−mean ln p(target)), a target's tokens together, each item with equal weight: both as the lm-evaluation-harness
//! has them. The standard error of the perplexity is its own times that of the mean (the delta method).

use serde::Serialize;

use super::figures::Figure;
use super::items::{Item, field};
use super::sets::{Identity, Test};
use crate::Result;
use crate::data::Document;
use crate::evaluate::Likelihood;

/// The field with the word to be predicted, and the space before it.
const TARGET: &str = "target";

/// A passage without its last word.
pub struct Lambada;

/// A line of the output.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    identity: Identity<'a>,
    loglikelihood: f64,
    tokens: usize,
    is_greedy: bool,
}

impl Test for Lambada {
    const NAME: &'static str = "lambada";
    const FIGURES: [Figure; 2] = [Figure::share("acc"), Figure::perplexity("perplexity")];

    fn read(document: &Document) -> Result<(Self, Vec<(String, String)>)> {
        if document.text().is_some_and(str::is_empty) {
            return Err(document.error("an empty context: the target's first token follows from nothing"));
        }
        let target: String = field(document, TARGET, "a string")?;
        Ok((Self, vec![(format!("field `{TARGET}`"), target)]))
    }

    fn values(&self, likelihoods: &[Likelihood]) -> [f64; 2] {
        let Likelihood { log, is_greedy } = target(likelihoods);
        [f64::from(u8::from(is_greedy)), -log]
    }

    fn line(identity: Identity, item: &Item<Self>, likelihoods: &[Likelihood]) -> serde_json::Result<String> {
        let Likelihood { log, is_greedy } = target(likelihoods);
        let tokens = item.own_tokens().iter().sum();
        serde_json::to_string(&Line { identity, loglikelihood: log, tokens, is_greedy })
    }
}

/// The likelihood of the one continuation.
fn target(likelihoods: &[Likelihood]) -> Likelihood {
    likelihoods.first().copied().unwrap_or_default()
}
