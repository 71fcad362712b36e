//! Mixtures of two corpora by shares of tokens: whole documents, chosen at random, exact to one document.
//!
//! ```
//! use toedit::mix::{Turns, choose};
//!
//! // Four documents with so many tokens each; 100 tokens are wanted.
//! let choice = choose(&[60, 30, 50, 80], 100, 7, 0)?.expect("there are more tokens than that");
//! assert!(choice.tokens.abs_diff(100) <= 40);
//! // Two corpora take turns, so that their shares hold all along.
//! let mut turns = Turns::new([100, 300]);
//! let order: Vec<_> = [50; 8].map(|tokens| turns.take([true, true], |_| tokens).unwrap()).into();
//! assert_eq!(order, [0, 1, 1, 1, 0, 1, 1, 1]);
//! # Ok::<(), toedit::Error>(())
//! ```

use crate::Result;
use crate::random::permutation::Permutation;
use crate::random::{Purpose, Stream};

/// The documents that a corpus gives to a mixture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Whether each document is one of them.
    pub is_chosen: Vec<bool>,
    /// Their number.
    pub documents: u64,
    /// Their tokens.
    pub tokens: u64,
}

/// Chooses documents with `target` tokens in all from those with these counts, in the random order that `seed` gives to the
/// corpus number `source`. The last one is taken if that brings the sum nearer to the target, so that it differs by half of
/// that document at most. `None` where all of them have fewer tokens.
///
/// # Errors
/// [`crate::Error::Usage`] if `source` exceeds [`Stream::MAX_GENERATION`].
pub fn choose(counts: &[u32], target: u64, seed: u64, source: u32) -> Result<Option<Choice>> {
    let order = Permutation::new(counts.len() as u64, Stream::new(seed, 0, Purpose::Mix, source)?);
    let mut choice = Choice { is_chosen: vec![false; counts.len()], documents: 0, tokens: 0 };
    for index in 0..counts.len() as u64 {
        if choice.tokens >= target {
            break;
        }
        let document = order.apply(index) as usize;
        let (missing, tokens) = (target - choice.tokens, u64::from(counts[document]));
        if tokens > missing && tokens - missing > missing {
            return Ok(Some(choice));
        }
        choice.is_chosen[document] = true;
        choice.documents += 1;
        choice.tokens += tokens;
    }
    Ok((choice.tokens >= target).then_some(choice))
}

/// Lets two corpora take turns so that each has its share of the tokens at any time.
#[derive(Clone, Debug)]
pub struct Turns {
    totals: [u64; 2],
    done: [u64; 2],
}

impl Turns {
    /// For corpora with so many tokens in all.
    pub fn new(totals: [u64; 2]) -> Self {
        Self { totals, done: [0; 2] }
    }

    /// Whose document is next, of those that have one: the corpus that is further behind; the first where both are alike.
    /// `tokens` gives those of its document.
    pub fn take(&mut self, has_more: [bool; 2], tokens: impl FnOnce(usize) -> u64) -> Option<usize> {
        let part =
            |corpus: usize, other: usize| u128::from(self.done[corpus]) * u128::from(self.totals[other]);
        let corpus = match has_more {
            [false, false] => return None,
            [true, true] => usize::from(part(0, 1) > part(1, 0)),
            [first, _] => usize::from(!first),
        };
        self.done[corpus] += tokens(corpus);
        Some(corpus)
    }
}
