//! Token shards: what is written is read back, in any pieces; what is not whole is refused.

use std::fs;
use std::ops::Range;
use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;
use toedit::Result;
use toedit::data::tokens::{MANIFEST, TokenDocument, TokenShards, TokenWriter, WriterConfig};

use super::assert_error;

/// Ids and the runs that carry loss.
type Written = (Vec<u32>, Option<Vec<Range<usize>>>);

fn write(folder: &Path, config: WriterConfig, documents: &[Written]) {
    let mut writer = TokenWriter::create(folder, config, true).unwrap();
    for (ids, loss) in documents {
        writer.push(ids, loss.as_deref()).unwrap();
    }
    writer.finish().unwrap();
}

/// A folder of three shards with and without spans.
fn sample() -> TempDir {
    let folder = TempDir::new().unwrap();
    let config = WriterConfig { shard_tokens: 4, ..WriterConfig::new(1000, Some(0)) };
    let documents =
        [(vec![1, 2, 3], None), (vec![4, 5, 6, 7], Some(vec![1..3])), (vec![], None), (vec![8, 9], None)];
    write(folder.path(), config, &documents);
    folder
}

fn documents() -> impl Strategy<Value = Vec<Written>> {
    let ids = prop::collection::vec(0u32..70_000, 0..30);
    let document = (ids, prop::option::weighted(0.4, prop::collection::vec(any::<bool>(), 30)));
    let document = document.prop_map(|(ids, marks)| {
        let loss = marks.map(|marks| runs(&marks[..ids.len()]));
        (ids, loss)
    });
    prop::collection::vec(document, 0..40)
}

/// The runs of true.
fn runs(marks: &[bool]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for position in (0..marks.len()).filter(|&position| marks[position]) {
        match runs.last_mut() {
            Some(run) if run.end == position => run.end += 1,
            _ => runs.push(position..position + 1),
        }
    }
    runs
}

/// Which tokens of the stream carry loss.
fn marks(documents: &[Written]) -> Vec<bool> {
    let of = |(ids, loss): &Written| -> Vec<bool> {
        let inside =
            |position| loss.as_ref().is_none_or(|runs| runs.iter().any(|run| run.contains(&position)));
        (0..ids.len()).map(inside).collect()
    };
    documents.iter().flat_map(of).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn what_is_written_is_read_back(
        documents in documents(),
        shard_tokens in 20u64..300,
        wide: bool,
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 8),
    ) {
        let folder = TempDir::new().unwrap();
        let vocabulary = if wide { 70_000 } else { 1 << 16 };
        let narrow = |(ids, loss): Written| (ids.into_iter().map(|id| id % vocabulary).collect(), loss);
        let documents: Vec<Written> = documents.into_iter().map(narrow).collect();
        let config = WriterConfig { shard_tokens, ..WriterConfig::new(vocabulary, None) };
        write(folder.path(), config, &documents);
        let shards = TokenShards::open(folder.path()).unwrap();
        prop_assert_eq!(shards.manifest().bytes_per_token, if wide { 4 } else { 2 });
        let stream: Vec<u32> = documents.iter().flat_map(|(ids, _)| ids.clone()).collect();
        let carries = marks(&documents);
        prop_assert_eq!(shards.documents(), documents.len() as u64);
        prop_assert_eq!(shards.tokens(), stream.len() as u64);
        prop_assert_eq!(shards.manifest().response_spans, documents.iter().any(|(_, loss)| loss.is_some()));
        for (index, (ids, loss)) in documents.iter().enumerate() {
            let all = if ids.is_empty() { vec![] } else { vec![0..ids.len()] };
            let expected = TokenDocument { ids: ids.clone(), loss: loss.clone().unwrap_or(all) };
            prop_assert_eq!(shards.document(index as u64).unwrap(), expected);
            let range = shards.document_range(index as u64);
            for position in range {
                prop_assert_eq!(shards.document_at(position), index as u64);
            }
        }
        for (a, b) in cuts {
            let (a, b) = (a.index(stream.len() + 1), b.index(stream.len() + 1));
            let range = a.min(b)..a.max(b);
            let (mut ids, mut loss) = (vec![77], Vec::new());
            shards.read(range.start as u64..range.end as u64, &mut ids).unwrap();
            prop_assert_eq!(&ids[1..], &stream[range.clone()], "appended");
            shards.loss(range.start as u64..range.end as u64, 5, &mut loss);
            let moved: Vec<_> = runs(&carries[range]).into_iter().map(|run| run.start + 5..run.end + 5).collect();
            prop_assert_eq!(loss, moved);
        }
    }
}

#[test]
fn a_shard_is_full_before_the_document_that_would_exceed_it() {
    let folder = sample();
    let shards = TokenShards::open(folder.path()).unwrap();
    let sizes: Vec<_> = shards.manifest().shards.iter().map(|s| (s.documents, s.tokens, s.spans)).collect();
    assert_eq!(sizes, [(1, 3, None), (2, 4, Some(1)), (1, 2, None)]);
    let mut names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let expected =
        ["00000.bin", "00000.ends", "00001.bin", "00001.ends", "00001.spans", "00002.bin", "00002.ends"];
    assert_eq!(names[..7], expected.map(|name| format!("shard-{name}")));
    assert_eq!(names[7..], [MANIFEST]);
    assert_eq!(fs::read(folder.path().join("shard-00001.bin")).unwrap(), [4, 0, 5, 0, 6, 0, 7, 0]);
}

#[test]
fn separators_are_the_places_where_no_text_ends_yet() {
    let count = |documents: &[&[u32]]| {
        let folder = TempDir::new().unwrap();
        let mut writer = TokenWriter::create(folder.path(), WriterConfig::new(10, Some(0)), false).unwrap();
        documents.iter().for_each(|ids| writer.push(ids, None).unwrap());
        writer.finish().unwrap().separators
    };
    assert_eq!(count(&[]), 0);
    assert_eq!(count(&[&[1], &[2], &[3]]), 2);
    assert_eq!(count(&[&[1, 0], &[2, 0], &[3]]), 0);
    assert_eq!(count(&[&[1], &[0, 2], &[3]]), 1);
    assert_eq!(count(&[&[], &[1], &[], &[2], &[]]), 1);
}

#[test]
fn a_folder_that_was_never_finished_does_not_open() {
    let folder = TempDir::new().unwrap();
    let config = WriterConfig { shard_tokens: 2, ..WriterConfig::new(10, None) };
    let mut writer = TokenWriter::create(folder.path(), config.clone(), false).unwrap();
    for _ in 0..4 {
        writer.push(&[1, 2], None).unwrap();
    }
    assert!(folder.path().join("shard-00002.bin").exists());
    assert!(!TokenShards::is_folder(folder.path()));
    assert_error(TokenShards::open(folder.path()), "no tokens.json", "never finished");
    // Another writer must wait; once the first is gone, it begins afresh.
    assert_error(
        TokenWriter::create(folder.path(), config.clone(), false).map(drop),
        MANIFEST,
        "another process",
    );
    drop(writer);
    write(folder.path(), config, &[(vec![3], None)]);
    assert_eq!(TokenShards::open(folder.path()).unwrap().tokens(), 1);
    assert!(!folder.path().join("shard-00001.bin").exists(), "nothing of the first run is left");
}

#[test]
fn finished_shards_are_replaced_only_when_asked_and_when_new_ones_are_there() {
    let folder = sample();
    let config = || WriterConfig::new(10, None);
    assert_error(TokenWriter::check(folder.path(), false), MANIFEST, "exists already");
    assert_error(TokenWriter::create(folder.path(), config(), false).map(drop), MANIFEST, "exists already");
    let mut writer = TokenWriter::create(folder.path(), config(), true).unwrap();
    writer.push(&[1], None).unwrap();
    assert_error(writer.push(&[10], None), "document 1", "id 10: expected less than 10");
    drop(writer);
    assert_eq!(TokenShards::open(folder.path()).unwrap().tokens(), 9, "the old ones are still whole");
    write(folder.path(), config(), &[(vec![1], None)]);
    assert_eq!(TokenShards::open(folder.path()).unwrap().tokens(), 1);
    assert!(
        !folder.path().join("shard-00001.spans").exists() && !folder.path().join("shard-00002.bin").exists()
    );
}

#[test]
fn what_does_not_fit_is_not_written() {
    let folder = TempDir::new().unwrap();
    assert_error(
        TokenWriter::create(folder.path(), WriterConfig::new(10, Some(10)), false).map(drop),
        "",
        "eos",
    );
    let mut writer = TokenWriter::create(folder.path(), WriterConfig::new(10, None), false).unwrap();
    let bad: [&[Range<usize>]; 4] = [&[0..4], &[1..1], &[1..2, 0..1], &[Range { start: 2, end: 1 }]];
    for loss in bad {
        assert_error(writer.push(&[1, 2, 3], Some(loss)), "document 0", "cannot carry loss");
    }
    fs::write(folder.path().join("file"), "").unwrap();
    assert_error(TokenWriter::check(&folder.path().join("file"), true), "file", "not a folder");
}

/// Opens the sample after a change of its manifest.
fn with_manifest(change: impl FnOnce(&mut Value)) -> Result<TokenShards> {
    let folder = sample();
    let path = folder.path().join(MANIFEST);
    let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut manifest);
    fs::write(&path, manifest.to_string()).unwrap();
    TokenShards::open(folder.path())
}

#[test]
fn a_manifest_that_contradicts_itself_or_its_files_is_refused() {
    assert!(with_manifest(|_| {}).is_ok());
    let cases: [(&str, Value, &str); 14] = [
        ("/format", json!("tokens"), "format `tokens`"),
        ("/version", json!(2), "version 2"),
        ("/bytes_per_token", json!(4), "4 bytes per token"),
        ("/bytes_per_token", json!(0), "0 bytes per token"),
        ("/eos_token_id", json!(1000), "eos_token_id 1000"),
        ("/documents", json!(5), "do not add up"),
        ("/tokens", json!(u64::MAX), "do not add up"),
        ("/separators", json!(4), "4 separators"),
        ("/shards/1/file", json!("../shard-00001.bin"), "expected `shard-00001.bin`"),
        ("/shards/1/spans", json!(2), "shard-00001.spans"),
        ("/shards/1/spans", json!(u64::MAX), "shard-00001.spans"),
        ("/shards/0/spans", json!(0), "shard-00000.spans"),
        ("/shards/0/tokens", json!(-1), "invalid value"),
        ("/shards", json!(7), "invalid type"),
    ];
    for (pointer, value, part) in cases {
        assert_error(with_manifest(|manifest| *manifest.pointer_mut(pointer).unwrap() = value), "", part);
    }
    let overflow = with_manifest(|manifest| {
        manifest["shards"][0]["tokens"] = json!(1u64 << 63);
        manifest["tokens"] = json!((1u64 << 63) + 6);
    });
    assert_error(overflow, "shard-00000.bin", "6 bytes: expected 18446744073709551616");
}

#[test]
fn damaged_files_are_refused() {
    let damage = |name: &str, change: &dyn Fn(&mut Vec<u8>), part: &str| {
        let folder = sample();
        let path = folder.path().join(name);
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(&path, bytes).unwrap();
        assert_error(TokenShards::open(folder.path()), name, part);
    };
    for name in ["shard-00000.bin", "shard-00002.ends", "shard-00001.spans"] {
        damage(name, &|bytes| bytes.truncate(1), "1 bytes: expected");
        damage(name, &|bytes| bytes.push(0), "as tokens.json says");
        let folder = sample();
        fs::remove_file(folder.path().join(name)).unwrap();
        assert_error(TokenShards::open(folder.path()), name, "No such file");
        fs::create_dir(folder.path().join(name)).unwrap();
        assert_error(TokenShards::open(folder.path()), name, "a folder");
    }
    damage("shard-00001.ends", &|bytes| bytes[0] = 5, "before its beginning 5");
    damage("shard-00001.ends", &|bytes| bytes[8] = 200, "ends at token 200: expected 4");
    damage("shard-00001.spans", &|bytes| bytes[8] = 5, "tokens 1 to 5");
    damage("shard-00001.spans", &|bytes| bytes[0] = 3, "tokens 3 to 3");
    damage(MANIFEST, &|bytes| bytes.truncate(20), "EOF");
}

#[test]
fn an_id_past_the_vocabulary_is_found_when_it_is_read() {
    let folder = sample();
    fs::write(folder.path().join("shard-00001.bin"), [4, 0, 5, 0, 232, 3, 7, 0]).unwrap();
    let shards = TokenShards::open(folder.path()).unwrap();
    assert_eq!(shards.document(0).unwrap().ids, [1, 2, 3]);
    assert_error(shards.document(1), "shard-00001.bin", "token 2 has id 1000: expected less than 1000");
    let mut ids = Vec::new();
    shards.read(0..5, &mut ids).unwrap();
    assert_eq!(ids, [1, 2, 3, 4, 5]);
}
