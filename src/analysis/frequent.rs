//! The most frequent of many different things, in bounded memory.

use std::collections::HashMap;

/// Counters that are kept when there are too many.
const KEPT: usize = 1 << 18;

/// Counts by name: exact up to twice [`KEPT`] different names. Beyond that the rare ones are forgotten, and counts may be too
/// low, by at most [`Frequent::error`] (Misra and Gries, 1982; pruned in batches as Agarwal et al., "Mergeable summaries",
/// 2012, do).
#[derive(Clone, Debug, Default)]
pub(super) struct Frequent {
    counts: HashMap<Box<str>, u64>,
    error: u64,
}

impl Frequent {
    /// Adds to the count of a name.
    pub fn add(&mut self, name: &str, count: u64) {
        if let Some(sum) = self.counts.get_mut(name) {
            *sum += count;
            return;
        }
        self.counts.insert(name.into(), count);
        if self.counts.len() > 2 * KEPT {
            self.prune();
        }
    }

    /// Names that are not in any count each came at most so often.
    pub fn forget(&mut self, count: u64) {
        self.error += count;
    }

    /// How much too low a count may be.
    pub fn error(&self) -> u64 {
        self.error
    }

    /// The `n` largest counts, largest first, equal ones by name.
    pub fn top(&self, n: usize) -> Vec<(&str, u64)> {
        let mut all: Vec<_> = self.counts.iter().map(|(name, count)| (&**name, *count)).collect();
        let by_count = |a: &(&str, u64), b: &(&str, u64)| b.1.cmp(&a.1).then(a.0.cmp(b.0));
        if n < all.len() {
            all.select_nth_unstable_by(n, by_count);
            all.truncate(n);
        }
        all.sort_unstable_by(by_count);
        all
    }

    /// Takes from each count what the first one has that there is no room for.
    fn prune(&mut self) {
        let mut counts: Vec<u64> = self.counts.values().copied().collect();
        let (_, least, _) = counts.select_nth_unstable_by(KEPT, |a, b| b.cmp(a));
        let least = *least;
        self.counts.retain(|_, count| {
            *count = count.saturating_sub(least);
            *count > 0
        });
        self.error += least;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_exact_while_there_is_room() {
        let mut frequent = Frequent::default();
        for name in ["b", "a", "c", "b", "a", "d"] {
            frequent.add(name, 1);
        }
        assert_eq!(frequent.top(3), [("a", 2), ("b", 2), ("c", 1)]);
        assert_eq!((frequent.top(9).len(), frequent.error()), (4, 0));
    }

    #[test]
    fn frequent_names_survive_a_flood_of_rare_ones() {
        let mut frequent = Frequent::default();
        for number in 0..2_000_000u64 {
            frequent.add(&format!("rare {number}"), 1);
            if number % 100 == 0 {
                frequent.add(["x", "y"][usize::from(number % 300 == 0)], 1);
            }
        }
        let top = frequent.top(2);
        for ((name, count), (expected, true_count)) in top.into_iter().zip([("x", 13_333), ("y", 6_667)]) {
            assert_eq!(name, expected);
            assert!(count <= true_count && count + frequent.error() >= true_count, "{count}");
        }
        assert!(frequent.error() < 20 && frequent.counts.len() <= 2 * KEPT);
    }
}
