//! Shards: the records of all of them are those of the whole, each once, whatever the format.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;
use toedit::data::{Arrival, Inputs, ReadOptions, Shard};

use crate::{assert_error, gzip, put, zstd};

/// Longer lines are refused.
const LIMIT: usize = 120;
const SKIPPABLE: [u8; 11] = [0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];

/// A record as the reader gives it: file, line, and its text or what is wrong with it.
type Item = (usize, u64, String);

fn items(paths: &[PathBuf], shard: Option<Shard>) -> Vec<Item> {
    let options = ReadOptions { max_document_bytes: LIMIT, shard, ..ReadOptions::default() };
    let documents = Inputs::expand(paths).unwrap().documents(options).unwrap();
    let item = |arrival: toedit::Result<Arrival>| match arrival.unwrap() {
        Arrival::Document(document) => {
            (document.file(), document.line(), document.text().unwrap().to_owned())
        }
        Arrival::Refused(refused) => {
            (refused.mark().file, refused.line(), format!("{} {:?}", refused.reason(), refused.raw()))
        }
    };
    documents.arrivals().map(item).collect()
}

fn shards(paths: &[PathBuf], count: u32) -> Vec<Vec<Item>> {
    (0..count).map(|index| items(paths, Some(Shard::new(index, count).unwrap()))).collect()
}

/// Checks that the shards hold each record once, in order.
#[track_caller]
fn assert_union(paths: &[PathBuf], count: u32) -> Vec<Vec<Item>> {
    let shards = shards(paths, count);
    assert!(shards.iter().all(|items| items.is_sorted_by_key(|item| (item.0, item.1))));
    let mut all = shards.concat();
    all.sort_by_key(|item| (item.0, item.1));
    assert_eq!(all, items(paths, None), "{count} shards");
    shards
}

fn line(text: &str) -> String {
    format!("{{\"text\":\"{text}\"}}\n")
}

#[test]
fn names_and_numbers() {
    let shard: Shard = "2/8".parse().unwrap();
    assert_eq!((shard.index(), shard.count(), shard.to_string().as_str()), (2, 8, "2/8"));
    for (path, expected) in [
        ("a.jsonl", "a-00002-of-00008.jsonl"),
        ("out/a.jsonl.gz", "out/a-00002-of-00008.jsonl.gz"),
        ("a.v1.json.zst", "a.v1-00002-of-00008.json.zst"),
        ("a b.TXT.GZ", "a b-00002-of-00008.TXT.GZ"),
        ("/x/.a.jsonl", "/x/.a-00002-of-00008.jsonl"),
        ("a", "a-00002-of-00008"),
        ("-", "-"),
    ] {
        assert_eq!(shard.rename(Path::new(path)), Path::new(expected));
    }
    let last: Shard = "99999/100000".parse().unwrap();
    assert_eq!(last.rename(Path::new("a.txt")), Path::new("a-99999-of-100000.txt"));
    for text in ["", "1", "1/", "/2", "2/2", "0/0", "-1/2", "+1/2", "1/2/3", "a/b", "1 /2", "0/99999999999"] {
        assert_error(text.parse::<Shard>(), "shard", "expected I/N");
    }
}

/// Every place where a share may end, in and between records.
#[test]
fn plain_files_are_cut_at_every_byte() {
    let folder = tempfile::tempdir().unwrap();
    let (a, bb) = (line("a"), line("bb"));
    for (name, content) in [
        ("lines", format!("{a}{bb}{a}{bb}{a}")),
        ("no-final-newline", format!("{a}{bb}{{\"text\":\"c\"}}")),
        ("crlf", format!("{a}{bb}{a}").replace('\n', "\r\n")),
        ("blank-lines", format!("\n\n{a}\n \r\n{bb}\n\n\n")),
        ("byte-order-mark", format!("\u{feff}{a}{bb}")),
        ("bad-records", format!("{a}{{\n{bb}[]\n{a}")),
        ("one-long-record", format!("{a}{}{a}{a}", line(&"x".repeat(LIMIT)))),
        ("empty", String::new()),
    ] {
        let path = put(folder.path(), &format!("{name}.jsonl"), &content);
        for count in 1..=content.len() as u32 + 2 {
            let shards = assert_union(std::slice::from_ref(&path), count);
            assert_eq!(shards.concat(), items(std::slice::from_ref(&path), None), "{name}: in order");
        }
    }
}

/// A record belongs to the shard in whose share its first byte lies, so shards do not depend on each other.
#[test]
fn shares_are_those_of_the_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let content: String = (0..100).map(|n| line(&format!("{n:03}"))).collect();
    let path = put(folder.path(), "a.jsonl", content);
    let sizes: Vec<_> = shards(&[path], 7).iter().map(Vec::len).collect();
    assert_eq!(sizes, [15, 14, 14, 15, 14, 14, 14]);
}

#[test]
fn the_line_of_an_error_is_that_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let content: String = (0..1000).map(|n| if n == 900 { "{\n".to_owned() } else { line("x") }).collect();
    let frames: Vec<u8> = content.as_bytes().chunks(100).flat_map(zstd).collect();
    for path in [put(folder.path(), "a.jsonl", &content), put(folder.path(), "a.jsonl.zst", frames)] {
        let shard = Some(Shard::new(9, 10).unwrap());
        let mut documents = Inputs::expand(std::slice::from_ref(&path))
            .unwrap()
            .documents(ReadOptions { shard, ..ReadOptions::default() })
            .unwrap();
        let first = documents.by_ref().find(|document| document.is_err()).unwrap();
        assert_error(first, ":901: ", "EOF");
        let next = documents.next().unwrap().unwrap();
        assert_eq!(next.line(), 902);
        std::fs::write(&path, "").unwrap();
        assert_eq!(next.line(), 902, "counted once");
        std::fs::remove_file(&path).unwrap();
        let last = documents.last().unwrap().unwrap();
        assert_eq!(last.line(), 1000);
    }
}

/// A small xorshift, for bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        b'a' + (state >> 8) as u8 % 26
    };
    (0..length).map(|_| next()).collect()
}

/// Frames with every kind of header and block.
fn frames() -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let lines = |count: usize, length: usize| -> Vec<u8> {
        (0..count).flat_map(|_| line(std::str::from_utf8(&noise(length)).unwrap()).into_bytes()).collect()
    };
    let mut table = Vec::new();
    let mut add = |name, data: Vec<u8>, compress: &dyn Fn(&[u8]) -> Vec<u8>| {
        let frame = compress(&data);
        table.push((name, data, frame));
    };
    add("unknown size", lines(5, 20), &zstd);
    for (name, count) in [("one-byte size", 2), ("two-byte size", 200), ("four-byte size", 20_000)] {
        add(name, lines(count, 20), &|data| zstd::bulk::compress(data, 1).unwrap());
    }
    add("raw blocks", b"\n".iter().copied().chain(noise(300_000)).chain([b'\n']).collect(), &zstd);
    add("repeated bytes", vec![b'\n'; 400_000], &zstd);
    add("nothing", Vec::new(), &zstd);
    add("skipped", Vec::new(), &|_| SKIPPABLE.to_vec());
    table
}

#[test]
fn zstd_files_are_cut_between_frames() {
    let folder = tempfile::tempdir().unwrap();
    let table = frames();
    let file: Vec<u8> = table.iter().flat_map(|(_, _, frame)| frame.clone()).collect();
    let data: Vec<u8> = table.iter().flat_map(|(_, data, _)| data.clone()).collect();
    let plain = items(&[put(folder.path(), "a.jsonl", data)], None);
    let path = [put(folder.path(), "a.jsonl.zst", file.repeat(3))];
    for count in [1, 2, 3, 5, 8, 20, 21, 22, 60] {
        let shards = assert_union(&path, count);
        assert_eq!(shards.iter().map(Vec::len).sum::<usize>(), 3 * plain.len());
        // Three times seven frames hold data; with more shards records are dealt out.
        if count > 1 {
            let is_in_order = shards.concat() == items(&path, None);
            assert_eq!(is_in_order, count <= 21, "{count} shards");
        }
    }
}

#[test]
fn damaged_frames_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let frame = zstd(line("a").as_bytes());
    let good = frame.repeat(4);
    let first = |bytes: Vec<u8>, shard: &str| {
        let path = put(folder.path(), "a.jsonl.zst", bytes);
        let options = ReadOptions { shard: Some(shard.parse().unwrap()), ..ReadOptions::default() };
        Inputs::expand(&[path]).unwrap().documents(options).unwrap().find(|document| document.is_err())
    };
    for (bytes, what) in [
        ([&good[..], b"garbage"].concat(), "no zstd frame at byte"),
        ([&good[..], &frame[..3]].concat(), "ends too early, at byte"),
        ([&good[..], &frame[..frame.len() - 1]].concat(), "ends too early, at byte"),
        ([&good[..], &frame[..7]].concat(), "ends too early, at byte"),
        ([&good[..], &SKIPPABLE[..6]].concat(), "ends too early, at byte"),
        ([&good[..], &SKIPPABLE[..10]].concat(), "ends too early, at byte"),
        (Vec::new(), "empty"),
    ] {
        assert_error(first(bytes, "3/4").unwrap(), "a.jsonl.zst", what);
    }
    // The headers are fine, the checksum of the frame before the shard's first is not.
    let mut flipped = good;
    flipped[2 * frame.len() - 1] ^= 1;
    assert_error(first(flipped, "2/4").unwrap(), "a.jsonl.zst", "corrupt zstd data before byte");
}

#[test]
fn gzip_and_streams_are_dealt_out() {
    let folder = tempfile::tempdir().unwrap();
    let content: String = (0..10).map(|n| format!("\n{}", line(&n.to_string()))).collect();
    let members: Vec<u8> = content.as_bytes().chunks(7).flat_map(gzip).collect();
    for (name, bytes) in [
        ("one.jsonl.gz", gzip(content.as_bytes())),
        ("many.jsonl.gz", members),
        ("one.jsonl.zst", zstd(content.as_bytes())),
    ] {
        let path = [put(folder.path(), name, bytes)];
        let shards = assert_union(&path, 4);
        let texts: Vec<_> = shards[1].iter().map(|item| item.2.as_str()).collect();
        assert_eq!(texts, ["1", "5", "9"], "{name}");
    }
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (writer_end, bytes) = (pipe.clone(), content.into_bytes());
    let writer = std::thread::spawn(move || std::fs::write(writer_end, bytes).unwrap());
    let texts: Vec<_> = items(&[pipe], Some("3/4".parse().unwrap())).into_iter().map(|item| item.2).collect();
    assert_eq!(texts, ["3", "7"]);
    writer.join().unwrap();
}

#[test]
fn folders_of_all_formats() {
    let folder = tempfile::tempdir().unwrap();
    let content: String = (0..9).map(|n| line(&n.to_string())).collect();
    let frames: Vec<u8> = content.as_bytes().chunks(10).flat_map(zstd).collect();
    for (name, bytes) in [
        ("a.txt", b"first".to_vec()),
        ("b.jsonl", content.clone().into_bytes()),
        ("c.jsonl.gz", gzip(content.as_bytes())),
        ("d.json.zst", frames),
        ("e.txt.gz", gzip(b"second")),
        ("f.txt", b"third".to_vec()),
    ] {
        put(&folder.path().join("in"), name, bytes);
    }
    let root = [folder.path().join("in")];
    for count in 1..=12 {
        assert_union(&root, count);
    }
    // Text files by their number among all inputs: 0, 4 and 5.
    let texts = |shard: &str| -> Vec<String> {
        let ours = items(&root, Some(shard.parse().unwrap()));
        ours.into_iter().map(|item| item.2).filter(|text| text.len() > 1).collect()
    };
    assert_eq!(texts("0/4"), ["first", "second"]);
    assert_eq!(texts("1/4"), ["third"]);
    let documents = |shard: Shard| {
        let options = ReadOptions { shard: Some(shard), ..ReadOptions::default() };
        Inputs::expand(&root).unwrap().documents(options).unwrap()
    };
    let read: Vec<_> =
        (0..4).map(|index| documents(Shard::new(index, 4).unwrap()).progress().total()).collect();
    let whole = Inputs::expand(&root).unwrap().total_bytes().unwrap();
    assert!(read.iter().all(|total| total.unwrap() < whole), "{read:?} of {whole}");
}

/// Pieces of a corpus, good and bad.
fn piece() -> impl Strategy<Value = String> {
    let text = prop_oneof![8 => 0..30usize, 2 => 80..400usize];
    let end = prop_oneof![4 => Just("\n"), 1 => Just("\r\n")];
    prop_oneof![
        8 => (text, end).prop_map(|(length, end)| format!("{{\"text\":\"{}\"}}{end}", "é".repeat(length / 2))),
        1 => Just("\n".to_owned()),
        1 => Just(" \r\n".to_owned()),
        1 => Just("{]\n".to_owned()),
    ]
}

/// A corpus that may begin with a byte order mark and end without a line's end.
fn corpus() -> impl Strategy<Value = Vec<u8>> {
    (any::<bool>(), prop::collection::vec(piece(), 0..25), any::<bool>()).prop_map(|(mark, pieces, cut)| {
        let mut bytes = if mark { "\u{feff}".to_owned() } else { String::new() } + &pieces.concat();
        if cut && bytes.ends_with('\n') {
            bytes.pop();
        }
        bytes.into_bytes()
    })
}

/// The ranges between sorted cuts of `length` bytes.
fn ranges(length: usize, cuts: &[Index]) -> Vec<Range<usize>> {
    let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(length + 1)).chain([0, length]).collect();
    places.sort();
    places.windows(2).map(|pair| pair[0]..pair[1]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_union_of_the_shards_is_the_whole(
        content in corpus(),
        cuts in prop::collection::vec(any::<Index>(), 0..12),
        skipped in any::<u16>(),
        count in prop_oneof![4 => 1..6u32, 1 => 6..40u32],
    ) {
        let folder = tempfile::tempdir().unwrap();
        let parts = ranges(content.len(), &cuts);
        let frames = parts.iter().enumerate().flat_map(|(number, part)| {
            let skip = skipped >> number & 1 == 1;
            [zstd(&content[part.clone()]), if skip { SKIPPABLE.to_vec() } else { Vec::new() }].concat()
        });
        let paths = [
            put(folder.path(), "a.jsonl", &content),
            put(folder.path(), "b.jsonl.zst", frames.collect::<Vec<_>>()),
            put(folder.path(), "c.jsonl.gz", parts.iter().flat_map(|part| gzip(&content[part.clone()])).collect::<Vec<_>>()),
        ];
        let shards = assert_union(&paths, count);
        let mut plain: BTreeMap<usize, Vec<&Item>> = BTreeMap::new();
        for item in shards.iter().flatten() {
            plain.entry(item.0).or_default().push(item);
        }
        // The shards of a plain file follow each other.
        prop_assert!(plain.get(&0).is_none_or(|items| items.is_sorted_by_key(|item| item.1)));
    }
}
