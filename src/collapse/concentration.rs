//! How concentrated the n-grams of a generation's data are: collapse shows in it before it shows in the loss.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::texts::{Alphabet, Texts};
use crate::Result;
use crate::analysis::{NgramStatistics, UnitCounts, distribution, entropy, gini};

/// The most frequent bigrams whose share is told, as many as the paper's figures show.
const TOP: usize = 40;

/// Of the unigrams and bigrams of a corpus in 10,000 buckets, as DSIR hashes them, and of the bigrams by name.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Concentration {
    /// The Gini coefficient of the buckets: 0 where all are equally full.
    pub gini: f64,
    /// Of the distribution over buckets, in nats.
    pub entropy: f64,
    /// Share of the 40 most frequent bigrams among all bigrams.
    pub top_40_share: f64,
    /// Different bigrams over all of them; smaller also where a corpus is larger.
    pub distinct_2: f64,
}

impl Concentration {
    /// Of all these corpora together.
    pub(super) fn of(
        corpora: &[Texts],
        alphabet: &Alphabet,
        mut watch: impl FnMut() -> Result<()>,
    ) -> Result<Self> {
        let mut statistics = NgramStatistics::default();
        for chunk in corpora.iter().flat_map(Texts::chunks) {
            watch()?;
            for part in count(&chunk?.1, alphabet) {
                statistics.add(part);
            }
        }
        let buckets = distribution(statistics.buckets());
        let bigrams = statistics.distinct(2);
        let top: u64 = statistics.top_bigrams(TOP).iter().map(|bigram| bigram.count).sum();
        Ok(Self {
            gini: gini(&buckets),
            entropy: entropy(&buckets),
            top_40_share: top as f64 / bigrams.total.max(1) as f64,
            distinct_2: bigrams.share,
        })
    }
}

/// The counts of some texts, in parts that do not depend on the number of threads.
fn count(texts: &[Vec<u32>], alphabet: &Alphabet) -> Vec<UnitCounts> {
    let part = |texts: &[Vec<u32>]| {
        let decoded: Vec<_> = texts.iter().map(|ids| alphabet.decode(ids)).collect();
        NgramStatistics::count(decoded.iter().map(String::as_str))
    };
    texts.par_chunks(64).map(part).collect()
}
