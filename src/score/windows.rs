//! Windows over a sequence longer than the model reads at once.

use std::ops::Range;

use serde::Serialize;

use crate::{Error, Result};

/// The window length where neither the user nor the model sets a smaller one, in tokens.
pub const DEFAULT_MAX_LENGTH: usize = 2048;

/// How a long sequence is cut into windows.
///
/// ```
/// use toedit::score::WindowConfig;
/// let windows: Vec<_> = WindowConfig::new(4, 2)?.windows(7).collect();
/// assert_eq!(windows.iter().map(|w| (w.start, w.end)).collect::<Vec<_>>(), [(0, 4), (2, 6), (4, 7)]);
/// assert_eq!(windows.iter().map(|w| w.scored()).collect::<Vec<_>>(), [1..4, 4..6, 6..7]);
/// # Ok::<(), toedit::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct WindowConfig {
    max_length: usize,
    overlap: usize,
    truncate: bool,
}

/// One window: the sequence positions `start..end`, which the model sees as 0, 1, ….
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First position of the window.
    pub start: usize,
    /// One past its last position.
    pub end: usize,
    /// First position that this window scores; the earlier ones are context.
    pub first_scored: usize,
}

impl Window {
    /// The positions that this window scores.
    pub fn scored(&self) -> Range<usize> {
        self.first_scored..self.end
    }
}

impl WindowConfig {
    /// Windows of at most `max_length` tokens, each sharing `overlap` tokens with the one before.
    ///
    /// # Errors
    /// [`Error::Usage`] unless 1 <= `overlap` < `max_length`.
    pub fn new(max_length: usize, overlap: usize) -> Result<Self> {
        if overlap == 0 || overlap >= max_length {
            return Err(Error::Usage(format!(
                "window of {max_length} tokens with an overlap of {overlap}: expected 1 <= overlap < max length"
            )));
        }
        Ok(Self { max_length, overlap, truncate: false })
    }

    /// The default for a model of `max_position_embeddings` positions: the smaller of that and
    /// [`DEFAULT_MAX_LENGTH`], overlapping by half.
    ///
    /// # Errors
    /// [`Error::Usage`] for a model of fewer than two positions.
    pub fn for_positions(max_position_embeddings: usize) -> Result<Self> {
        let max_length = max_position_embeddings.min(DEFAULT_MAX_LENGTH);
        Self::new(max_length, max_length / 2)
    }

    /// Whether only the first window is scored and the tail is passed through.
    pub fn with_truncate(self, truncate: bool) -> Self {
        Self { truncate, ..self }
    }

    /// Tokens in a full window.
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// Tokens that a window shares with the one before.
    pub fn overlap(&self) -> usize {
        self.overlap
    }

    /// Whether the tail beyond the first window is passed through.
    pub fn truncate(&self) -> bool {
        self.truncate
    }

    /// The windows of a sequence of `tokens` tokens, a BOS being position 0.
    ///
    /// Window s starts at s·(max_length − overlap); the windows end once the last token is covered. Position 0 is never
    /// scored, each other position by the first window that contains it; so each has at least `overlap` tokens of
    /// context, or all there are.
    pub fn windows(&self, tokens: usize) -> impl Iterator<Item = Window> + use<> {
        let Self { max_length, overlap, truncate } = *self;
        let end = move |start: usize| start.saturating_add(max_length).min(tokens);
        let first = (tokens > 0).then(|| Window { start: 0, end: end(0), first_scored: 1 });
        std::iter::successors(first, move |window| {
            let start = window.start + (max_length - overlap);
            (!truncate && window.end < tokens).then(|| Window {
                start,
                end: end(start),
                first_scored: window.end,
            })
        })
    }

    /// How many of `tokens` positions the windows cover: all, or the first window's with `truncate`.
    pub fn covered(&self, tokens: usize) -> usize {
        if self.truncate { tokens.min(self.max_length) } else { tokens }
    }
}
