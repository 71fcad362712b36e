//! A document as the model sees it: what stands before its tokens, and which of them are scored.

use std::ops::Range;
use std::slice;

use super::windows::WindowConfig;

/// A document for the model: tokens before it that are context only, such as a BOS, and its own.
#[derive(Clone, Copy, Debug)]
pub struct Sequence<'a> {
    /// Never scored.
    pub context: &'a [u32],
    /// Position 0 is the first of these.
    pub ids: &'a [u32],
    /// Which of them are scored.
    pub scope: Scope<'a>,
}

/// Which of a document's tokens are scored. Runs are ranges of its positions, ascending and apart.
#[derive(Clone, Copy, Debug, Default)]
pub enum Scope<'a> {
    /// All that have a probability.
    #[default]
    All,
    /// These runs, each token given all of the document before it: responses behind their prompts.
    Within(&'a [Range<usize>]),
    /// These runs, each by itself behind the context; the document's other tokens play no part.
    Apart(&'a [Range<usize>]),
}

impl<'a> Sequence<'a> {
    /// A document of which every token is scored.
    pub fn new(context: &'a [u32], ids: &'a [u32]) -> Self {
        Self { context, ids, scope: Scope::All }
    }

    /// What the model reads as one text, each behind the context.
    pub(crate) fn stretches(self) -> impl Iterator<Item = Stretch<'a>> {
        let Self { context, ids, scope } = self;
        let count = if let Scope::Apart(runs) = scope { runs.len() } else { 1 };
        (0..count).map(move |index| match scope {
            Scope::All => Stretch { context, ids, first: 0, whole: 0..ids.len(), runs: None },
            Scope::Within(runs) => Stretch { context, ids, first: 0, whole: 0..ids.len(), runs: Some(runs) },
            Scope::Apart(runs) => {
                let whole = runs[index].clone();
                Stretch { context, ids: &ids[whole.clone()], first: whole.start, whole, runs: None }
            }
        })
    }

    /// The document's positions that have a probability under `windows`, as ascending runs that are not empty.
    pub fn scored(self, windows: &WindowConfig) -> Vec<Range<usize>> {
        let of_stretch = |stretch: Stretch<'a>| {
            let covered = windows.covered(stretch.len());
            let first = stretch.first + usize::from(stretch.context.is_empty());
            let last = stretch.first + covered.saturating_sub(stretch.context.len());
            let cut = move |run: &Range<usize>| run.start.max(first)..run.end.min(last);
            stretch.runs().iter().map(cut).filter(|run| !run.is_empty()).collect::<Vec<_>>()
        };
        self.stretches().flat_map(of_stretch).collect()
    }

    /// How many windows it takes.
    pub(crate) fn windows(self, windows: &WindowConfig) -> usize {
        self.stretches().map(|stretch| windows.windows(stretch.len()).count()).sum()
    }

    /// Tokens beyond the windows: none, unless the tail is cut off.
    pub fn truncated(self, windows: &WindowConfig) -> usize {
        self.stretches().map(|stretch| stretch.len() - windows.covered(stretch.len())).sum()
    }
}

/// A part of a document that the model reads as one text.
pub(crate) struct Stretch<'a> {
    pub context: &'a [u32],
    pub ids: &'a [u32],
    /// The first id's position in the document.
    pub first: usize,
    /// All of its positions in the document.
    whole: Range<usize>,
    runs: Option<&'a [Range<usize>]>,
}

impl Stretch<'_> {
    /// Tokens, the context included.
    pub fn len(&self) -> usize {
        self.context.len() + self.ids.len()
    }

    /// The token in a place that counts the context.
    pub fn id(&self, place: usize) -> u32 {
        let context = self.context.len();
        if place < context { self.context[place] } else { self.ids[place - context] }
    }

    /// Positions of the document that are scored where they have a probability.
    fn runs(&self) -> &[Range<usize>] {
        self.runs.unwrap_or(slice::from_ref(&self.whole))
    }

    /// The places among `range`, which counts the context, whose tokens are scored; ascending.
    pub fn scored(&self, range: Range<usize>) -> impl Iterator<Item = usize> {
        let (context, first) = (self.context.len(), self.first);
        let runs = self.runs();
        let skipped = runs.partition_point(|run| run.end - first + context <= range.start);
        let places = move |run: &Range<usize>| {
            (run.start - first + context).max(range.start)..(run.end - first + context).min(range.end)
        };
        let end = range.end;
        let inside = move |run: &&Range<usize>| run.start - first + context < end;
        runs[skipped..].iter().take_while(inside).flat_map(places)
    }
}
