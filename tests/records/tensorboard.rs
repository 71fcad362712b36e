//! Event files, read back by hand and by TensorBoard itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;
use toedit::train::metrics::{Evaluation, Metrics, StepMetrics};
use toedit::train::tensorboard::{EventFile, crc32c};

use crate::common::root;

/// RFC 3720, appendix B.4, and the check value of the catalogue of CRCs.
#[test]
fn checksums_are_the_published_ones() {
    assert_eq!(crc32c(b""), 0);
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    assert_eq!(crc32c(&std::array::from_fn::<u8, 32, _>(|i| i as u8)), 0x46dd_794e);
    assert_eq!(crc32c(&std::array::from_fn::<u8, 32, _>(|i| 31 - i as u8)), 0x113f_db5c);
}

/// A field of a protobuf message.
#[derive(Debug, PartialEq)]
enum Field<'a> {
    Varint(u64),
    Eight([u8; 8]),
    Bytes(&'a [u8]),
    Four([u8; 4]),
}

fn varint(data: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = data[0];
        *data = &data[1..];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

/// The fields of a message with their numbers.
fn fields(mut data: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut fields = Vec::new();
    while !data.is_empty() {
        let key = varint(&mut data);
        let mut take = |count: usize| {
            let (taken, rest) = data.split_at(count);
            data = rest;
            taken
        };
        let field = match key & 7 {
            1 => Field::Eight(take(8).try_into().unwrap()),
            5 => Field::Four(take(4).try_into().unwrap()),
            0 => Field::Varint(varint(&mut data)),
            2 => {
                let length = varint(&mut data) as usize;
                let (taken, rest) = data.split_at(length);
                data = rest;
                Field::Bytes(taken)
            }
            other => panic!("wire type {other}"),
        };
        fields.push((key >> 3, field));
    }
    fields
}

/// The records of a file, their checksums checked: the mask is that of TFRecord.
fn records(file: &[u8]) -> Vec<&[u8]> {
    let (mut rest, mut records) = (file, Vec::new());
    let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
    let masked = |data: &[u8]| {
        let crc = crc32c(data);
        crc.rotate_right(15).wrapping_add(0xa282_ead8)
    };
    while !rest.is_empty() {
        assert_eq!(word(&rest[8..12]), masked(&rest[..8]));
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        let data = &rest[12..][..length];
        assert_eq!(word(&rest[12 + length..][..4]), masked(data));
        records.push(data);
        rest = &rest[16 + length..];
    }
    records
}

fn event_files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn records_hold_what_was_written() {
    let folder = TempDir::new().unwrap();
    let log = folder.path().join("made/here");
    let mut events = EventFile::create(&log, 0).unwrap();
    let values = [("train/loss", 2.75), ("a tag with ünicode", -1e-30)];
    for step in [1, 300, u64::from(u32::MAX) + 1] {
        events.scalars(step, &values).unwrap();
        events.sync().unwrap();
    }
    let file = fs::read(events.path()).unwrap();
    let records = records(&file);
    assert_eq!(records.len(), 5);
    assert!(records[0].ends_with(b"\x1a\x0dbrain.Event:2"), "{:?}", records[0]);
    assert_eq!(fields(records[1])[2], (7, Field::Bytes(&[8, 1])), "a session's start");
    for (record, step) in records[2..].iter().zip([1, 300, 1 << 32]) {
        let event = fields(record);
        assert!(matches!(event[0], (1, Field::Eight(time)) if f64::from_le_bytes(time) > 1.7e9));
        assert_eq!(event[1], (2, Field::Varint(step)));
        let (5, Field::Bytes(summary)) = event[2] else { panic!("{event:?}") };
        for ((number, value), (tag, scalar)) in fields(summary).into_iter().zip(values) {
            let (1, Field::Bytes(value)) = (number, value) else { panic!("{number}") };
            let expected =
                [(1, Field::Bytes(tag.as_bytes())), (2, Field::Four((scalar as f32).to_le_bytes()))];
            assert_eq!(fields(value), expected);
        }
    }
}

#[test]
fn files_sort_in_the_order_of_their_making() {
    let folder = TempDir::new().unwrap();
    let made: Vec<_> =
        (0..5).map(|step| EventFile::create(folder.path(), step).unwrap().path().to_owned()).collect();
    assert_eq!(event_files(folder.path()), made);
    for path in made {
        assert!(path.file_name().unwrap().to_str().unwrap().starts_with("events.out.tfevents."));
    }
}

/// A run of six steps, killed and resumed from step 4.
fn run(folder: &Path, log: &Path) {
    let step = |step: u64, loss: f64| StepMetrics {
        step,
        loss,
        learning_rate: 0.5,
        gradient_norm: 2.0,
        tokens_per_second: 1000.0,
    };
    let mut metrics = Metrics::create(folder, Some(log)).unwrap();
    (1..=6).for_each(|number| metrics.step(&step(number, 8.0)).unwrap());
    metrics.evaluation(&Evaluation { step: 6, loss: 1.0, perplexity: 2.0, tokens: 3 }).unwrap();
    let mut metrics = Metrics::resume(folder, Some(log), 4).unwrap();
    (5..=6).for_each(|number| metrics.step(&step(number, 4.0)).unwrap());
    metrics.evaluation(&Evaluation { step: 6, loss: 1.5, perplexity: 2.5, tokens: 3 }).unwrap();
}

/// `TOEDIT_TENSORBOARD_PYTHON` names a Python that has the package `tensorboard`.
#[test]
fn tensorboard_reads_a_resumed_run() {
    let Some(python) = std::env::var_os("TOEDIT_TENSORBOARD_PYTHON") else {
        eprintln!("TOEDIT_TENSORBOARD_PYTHON is not set: nothing tested");
        return;
    };
    let folder = TempDir::new().unwrap();
    let log = folder.path().join("log");
    run(folder.path(), &log);
    let script = root().join("tests/records/read_events.py");
    let output = Command::new(python).arg(script).arg(&log).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let steps = |values: [f64; 6]| -> Value {
        (1..=6).zip(values).map(|(step, value)| json!([step, value])).collect()
    };
    let expected = json!({
        "train/loss": steps([8.0, 8.0, 8.0, 8.0, 4.0, 4.0]),
        "train/learning_rate": steps([0.5; 6]),
        "train/gradient_norm": steps([2.0; 6]),
        "train/tokens_per_second": steps([1000.0; 6]),
        "eval/loss": [[6, 1.5]],
        "eval/perplexity": [[6, 2.5]],
    });
    assert_eq!(found, expected);
}
