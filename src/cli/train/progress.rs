//! How far a training run is.

use std::cell::Cell;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::super::print_error;
use super::super::progress::{INTERVAL, Mode, time_left};
use crate::train::Event;
use crate::train::metrics::StepMetrics;

/// Shows the steps of a run: a bar on a terminal, else a line every ten seconds; evaluations and checkpoints at once.
pub struct TrainProgress {
    mode: Mode,
    steps: u64,
    bar: ProgressBar,
    /// When this process took its first step, and after which one.
    begin: Cell<Option<(Instant, u64)>>,
    printed: Cell<Instant>,
}

/// A line for programs.
#[derive(Serialize)]
struct Line {
    step: u64,
    steps: u64,
    loss: f64,
    learning_rate: f64,
    tokens_per_second: f64,
    seconds_left: u64,
}

impl TrainProgress {
    pub fn new(mode: Mode, steps: u64) -> Self {
        let bar = match mode {
            Mode::Bar => ProgressBar::new(steps),
            _ => ProgressBar::hidden(),
        };
        let style =
            ProgressStyle::with_template("{wide_bar} {percent:>3} %  {msg}").expect("a valid template");
        bar.set_style(style);
        Self { mode, steps, bar, begin: Cell::new(None), printed: Cell::new(Instant::now()) }
    }

    /// Says how it went on.
    pub fn show(&self, event: &Event) {
        match event {
            Event::Resumed(step) if *step == self.steps => self.say("already finished"),
            Event::Resumed(step) => self.say(&format!("going on after step {step}")),
            Event::Step(step) => self.step(step),
            Event::Evaluating => {}
            Event::Evaluation(found) => {
                self.say(&format!("step {}: held-out perplexity {:.4}", found.step, found.perplexity));
            }
            Event::Saved(step) => self.say(&format!("step {step}: saved")),
        }
    }

    /// Prints a line, unless only programs listen or nobody.
    pub fn say(&self, text: &str) {
        match self.mode {
            Mode::Bar => self.bar.suspend(|| print_error(text)),
            Mode::Lines => print_error(text),
            Mode::Json => print_error(&serde_json::json!({ "message": text }).to_string()),
            Mode::Quiet => {}
        }
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn step(&self, step: &StepMetrics) {
        if self.begin.get().is_none() {
            self.begin.set(Some((Instant::now(), step.step)));
        }
        self.bar.set_position(step.step);
        self.bar.set_message(self.text(step));
        if self.printed.get().elapsed() < INTERVAL {
            return;
        }
        self.printed.set(Instant::now());
        match self.mode {
            Mode::Lines => print_error(&self.text(step)),
            Mode::Json => print_error(&serde_json::json!({ "progress": self.line(step) }).to_string()),
            Mode::Bar | Mode::Quiet => {}
        }
    }

    fn text(&self, step: &StepMetrics) -> String {
        let StepMetrics { step: number, loss, tokens_per_second, .. } = *step;
        let left = time_left(self.seconds_left(number));
        format!(
            "step {number} of {}, loss {loss:.4}, {tokens_per_second:.0} tokens/s, {left} left",
            self.steps
        )
    }

    fn line(&self, step: &StepMetrics) -> Line {
        Line {
            step: step.step,
            steps: self.steps,
            loss: step.loss,
            learning_rate: step.learning_rate,
            tokens_per_second: step.tokens_per_second,
            seconds_left: self.seconds_left(step.step),
        }
    }

    fn seconds_left(&self, step: u64) -> u64 {
        let Some((begin, first)) = self.begin.get() else { return 0 };
        let each = begin.elapsed().div_f64((step - first).max(1) as f64);
        // A cast saturates.
        (each.as_secs_f64() * self.steps.saturating_sub(step) as f64) as u64
    }
}
