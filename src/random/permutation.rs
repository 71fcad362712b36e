//! A random order without a list of it: a Feistel network over the numbers up to a power of four, followed around its
//! cycle until it comes back into range (Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002).

use super::Stream;

/// Four would do for large ranges (Luby and Rackoff); small ones need more to be well mixed.
const ROUNDS: u8 = 8;

/// A permutation of `0..len`.
pub(crate) struct Permutation {
    len: u64,
    /// Bits of either half of a number.
    half: u32,
    stream: Stream,
}

impl Permutation {
    /// The order of `len` things that the stream's numbers give.
    pub fn new(len: u64, stream: Stream) -> Self {
        let bits = u64::BITS - len.saturating_sub(1).leading_zeros();
        Self { len, half: bits.div_ceil(2).max(1), stream }
    }

    /// Where `index`, which is below `len`, goes. Four rounds of the network on average at most.
    pub fn apply(&self, index: u64) -> u64 {
        let mut at = self.network(index);
        while at >= self.len {
            at = self.network(at);
        }
        at
    }

    fn network(&self, index: u64) -> u64 {
        let mask = (1 << self.half) - 1;
        let mut halves = (index >> self.half, index & mask);
        for round in 0..ROUNDS {
            // A half has 32 bits at most.
            let [word, ..] = self.stream.block(halves.1 as u32, round);
            halves = (halves.1, halves.0 ^ (u64::from(word) & mask));
        }
        halves.0 << self.half | halves.1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::random::Purpose;

    fn permutation(len: u64, seed: u64, source: u32, epoch: u64) -> Permutation {
        Permutation::new(len, Stream::new(seed, epoch, Purpose::Shuffle, source).unwrap())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]
        #[test]
        fn every_number_comes_once(len in 1u64..300, seed: u64, source in 0u32..4, epoch: u64) {
            let permutation = permutation(len, seed, source, epoch);
            let mut seen: Vec<u64> = (0..len).map(|index| permutation.apply(index)).collect();
            seen.sort_unstable();
            prop_assert!(seen.into_iter().eq(0..len));
        }

        #[test]
        fn large_ranges_stay_in_range_and_apart(len in 1u64 << 33.., a: u64, b: u64, seed: u64) {
            let permutation = permutation(len, seed, 0, 0);
            let (a, b) = (a % len, b % len);
            prop_assert!(permutation.apply(a) < len);
            prop_assert_eq!(a == b, permutation.apply(a) == permutation.apply(b));
        }
    }

    /// χ² over all 24 orders of 4 rows: 23 degrees of freedom, p = 1e-6 at 71.
    #[test]
    fn small_orders_are_equally_likely() {
        let mut counts = std::collections::BTreeMap::new();
        let epochs = 24_000;
        for epoch in 0..epochs {
            let permutation = permutation(4, 7, 0, epoch);
            let order: Vec<u64> = (0..4).map(|index| permutation.apply(index)).collect();
            *counts.entry(order).or_insert(0u32) += 1;
        }
        let expected = epochs as f64 / 24.0;
        let square = |count: &u32| (f64::from(*count) - expected).powi(2) / expected;
        let chi = counts.values().map(square).sum::<f64>() + (24 - counts.len()) as f64 * expected;
        assert!(chi < 71.0, "{chi}");
    }
}
