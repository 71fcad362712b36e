//! Which documents have a property: how many of the first n, and which is the k-th, in eight bytes for 256 documents.

use crate::data::tokens::first_not;

/// Documents of which one count is kept.
const BLOCK: u64 = 256;

/// Counts of marked documents. The mark itself is asked for again where a block must be looked into.
#[derive(Debug)]
pub(super) struct Marks {
    documents: u64,
    blocks: Blocks,
}

#[derive(Debug)]
enum Blocks {
    /// No document is marked.
    None,
    /// Every one is.
    All,
    /// How many are before each block, and in all.
    Counts(Vec<u64>),
}

impl Marks {
    /// All of `documents`.
    pub fn all(documents: u64) -> Self {
        Self { documents, blocks: Blocks::All }
    }

    /// None of them.
    pub fn none(documents: u64) -> Self {
        Self { documents, blocks: Blocks::None }
    }

    /// Asks for the mark of each.
    pub fn scan(documents: u64, is_marked: impl Fn(u64) -> bool) -> Self {
        let mut counts = vec![0];
        for first in (0..documents).step_by(BLOCK as usize) {
            let block = first..(first + BLOCK).min(documents);
            let before = counts[counts.len() - 1];
            counts.push(before + block.filter(|&document| is_marked(document)).count() as u64);
        }
        match counts[counts.len() - 1] {
            0 => Self::none(documents),
            total if total == documents => Self::all(documents),
            _ => Self { documents, blocks: Blocks::Counts(counts) },
        }
    }

    /// How many are marked.
    pub fn total(&self) -> u64 {
        match &self.blocks {
            Blocks::None => 0,
            Blocks::All => self.documents,
            Blocks::Counts(counts) => counts[counts.len() - 1],
        }
    }

    /// Whether a document is marked.
    pub fn contains(&self, document: u64, is_marked: impl Fn(u64) -> bool) -> bool {
        match &self.blocks {
            Blocks::None => false,
            Blocks::All => document < self.documents,
            Blocks::Counts(_) => document < self.documents && is_marked(document),
        }
    }

    /// How many of the first `document` documents are marked.
    pub fn rank(&self, document: u64, is_marked: impl Fn(u64) -> bool) -> u64 {
        match &self.blocks {
            Blocks::None => 0,
            Blocks::All => document,
            Blocks::Counts(counts) => {
                let block = document / BLOCK;
                let rest = (block * BLOCK..document).filter(|&document| is_marked(document));
                counts[block as usize] + rest.count() as u64
            }
        }
    }

    /// The marked document that has `rank` marked ones before it; `None` where there is none.
    pub fn select(&self, rank: u64, is_marked: impl Fn(u64) -> bool) -> Option<u64> {
        if rank >= self.total() {
            return None;
        }
        let Blocks::Counts(counts) = &self.blocks else { return Some(rank) };
        let block = first_not(counts.len() as u64, |block| counts[block as usize] <= rank) - 1;
        let mut marked = (block * BLOCK..self.documents).filter(|&document| is_marked(document));
        marked.nth((rank - counts[block as usize]) as usize)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]
        #[test]
        fn rank_and_select_are_those_of_a_list(
            marks in prop_oneof![
                prop::collection::vec(any::<bool>(), 0..1100),
                (0usize..600).prop_map(|len| vec![true; len]),
                (0usize..600).prop_map(|len| vec![false; len]),
            ],
        ) {
            let is_marked = |document: u64| marks[document as usize];
            let len = marks.len() as u64;
            let counted = Marks::scan(len, is_marked);
            let list: Vec<u64> = (0..len).filter(|&document| is_marked(document)).collect();
            prop_assert_eq!(counted.total(), list.len() as u64);
            for document in [0, len / 3, len / 2, len] {
                let before = list.partition_point(|&marked| marked < document) as u64;
                prop_assert_eq!(counted.rank(document, is_marked), before);
                prop_assert_eq!(counted.contains(document, is_marked), list.contains(&document));
            }
            for rank in [0, list.len() / 2, list.len().saturating_sub(1), list.len()] {
                prop_assert_eq!(counted.select(rank as u64, is_marked), list.get(rank).copied());
            }
        }
    }
}
