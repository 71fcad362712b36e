//! Statistics of a corpus' n-grams, summed up from parts that threads have counted.

use serde::Serialize;

use super::distinct::Distinct;
use super::features::{BUCKETS, LONGEST, Lower, Ngrams};
use super::frequent::Frequent;

/// Bigrams of a part that are counted by name: the rare ones of a large part do not matter.
const NAMED: usize = 1 << 16;

/// What is known of a corpus' n-grams. The memory that it takes is bounded, whatever the corpus.
///
/// N-grams are those of the text in lower case, split as the regular expression `\w+|[^\w\s]+` does; they do not go beyond a
/// document.
#[derive(Clone, Debug)]
pub struct NgramStatistics {
    buckets: Vec<u64>,
    totals: [u64; LONGEST],
    distinct: [Distinct; LONGEST],
    bigrams: Frequent,
}

/// The counts of some documents, to be added to a corpus' by [`NgramStatistics::add`].
#[derive(Clone, Debug)]
pub struct UnitCounts {
    buckets: Vec<u64>,
    totals: [u64; LONGEST],
    hashes: [Vec<u64>; LONGEST],
    bigrams: Vec<(String, u64)>,
    /// The largest count of a bigram that is not among them.
    left_out: u64,
}

/// How many different n-grams there are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct DistinctCount {
    /// n.
    pub n: usize,
    /// All of them.
    pub total: u64,
    /// Different ones.
    pub count: u64,
    /// Whether that is no estimate, which it is beyond 2²⁰, to about 0.1 %.
    pub is_exact: bool,
    /// The different ones' share of all, distinct-n; 0 where there are none.
    pub share: f64,
}

/// A frequent bigram.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bigram {
    /// Its words, joined by a space.
    pub bigram: String,
    /// How often it comes.
    pub count: u64,
}

impl Default for NgramStatistics {
    fn default() -> Self {
        let (distinct, bigrams) = (Default::default(), Frequent::default());
        Self { buckets: vec![0; BUCKETS], totals: [0; LONGEST], distinct, bigrams }
    }
}

impl NgramStatistics {
    /// Counts the n-grams of some documents. The larger a part, the fewer hashes are computed, since each different n-gram of
    /// it takes one; some megabytes are a good size.
    pub fn count<'a>(texts: impl Iterator<Item = &'a str>) -> UnitCounts {
        let lower = Lower::new(texts);
        let ngrams = Ngrams::new(&lower);
        let (bigrams, left_out) = ngrams.frequent_bigrams(NAMED);
        UnitCounts {
            buckets: ngrams.counts(),
            totals: ngrams.totals(),
            hashes: ngrams.hashes(),
            bigrams,
            left_out,
        }
    }

    /// Adds the counts of a part. Only what is said of bigrams beyond 2¹⁹ different ones depends on how a corpus was parted,
    /// within [`NgramStatistics::bigram_error`].
    pub fn add(&mut self, part: UnitCounts) {
        add(&mut self.buckets, &part.buckets);
        add(&mut self.totals, &part.totals);
        for (distinct, hashes) in self.distinct.iter_mut().zip(part.hashes) {
            hashes.into_iter().for_each(|hash| distinct.insert(hash));
        }
        self.bigrams.forget(part.left_out);
        part.bigrams.iter().for_each(|(bigram, count)| self.bigrams.add(bigram, *count));
    }

    /// How often n-grams (unigrams and bigrams) fell into each of [`BUCKETS`].
    pub fn buckets(&self) -> &[u64] {
        &self.buckets
    }

    /// Different n-grams among all, `n` being from 1 to [`LONGEST`].
    pub fn distinct(&self, n: usize) -> DistinctCount {
        let (total, distinct) = (self.totals[n - 1], &self.distinct[n - 1]);
        let count = distinct.count();
        let share = if total > 0 { count as f64 / total as f64 } else { 0.0 };
        DistinctCount { n, total, count, is_exact: distinct.is_exact(), share }
    }

    /// The most frequent bigrams, at most `n` of them, the most frequent first.
    pub fn top_bigrams(&self, n: usize) -> Vec<Bigram> {
        let named = |(bigram, count): (&str, u64)| Bigram { bigram: bigram.to_owned(), count };
        self.bigrams.top(n).into_iter().map(named).collect()
    }

    /// How much too low the counts of [`NgramStatistics::top_bigrams`] may be: 0 unless there are very many different ones.
    pub fn bigram_error(&self) -> u64 {
        self.bigrams.error()
    }
}

fn add(sums: &mut [u64], counts: &[u64]) {
    sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
}

/// For each text, the sum of `values`, one for each of [`BUCKETS`], over the buckets of all its unigrams and bigrams.
pub fn bucket_sums<'a>(texts: impl Iterator<Item = &'a str>, values: &[f64]) -> Vec<f64> {
    let lower = Lower::new(texts);
    Ngrams::new(&lower).sums(values)
}
