//! Rows from token shards: nothing lost, nothing twice, the same from any starting point.
#![expect(
    clippy::single_range_in_vec_init,
    reason = "a document may have a single run of tokens that carry loss"
)]

use std::fs;

use proptest::prelude::*;
use tempfile::TempDir;
use toedit::data::tokens::{TokenShards, TokenWriter, WriterConfig};
use toedit::train::data::{DataConfig, IGNORE, LeftOut, Loader, Packing, Row, Source};

/// The end of text of all corpora here.
const EOS: u32 = 0;
const VOCABULARY: u32 = 100_000;

/// A folder of shards of `documents`, a few to a shard.
fn shards(documents: &[Vec<u32>]) -> (TempDir, TokenShards) {
    let folder = TempDir::new().unwrap();
    let config = WriterConfig { shard_tokens: 200, ..WriterConfig::new(VOCABULARY, Some(EOS)) };
    let mut writer = TokenWriter::create(folder.path(), config, false).unwrap();
    for document in documents {
        writer.push(document, None).unwrap();
    }
    writer.finish().unwrap();
    let shards = TokenShards::open(folder.path()).unwrap();
    (folder, shards)
}

fn config(sequence_length: usize, packing: Packing, shuffle: bool) -> DataConfig {
    DataConfig { sequence_length, packing, shuffle, seed: 3, response_only: false, eos: Some(EOS) }
}

fn loader(documents: &[Vec<u32>], config: &DataConfig) -> Loader {
    let (_folder, shards) = shards(documents);
    Loader::new(vec![Source { shards, weight: None }], config).unwrap()
}

fn rows(loader: &Loader, numbers: std::ops::Range<u64>) -> Vec<Row> {
    numbers.map(|index| loader.row(index).unwrap()).collect()
}

/// The stream that concatenation trains on, written down plainly.
fn stream(documents: &[Vec<u32>]) -> Vec<u32> {
    let mut stream: Vec<u32> = Vec::new();
    for document in documents.iter().filter(|document| !document.is_empty()) {
        if !stream.is_empty() && stream.last() != Some(&EOS) && document[0] != EOS {
            stream.push(EOS);
        }
        stream.extend(document);
    }
    stream
}

/// What rows of the plain stream are.
fn plain_rows(stream: &[u32], length: usize) -> Vec<Row> {
    let rows = stream.chunks(length).filter(|row| row.len() > 1);
    rows.map(|row| Row { ids: row.to_vec(), targets: row[1..].to_vec() }).collect()
}

/// Documents that never, always or sometimes have an end of text at either end.
fn documents() -> impl Strategy<Value = Vec<Vec<u32>>> {
    let document = |least| prop::collection::vec(1u32..VOCABULARY, least..12);
    let ended = document(0).prop_map(|mut ids| {
        ids.push(EOS);
        ids
    });
    prop_oneof![
        prop::collection::vec(document(1), 1..40),
        prop::collection::vec(ended, 1..40),
        prop::collection::vec(prop::collection::vec(0u32..4, 0..6), 1..700),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn concatenated_rows_are_the_stream_cut_up(documents in documents(), length in 2usize..40) {
        let stream = stream(&documents);
        prop_assume!(stream.len() > 1);
        let loader = loader(&documents, &config(length, Packing::Concatenate, false));
        let expected = plain_rows(&stream, length);
        let count = loader.rows_per_epoch();
        prop_assert_eq!(count, expected.len() as u64);
        prop_assert_eq!(rows(&loader, 0..count), expected.clone());
        prop_assert_eq!(rows(&loader, count..2 * count), expected.clone(), "each epoch alike");
        let tokens: usize = expected.iter().map(|row| row.ids.len()).sum();
        prop_assert_eq!(loader.tokens_per_epoch(), tokens as u64);
        let left_out = LeftOut { documents: 0, tokens: (stream.len() - tokens) as u64 };
        prop_assert_eq!(loader.left_out(), left_out);
    }

    #[test]
    fn documents_are_rows(documents in documents(), length in 2usize..14) {
        prop_assume!(documents.iter().any(|document| document.len() > 1));
        let loader = loader(&documents, &config(length, Packing::Documents, false));
        let long = documents.iter().filter(|document| document.len() > 1);
        let expected: Vec<Row> = long
            .map(|document| &document[..document.len().min(length)])
            .map(|ids| Row { ids: ids.to_vec(), targets: ids[1..].to_vec() })
            .collect();
        prop_assert_eq!(rows(&loader, 0..loader.rows_per_epoch()), expected.clone());
        let all: usize = documents.iter().map(Vec::len).sum();
        let kept: usize = expected.iter().map(|row| row.ids.len()).sum();
        let short = documents.len() - expected.len();
        prop_assert_eq!(loader.left_out(), LeftOut { documents: short as u64, tokens: (all - kept) as u64 });
    }

    #[test]
    fn an_epoch_has_every_row_of_every_source_once(
        corpora in prop::collection::vec(documents(), 1..4),
        length in 2usize..12,
        seed: u64,
    ) {
        prop_assume!(corpora.iter().all(|documents| stream(documents).len() > 1));
        let config = DataConfig { seed, ..config(length, Packing::Concatenate, true) };
        let kept: Vec<_> = corpora.iter().map(|documents| shards(documents)).collect();
        let sources = kept.iter().map(|(folder, _)| {
            Source { shards: TokenShards::open(folder.path()).unwrap(), weight: None }
        });
        let loader = Loader::new(sources.collect(), &config).unwrap();
        let plain = corpora.iter().flat_map(|documents| plain_rows(&stream(documents), length));
        let mut plain: Vec<_> = plain.map(|row| row.ids).collect();
        plain.sort();
        let count = loader.rows_per_epoch();
        for epoch in [0, 1, 5] {
            let epoch_rows = rows(&loader, epoch * count..(epoch + 1) * count);
            let mut seen: Vec<_> = epoch_rows.into_iter().map(|row| row.ids).collect();
            seen.sort();
            prop_assert_eq!(&seen, &plain);
            prop_assert_eq!(loader.epoch(epoch * count), epoch);
            prop_assert_eq!(loader.epoch((epoch + 1) * count - 1), epoch);
        }
    }
}

#[test]
fn shuffles_differ_by_seed_epoch_and_source_and_by_nothing_else() {
    let documents: Vec<Vec<u32>> = (0..200).map(|number| vec![1 + number, 1 + number]).collect();
    let order = |seed, epoch: u64, twice: bool| -> Vec<u32> {
        let config = DataConfig { seed, ..config(2, Packing::Documents, true) };
        let (_folder, first) = shards(&documents);
        let (_other, second) = shards(&documents);
        let mut sources = vec![Source { shards: first, weight: None }];
        if twice {
            sources.push(Source { shards: second, weight: None });
        }
        let loader = Loader::new(sources, &config).unwrap();
        let count = loader.rows_per_epoch();
        rows(&loader, epoch * count..(epoch + 1) * count).into_iter().map(|row| row.ids[0]).collect()
    };
    let first = order(3, 0, false);
    assert_eq!(first, order(3, 0, false));
    assert!(!first.is_sorted());
    assert_ne!(first, order(4, 0, false));
    assert_ne!(first, order(3, 1, false));
    let both = order(3, 0, true);
    let of = |parity: usize| -> Vec<u32> { both.iter().copied().skip(parity).step_by(2).collect() };
    assert_ne!(of(0), of(1), "two sources of one size keep their own order");
    assert!([of(0), of(1)].contains(&first));
}

#[test]
fn rows_alone_carry_loss_where_responses_do() {
    let folder = TempDir::new().unwrap();
    let mut writer = TokenWriter::create(folder.path(), WriterConfig::new(100, Some(EOS)), false).unwrap();
    writer.push(&[1, 2, 3, 4, 5], Some(&[2..4])).unwrap();
    writer.push(&[6, 7], None).unwrap();
    writer.push(&[8, 9, 10], Some(&[])).unwrap();
    writer.push(&[11, 12, 13, 14], Some(&[0..1, 2..3])).unwrap();
    writer.finish().unwrap();
    let load = |config: &DataConfig| {
        let shards = TokenShards::open(folder.path()).unwrap();
        Loader::new(vec![Source { shards, weight: None }], config).unwrap()
    };
    let only = DataConfig { response_only: true, ..config(8, Packing::Concatenate, false) };
    let found = rows(&load(&only), 0..3);
    let no = IGNORE;
    // Stream: 1 2 3 4 5 0 6 7 | 0 8 9 10 0 11 12 13 | 14
    assert_eq!(found[0].ids, [1, 2, 3, 4, 5, 0, 6, 7]);
    assert_eq!(found[0].targets, [no, 3, 4, no, no, 6, 7]);
    assert_eq!(found[1].ids, [0, 8, 9, 10, 0, 11, 12, 13]);
    assert_eq!(found[1].targets, [no, no, no, no, 11, no, 13]);
    assert_eq!(found[2], found[0], "a token alone is no row");
    let documents = DataConfig { packing: Packing::Documents, ..only.clone() };
    let loaded = load(&documents);
    let targets: Vec<_> = rows(&loaded, 0..3).into_iter().map(|row| row.targets).collect();
    assert_eq!(targets, [vec![no, 3, 4, no], vec![7], vec![no, 13, no]]);
    assert_eq!(loaded.rows_per_epoch(), 3, "a document without a response is no row");
    assert_eq!(loaded.left_out(), LeftOut { documents: 1, tokens: 3 });
    let everything = load(&DataConfig { response_only: false, ..documents });
    assert_eq!(everything.row(0).unwrap().targets, [2, 3, 4, 5]);
}

#[test]
fn responses_that_nothing_predicts_are_refused() {
    let folder = TempDir::new().unwrap();
    let mut writer = TokenWriter::create(folder.path(), WriterConfig::new(100, Some(EOS)), false).unwrap();
    writer.push(&[1, 2, 3], Some(&[0..1])).unwrap();
    writer.finish().unwrap();
    for packing in [Packing::Concatenate, Packing::Documents] {
        let shards = TokenShards::open(folder.path()).unwrap();
        let config = DataConfig { response_only: true, ..config(8, packing, false) };
        let message = Loader::new(vec![Source { shards, weight: None }], &config).unwrap_err().to_string();
        assert!(message.contains("no row has a token of a response"), "{message}");
    }
}

#[test]
fn weights_are_shares_of_the_tokens() {
    // Rows of 8 tokens against rows of 2.
    let long = vec![vec![1; 8]; 30];
    let short = vec![vec![2; 2]; 50];
    for weights in [[1.0, 1.0], [3.0, 1.0], [0.02, 0.38], [1e300, 1e299]] {
        let (_a, first) = shards(&long);
        let (_b, second) = shards(&short);
        let sources = [first, second].into_iter().zip(weights);
        let sources = sources.map(|(shards, weight)| Source { shards, weight: Some(weight) }).collect();
        let loader = Loader::new(sources, &config(8, Packing::Documents, true)).unwrap();
        let mut tokens = [0.0, 0.0];
        for index in 0..20_000 {
            let row = loader.row(index).unwrap();
            tokens[row.ids[0] as usize - 1] += row.ids.len() as f64;
        }
        let total = tokens[0] + tokens[1];
        let due = weights[0] / (weights[0] + weights[1]) * total;
        assert!((tokens[0] - due).abs() <= 8.0, "{weights:?}: {tokens:?}, due {due}");
    }
}

#[test]
fn a_text_end_of_another_vocabulary_is_put_in_where_it_is_missing() {
    let documents = [vec![5, 9], vec![9, 6], vec![7], vec![8]];
    let config = DataConfig { eos: Some(9), ..config(100, Packing::Concatenate, false) };
    assert_eq!(loader(&documents, &config).row(0).unwrap().ids, [5, 9, 9, 6, 9, 7, 9, 8]);
    let config = DataConfig { eos: None, ..config };
    assert_eq!(loader(&documents, &config).row(0).unwrap().ids, [5, 9, 9, 6, 7, 8]);
}

#[test]
fn what_cannot_be_trained_on_is_refused() {
    let refused = |documents: &[Vec<u32>], weights: &[Option<f64>], config: &DataConfig, part: &str| {
        let kept: Vec<_> = weights.iter().map(|_| shards(documents)).collect();
        let sources = kept.into_iter().zip(weights).map(|((_, shards), &weight)| Source { shards, weight });
        let message = Loader::new(sources.collect(), config).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    };
    let good = config(4, Packing::Concatenate, false);
    let some = [vec![1, 2, 3]];
    refused(&some, &[None], &config(1, Packing::Concatenate, false), "sequence length 1");
    refused(&some, &[], &good, "no data");
    refused(&some, &[Some(1.0), None], &good, "1 weights for 2 sources");
    for weight in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        refused(&some, &[Some(weight)], &good, "data weight");
    }
    refused(&some, &[None], &DataConfig { eos: Some(VOCABULARY), ..good.clone() }, "end of text 100000");
    refused(&some, &[None], &DataConfig { response_only: true, ..good.clone() }, "no responses");
    refused(&[], &[None], &good, "no two tokens");
    refused(&[vec![1]], &[None], &good, "no two tokens");
    refused(&[vec![1], vec![2]], &[None], &config(4, Packing::Documents, false), "no two tokens");
}

#[test]
fn an_id_past_the_vocabulary_is_found_when_its_row_is_read() {
    let (folder, _) = shards(&[vec![1, 2, 3, 4]]);
    let path = folder.path().join("shard-00000.bin");
    let mut bytes = fs::read(&path).unwrap();
    bytes[8..12].copy_from_slice(&VOCABULARY.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let shards = TokenShards::open(folder.path()).unwrap();
    let source = Source { shards, weight: None };
    let loader = Loader::new(vec![source], &config(2, Packing::Concatenate, false)).unwrap();
    assert_eq!(loader.row(0).unwrap().ids, [1, 2]);
    let message = loader.row(1).unwrap_err().to_string();
    assert!(message.contains("shard-00000.bin") && message.contains("token 2 has id 100000"), "{message}");
}
