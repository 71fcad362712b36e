//! Hashed n-grams, as DSIR defines them (Xie et al., "Data selection for language models via importance resampling", 2023).

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::words;

/// Features of a text: n-grams fall into so many buckets.
pub const BUCKETS: usize = 10_000;
/// The n of the longest n-grams that are told apart.
pub const LONGEST: usize = 3;

/// The bucket of an n-gram, its words joined by a space: int(sha256(utf8), 16) mod 10000.
///
/// ```
/// assert_eq!(toedit::analysis::bucket("the"), 8288);
/// ```
pub fn bucket(ngram: &str) -> u16 {
    remainder(Sha256::digest(ngram.as_bytes()).into())
}

/// A 256-bit number, most significant byte first, modulo [`BUCKETS`].
fn remainder(digest: [u8; 32]) -> u16 {
    let (words, _) = digest.as_chunks::<4>();
    let append =
        |rest: u64, word: &[u8; 4]| (rest << 32 | u64::from(u32::from_be_bytes(*word))) % BUCKETS as u64;
    words.iter().fold(0, append) as u16
}

/// The words and bigrams of some texts, each different one once, and their order. Hashing is the larger part of the work:
/// this way it is done once for all occurrences.
pub(super) struct Ngrams<'a> {
    words: Vec<&'a str>,
    /// The numbers of both words, as [`join`] puts them together.
    bigrams: Vec<u64>,
    /// Each text's words, by number.
    word_ids: Vec<u32>,
    /// The bigram that ends with each of them; [`NONE`] for a text's first word.
    bigram_ids: Vec<u32>,
    /// Where each text's words end.
    ends: Vec<usize>,
}

/// Bytes of a bigram that is counted by name: what is longer is no frequent one, and would take much memory.
const NAME: usize = 256;
/// The first word of a text ends no bigram.
const NONE: u32 = u32::MAX;

/// Texts in lower case, one after the other.
pub(super) struct Lower {
    text: String,
    ends: Vec<usize>,
}

impl Lower {
    pub fn new<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        let (mut text, mut ends) = (String::new(), Vec::new());
        for original in texts {
            words::push_lower(original, &mut text);
            ends.push(text.len());
        }
        Self { text, ends }
    }
}

impl<'a> Ngrams<'a> {
    pub fn new(lower: &'a Lower) -> Self {
        let (mut words_seen, mut bigrams_seen) = (Numbers::default(), Numbers::default());
        let (mut word_ids, mut bigram_ids, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        let mut start = 0;
        for &end in &lower.ends {
            let mut before = None;
            for word in words::split(&lower.text[start..end]) {
                let id = words_seen.number(word);
                word_ids.push(id);
                bigram_ids.push(before.map_or(NONE, |before| bigrams_seen.number(join(before, id))));
                before = Some(id);
            }
            ends.push(word_ids.len());
            start = end;
        }
        Self { words: words_seen.seen, bigrams: bigrams_seen.seen, word_ids, bigram_ids, ends }
    }

    /// The bucket of each different word, and of each different bigram.
    fn buckets(&self) -> [Vec<u16>; 2] {
        let of_bigram = |bigram: &u64| {
            let [first, second] = self.pair(*bigram);
            let hash = Sha256::new_with_prefix(first).chain_update(b" ").chain_update(second);
            remainder(hash.finalize().into())
        };
        [self.words.iter().map(|word| bucket(word)).collect(), self.bigrams.iter().map(of_bigram).collect()]
    }

    /// The words of a bigram.
    fn pair(&self, bigram: u64) -> [&'a str; 2] {
        split(bigram).map(|word| self.words[word as usize])
    }

    /// Each text's words and bigrams, by number.
    fn texts(&self) -> impl Iterator<Item = [&[u32]; 2]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| {
            // The first bigram of a text is none.
            let first = (start + 1).min(end);
            [&self.word_ids[start..end], &self.bigram_ids[first..end]]
        })
    }

    /// How often each bucket is met in all texts.
    pub fn counts(&self) -> Vec<u64> {
        let mut counts = vec![0; BUCKETS];
        let occurrences =
            [tally(&self.word_ids, self.words.len()), tally(&self.bigram_ids, self.bigrams.len())];
        for (buckets, occurrences) in self.buckets().iter().zip(occurrences) {
            for (bucket, count) in buckets.iter().zip(occurrences) {
                counts[usize::from(*bucket)] += u64::from(count);
            }
        }
        counts
    }

    /// Σ of `values` over the buckets of each text's n-grams.
    pub fn sums(&self, values: &[f64]) -> Vec<f64> {
        let value_of = self.buckets().map(|buckets| -> Vec<f64> {
            buckets.iter().map(|bucket| values[usize::from(*bucket)]).collect()
        });
        let sum = |ids: [&[u32]; 2]| -> f64 {
            let of = |kind: usize| ids[kind].iter().map(|id| value_of[kind][*id as usize]).sum::<f64>();
            of(0) + of(1)
        };
        self.texts().map(sum).collect()
    }

    /// N-grams of all texts, for n from 1 to [`LONGEST`].
    pub fn totals(&self) -> [u64; LONGEST] {
        std::array::from_fn(|n| self.texts().map(|[words, _]| words.len().saturating_sub(n) as u64).sum())
    }

    /// Hashes of n-grams for n from 1 to [`LONGEST`]: equal ones may come once or more.
    pub fn hashes(&self) -> [Vec<u64>; LONGEST] {
        let words: Vec<u64> = self.words.iter().map(|word| xxh3_64(word.as_bytes())).collect();
        let joined = |ids: &[u32]| {
            ids.iter().fold(0, |hash, id| xxh3_64_with_seed(&words[*id as usize].to_le_bytes(), hash))
        };
        let bigrams = self.bigrams.iter().map(|bigram| joined(&split(*bigram))).collect();
        let trigrams = self.texts().flat_map(|[words, _]| words.windows(3)).map(joined).collect();
        [words, bigrams, trigrams]
    }

    /// At most `limit` bigrams of at most [`NAME`] bytes with their counts, the most frequent ones, in no order; and the count
    /// of the first one left out.
    pub fn frequent_bigrams(&self, limit: usize) -> (Vec<(String, u64)>, u64) {
        let counts = tally(&self.bigram_ids, self.bigrams.len());
        let has_name = |index: &usize| {
            let [first, second] = self.pair(self.bigrams[*index]);
            first.len() + second.len() < NAME
        };
        let mut order: Vec<usize> = (0..self.bigrams.len()).filter(has_name).collect();
        let mut left_out = 0;
        if limit < order.len() {
            // Equal counts by the order in which they came.
            order.select_nth_unstable_by_key(limit, |&index| (std::cmp::Reverse(counts[index]), index));
            left_out = u64::from(counts[order[limit]]);
            order.truncate(limit);
        }
        let named = |index: usize| {
            let [first, second] = self.pair(self.bigrams[index]);
            (format!("{first} {second}"), u64::from(counts[index]))
        };
        (order.into_iter().map(named).collect(), left_out)
    }
}

/// Two numbers as one.
fn join(first: u32, second: u32) -> u64 {
    u64::from(first) << 32 | u64::from(second)
}

/// The two numbers again.
fn split(joined: u64) -> [u32; 2] {
    [(joined >> 32) as u32, joined as u32]
}

/// How often each number below `len` is among `ids`.
fn tally(ids: &[u32], len: usize) -> Vec<u32> {
    let mut counts = vec![0; len];
    ids.iter().filter(|id| **id != NONE).for_each(|id| counts[*id as usize] += 1);
    counts
}

/// Gives equal things the same number, from 0.
struct Numbers<T> {
    numbers: HashMap<T, u32, BuildHasherDefault<Quick>>,
    seen: Vec<T>,
}

impl<T> Default for Numbers<T> {
    fn default() -> Self {
        Self { numbers: HashMap::default(), seen: Vec::new() }
    }
}

impl<T: Copy + Eq + Hash> Numbers<T> {
    fn number(&mut self, thing: T) -> u32 {
        let next = self.seen.len() as u32;
        let number = *self.numbers.entry(thing).or_insert(next);
        if number == next {
            self.seen.push(thing);
        }
        number
    }
}

/// XXH3 of what is written at once: several times as quick as the standard hasher on words.
#[derive(Clone, Copy, Debug, Default)]
struct Quick(u64);

impl Hasher for Quick {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    /// A string ends with it, which a single one needs not.
    fn write_u8(&mut self, _: u8) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remainders_are_those_of_long_division() {
        for digest in [[0; 32], [255; 32], std::array::from_fn(|index| (index * 37 + 11) as u8)] {
            let expected = digest.iter().fold(0u32, |rest, byte| (rest * 256 + u32::from(*byte)) % 10_000);
            assert_eq!(u32::from(remainder(digest)), expected);
        }
    }

    #[test]
    fn ngrams_stay_within_their_text() {
        let lower = Lower::new(["A b a", "", "b A", "c"].into_iter());
        let ngrams = Ngrams::new(&lower);
        assert_eq!(ngrams.totals(), [6, 3, 1]);
        let mut counts = vec![0; BUCKETS];
        for ngram in ["a", "b", "a", "a b", "b a", "b", "a", "b a", "c"] {
            counts[usize::from(bucket(ngram))] += 1;
        }
        assert_eq!(ngrams.counts(), counts);
        let squares: Vec<f64> = (0..BUCKETS).map(|bucket| (bucket * bucket) as f64).collect();
        let sum =
            |ngrams: &[&str]| ngrams.iter().map(|ngram| squares[usize::from(bucket(ngram))]).sum::<f64>();
        let expected = [sum(&["a", "b", "a", "a b", "b a"]), 0.0, sum(&["b", "a", "b a"]), sum(&["c"])];
        assert_eq!(ngrams.sums(&squares), expected);
        assert_eq!(ngrams.frequent_bigrams(1), (vec![("b a".into(), 2)], 1));
        assert_eq!(ngrams.frequent_bigrams(5).0, [("a b".into(), 1), ("b a".into(), 2)]);
        let different =
            ngrams.hashes().map(|hashes| hashes.into_iter().collect::<std::collections::HashSet<_>>().len());
        assert_eq!(different, [3, 2, 1]);
    }
}
