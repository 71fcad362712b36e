//! Figures of sets: what is kept of each file's items, and the table of them.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::cli::summary::DocumentCounts;
use crate::evaluate::Mean;

/// A figure of a test, of the mean of what its items give.
pub struct Figure {
    /// Its name in summaries.
    name: &'static str,
    /// The figure and its standard error of a mean and its own.
    of: fn(f64, f64) -> [f64; 2],
}

impl Figure {
    /// A share of the items.
    pub const fn share(name: &'static str) -> Self {
        Self { name, of: |mean, error| [mean, error] }
    }

    /// e to the mean.
    pub const fn perplexity(name: &'static str) -> Self {
        Self { name, of: |mean, error| [mean.exp(), mean.exp() * error] }
    }

    /// The figure and its standard error, where there are enough items.
    fn values(&self, mean: &Mean) -> [Option<f64>; 2] {
        let value = mean.value().map(|value| (self.of)(value, 0.0)[0]);
        let error = mean.value().zip(mean.standard_error()).map(|(value, error)| (self.of)(value, error)[1]);
        [value, error]
    }
}

/// Sums over items, kept with the output.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Items.
    pub documents: DocumentCounts,
    /// By the number of their file.
    files: BTreeMap<usize, Row>,
}

/// Sums over a file's items.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Row {
    /// Items whose context was cut.
    cut: u64,
    means: [Mean; 2],
}

impl Totals {
    /// One item of the file with that number.
    pub fn item(documents: DocumentCounts, file: usize, values: [f64; 2]) -> Self {
        let cut = u64::from(documents.truncated > 0);
        let means = values.map(|value| [value].into_iter().collect());
        Self { documents, files: [(file, Row { cut, means })].into() }
    }

    /// A record that cannot be used.
    pub fn refused() -> Self {
        Self { documents: DocumentCounts::refused(), ..Self::default() }
    }
}

impl AddAssign<&Self> for Totals {
    fn add_assign(&mut self, other: &Self) {
        self.documents += &other.documents;
        other.files.iter().for_each(|(file, row)| *self.files.entry(*file).or_default() += row);
    }
}

impl AddAssign<&Self> for Row {
    fn add_assign(&mut self, other: &Self) {
        self.cut += other.cut;
        self.means.iter_mut().zip(&other.means).for_each(|(mean, other)| *mean += other);
    }
}

/// The figures of a test on its files.
pub struct Table<'a> {
    /// Tokens of all items.
    pub tokens: u64,
    figures: &'a [Figure; 2],
    /// The files' names with their sums.
    rows: Vec<(String, Row)>,
    all: Row,
}

impl<'a> Table<'a> {
    /// Of files with these names.
    pub fn new(figures: &'a [Figure; 2], names: impl Iterator<Item = String>, totals: &Totals) -> Self {
        let row = |(file, name)| (name, totals.files.get(&file).cloned().unwrap_or_default());
        let rows: Vec<_> = names.enumerate().map(row).collect();
        let mut all = Row::default();
        rows.iter().for_each(|(_, row)| all += row);
        Self { tokens: totals.documents.tokens, figures, rows, all }
    }

    /// The figures over all items by their names, and under `files` those of each file.
    pub fn json(&self) -> Map<String, Value> {
        let mut json = self.figures(&self.all);
        let file = |(name, row): &(String, Row)| {
            let mut file = self.figures(row);
            file.insert("file".to_owned(), json!(name));
            Value::Object(file)
        };
        json.insert("files".to_owned(), self.rows.iter().map(file).collect());
        json
    }

    fn figures(&self, row: &Row) -> Map<String, Value> {
        let counts = [("items", row.means[0].count()), ("cut", row.cut)];
        let mut json: Map<_, _> =
            counts.map(|(name, count)| (name.to_owned(), json!(count))).into_iter().collect();
        for (figure, mean) in self.figures.iter().zip(&row.means) {
            let [value, error] = figure.values(mean);
            json.insert(figure.name.to_owned(), json!(value));
            json.insert(format!("{}_stderr", figure.name), json!(error));
        }
        json
    }

    /// A line for each file, and one for all where there are several, under a heading.
    pub fn text(&self) -> String {
        let mut heading = vec!["file".to_owned(), "items".to_owned()];
        heading.extend(self.figures.iter().flat_map(|figure| [figure.name.to_owned(), "stderr".to_owned()]));
        let mut lines = vec![heading];
        lines.extend(self.rows.iter().map(|(name, row)| self.cells(name, row)));
        if self.rows.len() > 1 {
            lines.push(self.cells("all", &self.all));
        }
        let width = |column: usize| lines.iter().map(|cells| cells[column].chars().count()).max();
        let widths: Vec<_> = (0..lines[0].len()).map(|column| width(column).unwrap_or(0)).collect();
        lines.iter().map(|cells| aligned(cells, &widths)).collect::<Vec<_>>().join("\n")
    }

    fn cells(&self, name: &str, row: &Row) -> Vec<String> {
        let mut cells = vec![name.to_owned(), row.means[0].count().to_string()];
        let values = self.figures.iter().zip(&row.means).flat_map(|(figure, mean)| figure.values(mean));
        cells.extend(values.map(|value| value.map_or("none".to_owned(), |value| format!("{value:.4}"))));
        cells
    }
}

/// A line of cells: the first to the left, the others to the right.
fn aligned(cells: &[String], widths: &[usize]) -> String {
    let (name, width) = (&cells[0], widths[0]);
    let mut line = format!("{name:width$}");
    cells.iter().zip(widths).skip(1).for_each(|(cell, width)| line += &format!("  {cell:>width$}"));
    line
}
