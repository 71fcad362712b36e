//! Event files for TensorBoard: scalars, framed as TFRecord.
//!
//! A record is its length (u64), a checksum of those 8 bytes, the data, a checksum of the data, all little endian. The
//! data is an `Event` of TensorFlow's `event.proto` in protobuf's wire format; the few fields that scalars need are
//! written by hand. The format is that of `tensorflow/core/lib/io/record_writer.h`.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::{Error, Result};

/// How names of event files begin; TensorBoard reads a folder's in the order of their names.
const PREFIX: &str = "events.out.tfevents.";
/// What an event file holds first.
const FILE_VERSION: &[u8] = b"brain.Event:2";
/// `SessionLog.START`.
const START: u64 = 1;
/// The polynomial of CRC-32C (Castagnoli), bits reversed.
const POLYNOMIAL: u32 = 0x82F6_3B78;
const TABLE: [u32; 256] = table();

/// An event file in the making. Each call leaves a whole record in the file, for TensorBoard to see at once.
pub struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Starts a new file in `folder`, which is made where it is missing. What earlier files in it hold of `first_step`
    /// and later steps is void from now on, as TensorBoard is told.
    ///
    /// # Errors
    /// The system's.
    pub fn create(folder: &Path, first_step: u64) -> Result<Self> {
        fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))?;
        let (path, file) = new_file(folder)?;
        let mut events = Self { path, file };
        events.write(&Event { step: 0, what: What::FileVersion })?;
        events.write(&Event { step: first_step, what: What::Start })?;
        Ok(events)
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds values of one step: tags (`train/loss`) with numbers, kept in f32.
    ///
    /// # Errors
    /// The system's.
    pub fn scalars(&mut self, step: u64, values: &[(&str, f64)]) -> Result<()> {
        self.write(&Event { step, what: What::Scalars(values) })
    }

    /// Makes durable what was written.
    ///
    /// # Errors
    /// The system's.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|error| Error::io(&self.path, error))
    }

    fn write(&mut self, event: &Event) -> Result<()> {
        let record = frame(&event.encode(now()));
        self.file.write_all(&record).map_err(|error| Error::io(&self.path, error))
    }
}

/// A file whose name comes after those that are there: their names hold the second of their making.
fn new_file(folder: &Path) -> Result<(PathBuf, File)> {
    let entries = fs::read_dir(folder).map_err(|error| Error::io(folder, error))?;
    let second = |name: &str| name.strip_prefix(PREFIX)?.split('.').next()?.parse::<u64>().ok();
    let latest = entries.flatten().filter_map(|entry| second(entry.file_name().to_str()?)).max();
    let mut second = latest.map_or(0, |second| second.saturating_add(1)).max(now() as u64);
    loop {
        let path = folder.join(format!("{PREFIX}{second:010}.toedit"));
        match File::options().append(true).create_new(true).open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists && second < u64::MAX => second += 1,
            Err(error) => return Err(Error::io(path, error)),
        }
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// `Event` of `event.proto`.
struct Event<'a> {
    step: u64,
    what: What<'a>,
}

enum What<'a> {
    FileVersion,
    /// The run begins at this event's step; whatever an earlier file has from there on is dropped.
    Start,
    Scalars(&'a [(&'a str, f64)]),
}

impl Event<'_> {
    fn encode(&self, wall_time: f64) -> Vec<u8> {
        let mut out = Vec::new();
        double(&mut out, 1, wall_time);
        integer(&mut out, 2, self.step);
        match self.what {
            What::FileVersion => bytes(&mut out, 3, FILE_VERSION),
            What::Start => {
                let mut session_log = Vec::new();
                integer(&mut session_log, 1, START);
                bytes(&mut out, 7, &session_log);
            }
            What::Scalars(values) => bytes(&mut out, 5, &summary(values)),
        }
        out
    }
}

/// `Summary` of `summary.proto`: values of a tag and a `simple_value`.
fn summary(values: &[(&str, f64)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (tag, number) in values {
        let mut value = Vec::new();
        bytes(&mut value, 1, tag.as_bytes());
        float(&mut value, 2, *number as f32);
        bytes(&mut out, 1, &value);
    }
    out
}

/// A field's number and wire type: 0 varint, 1 eight bytes, 2 counted bytes, 5 four bytes.
fn key(out: &mut Vec<u8>, field: u64, wire: u64) {
    varint(out, field << 3 | wire);
}

/// Seven bits a byte, the lowest first; the top bit says that more follow.
fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn integer(out: &mut Vec<u8>, field: u64, value: u64) {
    key(out, field, 0);
    varint(out, value);
}

fn double(out: &mut Vec<u8>, field: u64, value: f64) {
    key(out, field, 1);
    out.extend(value.to_le_bytes());
}

fn float(out: &mut Vec<u8>, field: u64, value: f32) {
    key(out, field, 5);
    out.extend(value.to_le_bytes());
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    key(out, field, 2);
    varint(out, value.len() as u64);
    out.extend(value);
}

/// A TFRecord.
fn frame(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut out = Vec::with_capacity(data.len() + 16);
    out.extend(length);
    out.extend(masked(crc32c(&length)).to_le_bytes());
    out.extend(data);
    out.extend(masked(crc32c(data)).to_le_bytes());
    out
}

/// As TFRecord keeps checksums: a checksum over data that holds checksums would be weak.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xA282_EAD8)
}

/// CRC-32C (RFC 3720).
///
/// ```
/// assert_eq!(toedit::train::tensorboard::crc32c(b"123456789"), 0xE306_9283);
/// ```
pub fn crc32c(data: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| crc >> 8 ^ TABLE[usize::from(crc as u8 ^ byte)];
    !data.iter().fold(!0, step)
}

/// The remainder of each byte.
const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut crc, mut bit) = (byte as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}
