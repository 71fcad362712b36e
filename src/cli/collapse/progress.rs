//! How far an experiment is.

use std::time::Instant;

use super::super::progress::{Mode, Progress, time_left};
use super::super::train::progress::TrainProgress;
use crate::collapse::{CollapseConfig, Event, Row, Stage, Work};

/// Shows stages and rows as lines, and what is under way within them as a bar or a line every ten seconds.
pub struct CollapseProgress {
    mode: Mode,
    steps: u64,
    /// All rows, and those that there are.
    rows: u64,
    done: u64,
    /// When the first row of this run was begun, and how many there were then.
    begin: Option<(Instant, u64)>,
    within: Within,
}

/// What is under way.
enum Within {
    Texts(Progress),
    Training(TrainProgress),
}

impl CollapseProgress {
    pub fn new(mode: Mode, config: &CollapseConfig) -> Self {
        let models = (config.generations as u64 + 1) * config.strategies.len() as u64;
        let rows = models * u64::from(config.seeds);
        let within = Within::Texts(Progress::new(mode, None));
        Self { mode, steps: config.training.steps, rows, done: 0, begin: None, within }
    }

    /// Says how it went on.
    pub fn show(&mut self, event: &Event) {
        match event {
            Event::Reading { documents, tokens } => self.texts(*documents, *tokens),
            Event::Texts { texts, tokens } => self.texts(*texts, *tokens),
            Event::Begin(stage) => self.stage(stage),
            Event::Training(event) => {
                if let Within::Training(progress) = &self.within {
                    progress.show(event);
                }
            }
            Event::Finished(row) => self.row(row),
        }
    }

    /// Removes what is no line.
    pub fn finish(&self) {
        match &self.within {
            Within::Texts(progress) => progress.finish(),
            Within::Training(progress) => progress.finish(),
        }
    }

    fn texts(&self, texts: u64, tokens: u64) {
        if let Within::Texts(progress) = &self.within {
            progress.update(texts, tokens, 0);
        }
    }

    fn stage(&mut self, stage: &Stage) {
        self.begin.get_or_insert((Instant::now(), self.done));
        self.finish();
        self.say(&stage.to_string());
        self.within = match stage.work {
            Work::Training => Within::Training(TrainProgress::new(self.mode, self.steps)),
            _ => Within::Texts(Progress::new(self.mode, None)),
        };
    }

    fn row(&mut self, row: &Row) {
        self.done += 1;
        self.finish();
        let Row { strategy, seed, generation, outcome } = row;
        let edits = outcome.edits.map_or(String::new(), |edits| {
            format!(", {} eligible, {} changed", edits.eligible, edits.changed)
        });
        let left = self.seconds_left().map_or(String::new(), |left| format!(", {} left", time_left(left)));
        let perplexity = outcome.perplexity;
        self.say(&format!(
            "{} of {}: seed {seed}, {strategy}, generation {generation}: held-out perplexity {perplexity:.4}{edits}{left}",
            self.done, self.rows
        ));
    }

    /// By what rows took so far; nothing while none was made.
    fn seconds_left(&self) -> Option<u64> {
        let (begin, first) = self.begin?;
        let each =
            begin.elapsed().as_secs_f64() / self.done.checked_sub(first).filter(|done| *done > 0)? as f64;
        // A cast saturates.
        Some((each * self.rows.saturating_sub(self.done) as f64) as u64)
    }

    fn say(&self, text: &str) {
        // Any bar is gone by now.
        TrainProgress::new(self.mode, 0).say(text);
    }
}
