//! Counts of n-grams do not depend on how the corpus is parted.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;
use toedit::analysis::{BUCKETS, NgramStatistics, bucket, bucket_sums, words};

fn in_parts(texts: &[String], size: usize) -> NgramStatistics {
    let mut statistics = NgramStatistics::default();
    for part in texts.chunks(size) {
        statistics.add(NgramStatistics::count(part.iter().map(String::as_str)));
    }
    statistics
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn all_counts_are_those_of_a_plain_loop(
        texts in prop::collection::vec("([a-cA-C]{1,2}[ .,]{1,2}|[é日Σ\u{301}]){0,12}", 0..12), size in 1usize..5,
    ) {
        let mut buckets = vec![0u64; BUCKETS];
        let mut bigrams = HashMap::<String, u64>::new();
        let (mut totals, mut different) = ([0u64; 3], [const { Vec::new() }; 3]);
        for text in &texts {
            let words = words(text);
            for n in 1..=3 {
                for ngram in words.windows(n).map(|ngram| ngram.join(" ")) {
                    totals[n - 1] += 1;
                    if n < 3 {
                        buckets[usize::from(bucket(&ngram))] += 1;
                    }
                    if n == 2 {
                        *bigrams.entry(ngram.clone()).or_default() += 1;
                    }
                    different[n - 1].push(ngram);
                }
            }
        }
        let statistics = in_parts(&texts, size);
        prop_assert_eq!(statistics.buckets(), &buckets[..]);
        for n in 1..=3 {
            let found = statistics.distinct(n);
            let expected = different[n - 1].iter().collect::<HashSet<_>>().len() as u64;
            prop_assert_eq!((found.total, found.count, found.is_exact), (totals[n - 1], expected, true));
        }
        let mut expected: Vec<_> = bigrams.into_iter().map(|(name, count)| (std::cmp::Reverse(count), name)).collect();
        expected.sort();
        let found: Vec<_> =
            statistics.top_bigrams(5).into_iter().map(|top| (std::cmp::Reverse(top.count), top.bigram)).collect();
        prop_assert_eq!(&found[..], &expected[..expected.len().min(5)]);
        prop_assert_eq!(statistics.bigram_error(), 0);

        // One for each bucket: the number of n-grams.
        let ones = bucket_sums(texts.iter().map(String::as_str), &[1.0; BUCKETS]);
        prop_assert_eq!(ones.iter().sum::<f64>(), (totals[0] + totals[1]) as f64);
        prop_assert_eq!(ones.len(), texts.len());
    }
}
