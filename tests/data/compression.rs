//! Compressed files: recognised by content, read whole, refused when damaged.

use std::io::{Read, Write};
use std::path::Path;

use proptest::prelude::*;
use toedit::data::{Compression, Encoder, Reader, Sink};
use toedit::{Error, Result};

use crate::{assert_error, gzip, put, read, texts, zstd};

const ONE: &[u8] = b"{\"text\":\"one\"}\n";
const TWO: &[u8] = b"{\"text\":\"two\"}\n";

/// All bytes of a file, decompressed, and the bytes of the file that were counted.
fn decode(path: &Path) -> (Result<Vec<u8>>, u64) {
    let progress = std::sync::Arc::default();
    let mut bytes = Vec::new();
    let result = Reader::open(path, std::sync::Arc::clone(&progress)).and_then(|mut reader| {
        let end = reader.read_to_end(&mut bytes);
        end.map_err(|e| reader.error(e))
    });
    (result.map(|_| bytes), progress.load(std::sync::atomic::Ordering::Relaxed))
}

/// Lines that do not compress to nothing.
fn corpus(lines: usize) -> Vec<u8> {
    let line = |n: usize| {
        format!("{{\"text\":\"{:x}\"}}\n", (n as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c))
    };
    (0..lines).map(line).collect::<String>().into_bytes()
}

#[test]
fn members_frames_and_names() {
    let folder = tempfile::tempdir().unwrap();
    let skippable = [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..], &zstd(ONE), &zstd(TWO)].concat();
    let many: Vec<u8> = (0..500).flat_map(|_| [gzip(ONE), gzip(b""), gzip(TWO)].concat()).collect();
    let table: &[(&str, Vec<u8>, usize)] = &[
        ("plain.jsonl", [ONE, TWO].concat(), 2),
        ("a.jsonl.gz", gzip(&[ONE, TWO].concat()), 2),
        ("a.jsonl.zst", zstd(&[ONE, TWO].concat()), 2),
        ("members.jsonl.gz", [gzip(ONE), gzip(TWO)].concat(), 2),
        ("thousand.jsonl.gz", many, 1000),
        ("split.jsonl.gz", [gzip(&ONE[..5]), gzip(&ONE[5..]), gzip(TWO)].concat(), 2),
        ("padded.jsonl.gz", [gzip(ONE), gzip(TWO), vec![0; 300_000]].concat(), 2),
        ("empty.jsonl.gz", gzip(b""), 0),
        ("frames.jsonl.zst", [zstd(ONE), zstd(b""), zstd(TWO)].concat(), 2),
        ("skippable.jsonl.zst", skippable, 2),
        ("liar.jsonl.gz", [ONE, TWO].concat(), 2),
        ("gz.jsonl", gzip(&[ONE, TWO].concat()), 2),
        ("zst.jsonl.gz", zstd(&[ONE, TWO].concat()), 2),
        ("short", b"\n".to_vec(), 0),
    ];
    for (name, bytes, count) in table {
        let path = put(folder.path(), name, bytes);
        assert_eq!(texts(read(&path)).len(), *count, "{name}");
        assert_eq!(decode(&path).1, bytes.len() as u64, "{name}: progress ends at the file's size");
    }
}

#[test]
fn damaged_files_are_refused_by_name_and_offset() {
    let folder = tempfile::tempdir().unwrap();
    let content = corpus(5000);
    let flip = |mut bytes: Vec<u8>, at: usize| {
        bytes[at] ^= 0x10;
        bytes
    };
    let (gz, zst) = (gzip(&content), zstd(&content));
    let (gz_end, zst_end) = (gz.len() - 1, zst.len() - 1);
    let garbage = b"garbage".to_vec();
    let mut table: Vec<(String, Vec<u8>, &str)> = vec![
        ("crc.gz".into(), flip(gz.clone(), gz_end - 5), "corrupt gzip"),
        ("size.gz".into(), flip(gz.clone(), gz_end), "corrupt gzip"),
        ("header.gz".into(), flip(gz.clone(), 2), "corrupt gzip"),
        ("garbage.gz".into(), [gz.clone(), garbage.clone()].concat(), "garbage after the last member"),
        ("padded.gz".into(), [gz.clone(), vec![0; 9], gz.clone()].concat(), "garbage after the last member"),
        ("second.gz".into(), [gz.clone(), gz[..20].to_vec()].concat(), "ends too early"),
        ("checksum.zst".into(), flip(zst.clone(), zst_end), "corrupt zstd"),
        ("middle.zst".into(), flip(zst.clone(), zst_end / 2), "corrupt zstd"),
        ("garbage.zst".into(), [zst.clone(), garbage].concat(), "corrupt zstd"),
        ("zero.gz".into(), Vec::new(), "empty"),
        ("zero.zst".into(), Vec::new(), "empty"),
    ];
    for cut in [5, 11, gz.len() / 2, gz.len() - 9, gz.len() - 8, gz.len() - 1] {
        table.push((format!("cut{cut}.gz"), gz[..cut].to_vec(), "ends too early"));
    }
    for cut in [5, 9, zst.len() / 2, zst.len() - 4, zst.len() - 1] {
        table.push((format!("cut{cut}.zst"), zst[..cut].to_vec(), "ends too early"));
    }
    for (name, bytes, what) in table {
        let path = put(folder.path(), &name, &bytes);
        let place = if bytes.is_empty() { "" } else { "byte " };
        assert_error(decode(&path).0, &name, what);
        let records = read(&path);
        let error = records.into_iter().rfind(|record| record.is_err()).expect("an error ends the documents");
        assert!(matches!(error, Err(Error::File { .. })), "{name}");
        assert_error(error, &name, place);
    }
}

#[test]
fn the_offset_is_close_to_the_damage() {
    let folder = tempfile::tempdir().unwrap();
    let member = gzip(&corpus(50_000));
    let mut bytes = [member.clone(), member.clone(), member.clone()].concat();
    let crc = 2 * member.len() - 8;
    bytes[crc] ^= 1;
    let message = decode(&put(folder.path(), "a.gz", bytes)).0.unwrap_err().to_string();
    let offset = message.split("byte ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    assert_eq!(offset.parse::<usize>().unwrap(), crc + 8, "{message}");
}

#[test]
fn a_zstd_window_of_two_gigabytes_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(31).unwrap();
    encoder.write_all(ONE).unwrap();
    let mut frame = encoder.finish().unwrap();
    // The compressor reserves what it promises, so a small frame states the large window by hand.
    assert_eq!(frame[4] & 0x20, 0, "a frame of unknown size states its window");
    frame[5] = (31 - 10) << 3;
    assert_eq!(texts(read(&put(folder.path(), "long.jsonl.zst", frame))), ["one"]);
}

#[test]
fn a_frame_that_needs_a_dictionary_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    // Magic, a descriptor with a one-byte dictionary id and a single segment, id 7, size 1, a last raw block.
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x21, 7, 1, 9, 0, 0, b'a'];
    assert_error(decode(&put(folder.path(), "a.zst", frame)).0, "a.zst", "corrupt zstd");
}

/// The largest resident set of this process so far, in bytes.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

#[test]
fn bombs_stream_in_bounded_memory() {
    let folder = tempfile::tempdir().unwrap();
    let options = || toedit::data::ReadOptions { max_document_bytes: 4 << 20, ..Default::default() };
    for (name, compression) in [("a.jsonl.gz", Compression::Gzip), ("a.jsonl.zst", Compression::Zstd)] {
        let mut encoder = Encoder::new(Vec::new(), compression).unwrap();
        let zeros = vec![0; 1 << 20];
        (0..512).for_each(|_| encoder.write_all(&zeros).unwrap());
        encoder.write_all(b"\n").unwrap();
        encoder.write_all(ONE).unwrap();
        let path = put(folder.path(), name, encoder.finish().unwrap());
        let before = peak_memory();
        let mut records = crate::read_with(&path, options()).into_iter();
        assert_error(records.next().unwrap(), &format!("{name}:1: "), "more than 4194304 bytes");
        assert_eq!(records.next().unwrap().unwrap().text(), Some("one"));
        assert!(peak_memory() - before < 256 << 20, "{name}: {} MiB", (peak_memory() - before) >> 20);
    }
}

#[test]
fn files_are_reproducible_and_carry_no_time() {
    let folder = tempfile::tempdir().unwrap();
    let content = corpus(1000);
    let written = |name: &str| {
        let mut sink = Sink::create(&folder.path().join(name), true).unwrap();
        sink.write(&content).unwrap();
        sink.finish().unwrap();
        std::fs::read(folder.path().join(name)).unwrap()
    };
    let gz = written("a.gz");
    assert_eq!(&gz[..8], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0], "no name, no time stamp");
    assert_eq!(gz, written("b.gz"));
    let zst = written("a.zst");
    assert_eq!(zst[4] & 4, 4, "the frame has a content checksum");
    assert_eq!(zst, written("b.zst"));
    for name in ["a.gz", "a.zst"] {
        assert_eq!(decode(&folder.path().join(name)).0.unwrap(), content);
    }
}

/// A disk with room for so many bytes.
struct Disk(usize);

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = bytes.len().min(self.0);
        self.0 -= count;
        if count == 0 { Err(std::io::ErrorKind::StorageFull.into()) } else { Ok(count) }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_an_error_at_the_latest_in_finish() {
    let content = corpus(2000);
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let mut whole = Encoder::new(Vec::new(), compression).unwrap();
        whole.write_all(&content).unwrap();
        let size = whole.finish().unwrap().len();
        for room in [0, 1, size / 2, size - 1, size] {
            let mut encoder = Encoder::new(Disk(room), compression).unwrap();
            let written = encoder.write_all(&content).and_then(|()| encoder.finish().map(drop));
            assert_eq!(written.is_ok(), room == size, "{compression:?}, room for {room} of {size} bytes");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn what_goes_in_comes_out(
        parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..2000), 1..4),
        gz in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let compression = if gz { Compression::Gzip } else { Compression::Zstd };
        let compressed = parts.iter().flat_map(|part| {
            let mut encoder = Encoder::new(Vec::new(), compression).unwrap();
            encoder.write_all(part).unwrap();
            encoder.finish().unwrap()
        });
        let path = put(folder.path(), "a", compressed.collect::<Vec<u8>>());
        prop_assert_eq!(decode(&path).0.unwrap(), parts.concat());
    }
}
