//! `toedit eval choices`: multiple-choice questions.
//!
//! The prediction is the choice with the largest log-likelihood, the first of equal ones; normalised, the one with the
//! largest log-likelihood per character, one leading space not counted. These are `acc` and `acc_norm` of the
//! lm-evaluation-harness, whose choices come without the space that it puts before them.

use serde::Serialize;

use super::figures::Figure;
use super::items::{Item, field};
use super::sets::{Identity, Test};
use crate::Result;
use crate::data::Document;
use crate::evaluate::Likelihood;

/// What is known of a question.
pub struct Choices {
    /// Characters of each choice, without one leading space.
    characters: Vec<usize>,
    /// The right one.
    answer: usize,
}

/// A line of the output.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    identity: Identity<'a>,
    loglikelihoods: Vec<f64>,
    tokens: Vec<usize>,
    characters: &'a [usize],
    prediction: usize,
    prediction_norm: usize,
    answer: usize,
}

impl Test for Choices {
    const NAME: &'static str = "choices";
    const FIGURES: [Figure; 2] = [Figure::share("acc"), Figure::share("acc_norm")];

    fn read(document: &Document) -> Result<(Self, Vec<(String, String)>)> {
        let choices: Vec<String> = field(document, "choices", "an array of strings")?;
        let answer: usize = field(document, "answer", "the number of a choice, from 0")?;
        let count = choices.len();
        if count < 2 {
            return Err(document.error(format!("field `choices`: {count}, expected at least 2")));
        }
        if answer >= count {
            return Err(document.error(format!("field `answer`: {answer}, expected 0 to {}", count - 1)));
        }
        let characters: Vec<_> = choices.iter().map(|choice| characters(choice)).collect();
        let name = |index| format!("choice {index}");
        if let Some(index) = characters.iter().position(|count| *count == 0) {
            return Err(document.error(format!("{}: empty", name(index))));
        }
        let named = choices.into_iter().enumerate().map(|(index, choice)| (name(index), choice));
        Ok((Self { characters, answer }, named.collect()))
    }

    fn values(&self, likelihoods: &[Likelihood]) -> [f64; 2] {
        [self.prediction(likelihoods), self.prediction_norm(likelihoods)]
            .map(|prediction| f64::from(u8::from(prediction == self.answer)))
    }

    fn line(identity: Identity, item: &Item<Self>, likelihoods: &[Likelihood]) -> serde_json::Result<String> {
        let test = &item.test;
        serde_json::to_string(&Line {
            identity,
            loglikelihoods: likelihoods.iter().map(|likelihood| likelihood.log).collect(),
            tokens: item.own_tokens(),
            characters: &test.characters,
            prediction: test.prediction(likelihoods),
            prediction_norm: test.prediction_norm(likelihoods),
            answer: test.answer,
        })
    }
}

impl Choices {
    fn prediction(&self, likelihoods: &[Likelihood]) -> usize {
        first_largest(likelihoods.iter().map(|likelihood| likelihood.log))
    }

    fn prediction_norm(&self, likelihoods: &[Likelihood]) -> usize {
        let per_character =
            |(likelihood, characters): (&Likelihood, &usize)| likelihood.log / *characters as f64;
        first_largest(likelihoods.iter().zip(&self.characters).map(per_character))
    }
}

/// Characters of a choice, without one leading space.
fn characters(choice: &str) -> usize {
    choice.strip_prefix(' ').unwrap_or(choice).chars().count()
}

/// The index of the largest value, the first of equal ones.
fn first_largest(values: impl Iterator<Item = f64>) -> usize {
    let larger = |best: (usize, f64), other: (usize, f64)| if other.1 > best.1 { other } else { best };
    values.enumerate().reduce(larger).map_or(0, |(index, _)| index)
}
