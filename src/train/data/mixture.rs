//! Which source each row comes from: fixed shares, evenly spread, told from the row's number alone.

/// Takes turns between sources. Of the first n rows, a source has its share of n to within one row for up to four sources,
/// to within one and a half for more; after as many rows as all shares add up to, exactly its share.
#[derive(Debug)]
pub(super) struct Mixture(Node);

/// A binary tree: each split halves the sources and deals rows out to both sides.
#[derive(Debug)]
enum Node {
    Source(usize),
    Split { left_share: u64, shares: u64, left: Box<Node>, right: Box<Node> },
}

impl Mixture {
    /// `shares`, at least one, each above 0, their sum below 2⁶⁴: rows of each source in every `Σ shares` rows.
    pub fn new(shares: &[u64]) -> Self {
        Self(Node::new(shares, 0))
    }

    /// The source of row `index`, and how many rows of that source come before it.
    pub fn place(&self, index: u64) -> (usize, u64) {
        let (mut node, mut index) = (&self.0, index);
        loop {
            match node {
                Node::Source(source) => return (*source, index),
                Node::Split { left_share, shares, left, right } => {
                    let before = left_rows(index.into(), *left_share, *shares);
                    if left_rows(u128::from(index) + 1, *left_share, *shares) > before {
                        (node, index) = (left, before);
                    } else {
                        (node, index) = (right, index - before);
                    }
                }
            }
        }
    }
}

impl Node {
    fn new(shares: &[u64], first: usize) -> Self {
        if shares.len() <= 1 {
            return Self::Source(first);
        }
        let (left, right) = shares.split_at(shares.len() / 2);
        Self::Split {
            left_share: left.iter().sum(),
            shares: shares.iter().sum(),
            left: Box::new(Self::new(left, first)),
            right: Box::new(Self::new(right, first + left.len())),
        }
    }
}

/// How many of the first `rows` rows go to the left: its share, rounded to the nearest.
fn left_rows(rows: u128, left_share: u64, shares: u64) -> u64 {
    ((rows * u128::from(left_share) + u128::from(shares / 2)) / u128::from(shares)) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]
        #[test]
        fn every_source_has_its_share_at_any_time(shares in prop::collection::vec(1u64..60, 1..7)) {
            let mixture = Mixture::new(&shares);
            let total: u64 = shares.iter().sum();
            let mut counts = vec![0u64; shares.len()];
            let limit = if shares.len() <= 4 { 1.0 } else { 1.5 };
            for index in 0..2 * total {
                let (source, local) = mixture.place(index);
                prop_assert_eq!(local, counts[source], "rows of a source come in order");
                counts[source] += 1;
                for (count, share) in counts.iter().zip(&shares) {
                    let due = (index + 1) as f64 * *share as f64 / total as f64;
                    prop_assert!((*count as f64 - due).abs() < limit + 1e-9, "{count} of {due}");
                }
            }
            prop_assert!(counts.iter().zip(&shares).all(|(count, share)| *count == 2 * share));
        }

        #[test]
        fn far_away_rows_have_a_place(index: u64, shares in prop::collection::vec(1u64..1 << 60, 1..9)) {
            let (source, local) = Mixture::new(&shares).place(index);
            prop_assert!(source < shares.len() && local <= index);
        }
    }
}
