//! How many different things there are, in bounded memory.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

/// Hashes that are kept.
const KEPT: usize = 1 << 20;

/// Counts different 64-bit hashes: exactly up to [`KEPT`] of them, beyond that from a sample of those that begin with
/// `level` zero bits, each standing for 2^level (adaptive sampling: Wegman; Flajolet, 1990), to within about 0.12 %. What
/// comes out does not depend on the order in which they came.
#[derive(Clone, Debug, Default)]
pub(super) struct Distinct {
    level: u32,
    kept: HashSet<u64, BuildHasherDefault<Kept>>,
}

impl Distinct {
    pub fn insert(&mut self, hash: u64) {
        if hash.leading_zeros() < self.level || !self.kept.insert(hash) {
            return;
        }
        while self.kept.len() > KEPT {
            self.level += 1;
            let level = self.level;
            self.kept.retain(|hash| hash.leading_zeros() >= level);
        }
    }

    pub fn count(&self) -> u64 {
        (self.kept.len() as u64) << self.level
    }

    /// Whether the count is exact, apart from equal hashes of different things.
    pub fn is_exact(&self) -> bool {
        self.level == 0
    }
}

/// The values are hashes already. Turned, since those that are kept begin alike and the set looks at the first bits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kept(u64);

impl Hasher for Kept {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash.rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use xxhash_rust::xxh3::xxh3_64;

    use super::*;

    fn count(numbers: impl Iterator<Item = u64>) -> Distinct {
        let mut distinct = Distinct::default();
        numbers.for_each(|number| distinct.insert(xxh3_64(&number.to_le_bytes())));
        distinct
    }

    #[test]
    fn few_are_counted_and_many_estimated_in_any_order() {
        let few = count((0..1000).chain(500..2000));
        assert_eq!((few.count(), few.is_exact()), (2000, true));
        let many = 5_000_000;
        let distinct = count((0..many).chain(0..many / 2));
        assert!(!distinct.is_exact());
        assert!((distinct.count() as f64 / many as f64 - 1.0).abs() < 0.006, "{}", distinct.count());
        assert_eq!(count((0..many).rev()).count(), distinct.count());
    }
}
