//! Progress on standard error: a bar on a terminal, else a line every ten seconds.

use std::io::{IsTerminal, stderr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::args::{CommonArgs, LogFormat};
use super::print_error;
use super::summary::documents_and_tokens;

/// Between two lines.
pub const INTERVAL: Duration = Duration::from_secs(10);

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Not at all.
    Quiet,
    /// A bar that is redrawn.
    Bar,
    /// Plain lines.
    Lines,
    /// Lines, each a JSON object.
    Json,
}

impl Mode {
    /// What the arguments and standard error ask for.
    pub fn of(args: &CommonArgs) -> Self {
        match args.log_format {
            _ if args.quiet => Self::Quiet,
            LogFormat::Json => Self::Json,
            LogFormat::Text if stderr().is_terminal() => Self::Bar,
            LogFormat::Text => Self::Lines,
        }
    }
}

/// Whether to colour what goes to `stream`: a terminal, and `NO_COLOR` unset or empty.
pub fn colour(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Shows how far a run is. Shared by threads.
#[derive(Debug)]
pub struct Progress {
    mode: Mode,
    total_bytes: Option<u64>,
    start: Instant,
    /// When the last line was printed.
    printed: Mutex<Instant>,
    bar: ProgressBar,
}

impl Progress {
    /// Starts the clock. `total_bytes` is the size of all inputs as they lie on disk, where it is known.
    pub fn new(mode: Mode, total_bytes: Option<u64>) -> Self {
        let start = Instant::now();
        let bar = if mode == Mode::Bar { bar(total_bytes) } else { ProgressBar::hidden() };
        Self { mode, total_bytes, start, printed: Mutex::new(start), bar }
    }

    /// Says how much is done since the start: documents, tokens, and bytes of the inputs.
    pub fn update(&self, documents: u64, tokens: u64, bytes_read: u64) {
        let state = || State::new(documents, tokens, bytes_read, self.total_bytes, self.start.elapsed());
        match self.mode {
            Mode::Quiet => {}
            Mode::Bar => {
                self.bar.set_position(bytes_read);
                self.bar.set_message(state().counts());
            }
            Mode::Lines if self.is_due() => print_error(&state().text()),
            Mode::Json if self.is_due() => print_error(&state().json()),
            Mode::Lines | Mode::Json => {}
        }
    }

    /// Removes the bar, so that what is printed next stands alone.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn is_due(&self) -> bool {
        let mut printed = self.printed.lock().unwrap_or_else(PoisonError::into_inner);
        let due = printed.elapsed() >= INTERVAL;
        if due {
            *printed = Instant::now();
        }
        due
    }
}

/// A bar where the total is known, else a line that turns.
fn bar(total_bytes: Option<u64>) -> ProgressBar {
    let (bar, template) = match total_bytes {
        Some(total) => (ProgressBar::new(total), "{wide_bar} {percent:>3} %  {msg}  {eta} left"),
        None => (ProgressBar::new_spinner(), "{spinner} {msg}  {elapsed}"),
    };
    bar.set_style(ProgressStyle::with_template(template).expect("a valid template"));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Hours, minutes and seconds.
pub fn time_left(seconds: u64) -> String {
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!("{hours}:{minutes:02}:{:02}", seconds % 60)
}

/// One moment of a run.
#[derive(Debug, Serialize)]
struct State {
    documents: u64,
    tokens: u64,
    tokens_per_second: u64,
    /// Share of the input that was read, from 0 to 1.
    share: Option<f64>,
    seconds_left: Option<u64>,
}

impl State {
    fn new(
        documents: u64,
        tokens: u64,
        bytes_read: u64,
        total_bytes: Option<u64>,
        elapsed: Duration,
    ) -> Self {
        let seconds = elapsed.as_secs_f64();
        let rate = if seconds > 0.0 { tokens as f64 / seconds } else { 0.0 };
        let share =
            total_bytes.filter(|&total| total > 0).map(|total| (bytes_read as f64 / total as f64).min(1.0));
        let seconds_left =
            share.filter(|&share| share > 0.0).map(|share| (seconds * (1.0 - share) / share) as u64);
        Self { documents, tokens, tokens_per_second: rate as u64, share, seconds_left }
    }

    fn counts(&self) -> String {
        let counts = documents_and_tokens(self.documents, self.tokens);
        format!("{counts}, {} tokens/s", self.tokens_per_second)
    }

    fn text(&self) -> String {
        let mut line = self.counts();
        if let Some(share) = self.share {
            line += &format!(", {:.1} %", share * 100.0);
        }
        if let Some(seconds) = self.seconds_left {
            line += &format!(", {} left", time_left(seconds));
        }
        line
    }

    fn json(&self) -> String {
        serde_json::json!({ "progress": self }).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_what_is_done_and_what_is_left() {
        let state = State::new(12, 34_000, 250, Some(1000), Duration::from_secs(20));
        assert_eq!(state.text(), "12 documents, 34000 tokens, 1700 tokens/s, 25.0 %, 0:01:00 left");
        let json: serde_json::Value = serde_json::from_str(&state.json()).unwrap();
        assert_eq!(json["progress"]["tokens_per_second"], 1700);
        assert_eq!(json["progress"]["share"], 0.25);
        assert_eq!(json["progress"]["seconds_left"], 60);
    }

    #[test]
    fn nothing_is_claimed_that_is_not_known() {
        for (read, total) in [(0, None), (10, None), (0, Some(0)), (0, Some(10))] {
            let state = State::new(0, 0, read, total, Duration::ZERO);
            assert_eq!((state.tokens_per_second, state.seconds_left), (0, None));
            assert!(!state.text().contains("left"));
        }
        assert_eq!(State::new(1, 1, 20, Some(10), Duration::from_secs(1)).share, Some(1.0));
    }

    #[test]
    fn lines_come_at_most_once_per_interval() {
        let progress = Progress::new(Mode::Lines, None);
        assert!(!progress.is_due());
        *progress.printed.lock().unwrap() -= INTERVAL;
        assert!(progress.is_due());
        assert!(!progress.is_due());
    }
}
