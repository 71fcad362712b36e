//! Hashed n-grams of English text, on one thread: the whole of what `toedit analyze` counts, by bytes of text.
//!
//! `cargo bench --bench analysis`. English text of `$TOEDIT_SHARED`, else the repository's sample: real text, not repeated, since
//! repetition would spare hashes.

#[path = "../tests/common/mod.rs"]
mod common;

use std::env;
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use toedit::analysis::{BUCKETS, NgramStatistics, bucket_sums, words};
use toedit::data::{Document, Inputs};

/// Bytes of text at most: about what a thread of the command counts at a time.
const BYTES: usize = 4 << 20;

fn texts() -> Vec<String> {
    let corpus = match env::var_os("TOEDIT_SHARED") {
        Some(shared) => Path::new(&shared).join("corpora/human"),
        None => common::root().join("assets/sample.jsonl"),
    };
    let documents = Inputs::expand(&[corpus]).and_then(|inputs| inputs.documents(Default::default()));
    let mut bytes = 0;
    let text = |document: toedit::Result<Document>| {
        let document = document.expect("a readable record");
        document.text().expect("the corpus holds text").to_owned()
    };
    let texts = documents.expect("a corpus").map(text);
    texts
        .take_while(|text| {
            bytes += text.len();
            bytes <= BYTES
        })
        .collect()
}

fn bench(criterion: &mut Criterion) {
    let texts = texts();
    let all = || texts.iter().map(String::as_str);
    let bytes = texts.iter().map(String::len).sum::<usize>() as u64;
    println!("{} documents, {bytes} bytes", texts.len());
    let mut group = criterion.benchmark_group("analysis");
    group.sample_size(10);
    group.throughput(Throughput::Bytes(bytes));
    group.bench_function("words", |bencher| {
        bencher.iter(|| all().map(|text| words(text).len()).sum::<usize>())
    });
    group.bench_function("count", |bencher| bencher.iter(|| NgramStatistics::count(all())));
    group.bench_function("count and add", |bencher| {
        // What one thread adds to the corpus while others count.
        let mut statistics = NgramStatistics::default();
        bencher.iter(|| statistics.add(NgramStatistics::count(all())));
    });
    let values = vec![1.0; BUCKETS];
    group.bench_function("weights", |bencher| bencher.iter(|| bucket_sums(all(), &values)));
}

criterion_group!(analysis, bench);
criterion_main!(analysis);
