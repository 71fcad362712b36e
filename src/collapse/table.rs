//! What comes out: a row for each strategy, seed and generation.

use serde::{Deserialize, Serialize};

use super::concentration::Concentration;
use super::config::Strategy;

/// What editing did to a generation's data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edits {
    /// Tokens whose probability met a rule's condition.
    pub eligible: u64,
    /// Tokens that are different afterwards.
    pub changed: u64,
    /// Tokens removed.
    pub dropped: u64,
}

/// A generation's data, and how well its model does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Texts that the model learned from.
    pub texts: u64,
    /// Their tokens.
    pub tokens: u64,
    /// Those of texts as humans wrote them; null where texts are edited.
    pub human_tokens: Option<u64>,
    /// Of the held-out texts: mean −ln p in nats a token.
    pub loss: f64,
    /// e^loss.
    pub perplexity: f64,
    /// Of the n-grams of the data.
    #[serde(flatten)]
    pub concentration: Concentration,
    /// Null where nothing is edited.
    pub edits: Option<Edits>,
}

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The strategy. Generation 0 is the same for all.
    pub strategy: Strategy,
    /// The seed.
    pub seed: u64,
    /// From 0, which learns from human text.
    pub generation: u32,
    /// What came out.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// All seeds of a strategy's generation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Mean {
    /// The strategy.
    pub strategy: Strategy,
    /// The generation.
    pub generation: u32,
    /// Seeds.
    pub seeds: usize,
    /// Mean of the held-out perplexities.
    pub perplexity: f64,
    /// Their standard deviation (n − 1 in the denominator); null for a single seed.
    pub deviation: Option<f64>,
}

/// All rows: by strategy, then seed, then generation.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Table {
    /// The rows.
    pub rows: Vec<Row>,
}

/// The columns of [`Table::csv`].
const COLUMNS: &str = "strategy,seed,generation,texts,tokens,human_tokens,loss,perplexity,gini,entropy,top_40_share,distinct_2,\
                       eligible,changed,dropped";

impl Table {
    /// All rows as comma-separated values, numbers as they are read back.
    pub fn csv(&self) -> String {
        let lines = self.rows.iter().map(|row| {
            let Row { strategy, seed, generation, outcome } = row;
            let Outcome { texts, tokens, human_tokens, loss, perplexity, concentration, edits } = outcome;
            let Concentration { gini, entropy, top_40_share, distinct_2 } = concentration;
            let count = |count: Option<u64>| count.map_or(String::new(), |count| count.to_string());
            let [eligible, changed, dropped] =
                [|edits: Edits| edits.eligible, |edits: Edits| edits.changed, |edits: Edits| edits.dropped]
                    .map(|of| count(edits.map(of)));
            let human = count(*human_tokens);
            format!(
                "\n{strategy},{seed},{generation},{texts},{tokens},{human},{loss},{perplexity},{gini},{entropy},\
                 {top_40_share},{distinct_2},{eligible},{changed},{dropped}"
            )
        });
        COLUMNS.to_owned() + &lines.collect::<String>() + "\n"
    }

    /// Perplexities over all seeds, in the rows' order.
    pub fn means(&self) -> Vec<Mean> {
        let is_first = |row: &&Row| row.seed == self.rows[0].seed;
        let mean = |first: &Row| {
            let values = self.of(first.strategy, first.generation, |outcome| outcome.perplexity);
            let (perplexity, deviation) = moments(&values);
            let Row { strategy, generation, .. } = *first;
            Mean { strategy, generation, seeds: values.len(), perplexity, deviation }
        };
        self.rows.iter().filter(is_first).map(mean).collect()
    }

    /// A figure of all seeds of a generation.
    pub(super) fn of(
        &self,
        strategy: Strategy,
        generation: u32,
        figure: impl Fn(&Outcome) -> f64,
    ) -> Vec<f64> {
        let is_it = |row: &&Row| (row.strategy, row.generation) == (strategy, generation);
        self.rows.iter().filter(is_it).map(|row| figure(&row.outcome)).collect()
    }
}

/// Mean and standard deviation.
pub(super) fn moments(values: &[f64]) -> (f64, Option<f64>) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt()))
}
