//! Score caches as files: what is written is found again, in any order, and nothing else is.

use std::collections::HashMap;
use std::fs;

use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;
use toedit::data::Settings;
use toedit::ops::draw::Candidate;
use toedit::score::cache::{CacheReader, CacheWriter, Entry, Key};
use toedit::score::{Scope, Sequence, Statistics};

fn settings(top_k: usize) -> Settings {
    let settings = json!({"model": "m", "top_k": top_k, "é\"": [1]});
    settings.as_object().unwrap().clone()
}

fn entry(k: usize) -> impl Strategy<Value = Entry> {
    let row = (-9f32..9.0, -9f32..9.0, 0f32..9.0, prop::collection::vec((any::<u32>(), -9f32..9.0), k));
    prop::collection::vec(row, 0..4).prop_map(move |rows| {
        let statistics =
            rows.iter().map(|(target, max, rest, _)| Statistics { target: *target, max: *max, rest: *rest });
        let statistics = statistics.collect();
        let candidates = rows.iter().flat_map(|(.., candidates)| candidates);
        let largest = candidates.map(|&(id, logit)| Candidate { id, logit }).collect();
        Entry { statistics, k, largest }
    })
}

/// Documents, some of them twice: equal keys have equal scores.
fn documents() -> impl Strategy<Value = Vec<(Key, Entry)>> {
    let document = (0..9u64, 0..2u64, entry(3));
    prop::collection::vec(document, 0..12).prop_map(|documents| {
        let mut known: HashMap<(u64, u64), Entry> = HashMap::new();
        let document = |(stream, tokens, entry): (u64, u64, Entry)| {
            let entry = known.entry((stream, tokens)).or_insert(entry).clone();
            (Key { stream, tokens }, entry)
        };
        documents.into_iter().map(document).collect()
    })
}

fn write(folder: &TempDir, documents: &[(Key, Entry)], limits: (usize, u64)) {
    let mut writer = CacheWriter::with_limits(folder.path(), settings(3), true, limits).unwrap();
    documents.iter().for_each(|(key, entry)| writer.push(*key, entry).unwrap());
    writer.finish().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_written_is_found_in_any_order(
        documents in documents(), per_segment in 1..5usize, order in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let folder = TempDir::new().unwrap();
        write(&folder, &documents, (per_segment, u64::MAX));
        let mut reader = CacheReader::open(folder.path()).unwrap();
        prop_assert_eq!(reader.top_k(), 3);
        let shuffled = order.iter().filter(|_| !documents.is_empty()).map(|index| index.get(&documents));
        for (key, entry) in documents.iter().chain(shuffled) {
            let found = reader.find(*key, entry.statistics.len()).unwrap();
            prop_assert_eq!(found.as_ref(), Some(entry));
        }
        prop_assert_eq!(reader.find(Key { stream: 3, tokens: 7 }, 1).unwrap(), None);
        // One key, another number of positions: no document of this key.
        if let Some((key, entry)) = documents.first() {
            prop_assert!(reader.find(*key, entry.statistics.len() + 1).is_err());
        }
    }

    #[test]
    fn damage_is_an_error_and_never_other_scores(
        documents in documents(), at in any::<prop::sample::Index>(), bit in 0..8u32, cut in any::<bool>(),
    ) {
        let folder = TempDir::new().unwrap();
        write(&folder, &documents, (100, u64::MAX));
        let path = folder.path().join("scores-00000.bin");
        let Ok(mut bytes) = fs::read(&path) else { return Ok(()) };
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] ^= 1 << bit }
        fs::write(&path, bytes).unwrap();
        if let Ok(mut reader) = CacheReader::open(folder.path()) {
            for (key, entry) in &documents {
                if let Ok(found) = reader.find(*key, entry.statistics.len()) {
                    prop_assert_eq!(found.as_ref(), Some(entry));
                }
            }
        }
    }
}

#[test]
fn segments_close_by_their_bytes_too() {
    let folder = TempDir::new().unwrap();
    let statistics = vec![Statistics { target: 1.0, max: 2.0, rest: 3.0 }; 10];
    let documents: Vec<_> = (0..4)
        .map(|stream| {
            let entry = Entry { statistics: statistics.clone(), k: 0, largest: Vec::new() };
            (Key { stream, tokens: 0 }, entry)
        })
        .collect();
    write(&folder, &documents, (100, 300));
    let segments = || {
        fs::read_dir(folder.path())
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("scores-"))
    };
    assert_eq!(segments().count(), 2);
    // A smaller cache in its place leaves nothing of the larger one.
    write(&folder, &documents[..1], (100, 300));
    assert_eq!(segments().count(), 1);
    assert!(CacheReader::open(folder.path()).unwrap().find(documents[1].0, 10).unwrap().is_none());
}

#[test]
fn one_process_writes_and_what_a_killed_one_left_goes() {
    let folder = TempDir::new().unwrap();
    let left = folder.path().join(".scores-abc.partial");
    fs::write(&left, "x").unwrap();
    let writer = CacheWriter::create(folder.path(), settings(3), false).unwrap();
    assert!(!left.exists());
    let second = CacheWriter::create(folder.path(), settings(3), false).err().unwrap();
    assert_eq!(second.exit_status(), 75);
    drop(writer);
    let error = CacheReader::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("no cache.json"), "{error}");
    write(&folder, &[], (1, 1));
    assert!(
        CacheWriter::create(folder.path(), settings(3), false)
            .err()
            .unwrap()
            .to_string()
            .contains("--overwrite")
    );
}

#[test]
fn keys_tell_what_the_model_sees() {
    let runs = [1..2, 3..4];
    let key = |context: &[u32], ids: &[u32], scope| Key::new(1, &Sequence { context, ids, scope });
    let keys = [
        key(&[], &[1, 2, 3, 4], Scope::All),
        key(&[1], &[2, 3, 4], Scope::All),
        key(&[], &[1, 2, 3, 4], Scope::Within(&runs)),
        key(&[], &[1, 2, 3, 4], Scope::Within(&runs[..1])),
        key(&[], &[1, 2, 3, 4], Scope::Apart(&runs)),
    ];
    for (index, one) in keys.iter().enumerate() {
        assert!(keys[..index].iter().all(|other| other != one));
    }
    assert_eq!(keys[0], key(&[], &[1, 2, 3, 4], Scope::All));
}
