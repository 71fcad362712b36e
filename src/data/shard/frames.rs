//! Where the frames of a zstd file begin, found by their headers alone (RFC 8878, section 3).

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::Shard;

/// First bytes of a frame that holds data.
const MAGIC: u32 = 0xfd2f_b528;
/// First bytes of the sixteen kinds of frames to be skipped, the last four bits left out.
const SKIPPABLE: u32 = 0x0184_d2a5;
/// Magic number, descriptor, window, dictionary and content size at their longest.
const HEADER: usize = 18;

/// A shard's frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::data) struct Share {
    /// Their bytes in the file.
    pub bytes: Range<u64>,
    /// Where the last frame before them begins that holds something; `bytes.start` where there is none.
    pub previous: u64,
}

/// The frames of `file`, `length` bytes long, that are `shard`'s: those that begin in its share of the bytes.
/// `None` where the file has fewer frames with data than there are shards.
///
/// # Errors
/// The system's; [`io::ErrorKind::UnexpectedEof`] where a frame is cut, [`io::ErrorKind::InvalidData`] where something else
/// than a frame follows one. Both say where.
pub(in crate::data) fn share(file: &File, length: u64, shard: Shard) -> io::Result<Option<Share>> {
    let wanted = shard.range(length);
    let (mut start, mut end, mut previous) = (None, None, None);
    let (mut at, mut count) = (0, 0);
    while at < length {
        if at >= wanted.start {
            start.get_or_insert(at);
        }
        if at >= wanted.end {
            end.get_or_insert(at);
            if count >= u64::from(shard.count()) {
                break;
            }
        }
        let frame = Frame::read(file, at, length)?;
        if start.is_none() && frame.holds_bytes {
            previous = Some(at);
        }
        count += u64::from(frame.is_data);
        at = frame.end;
    }
    if count < u64::from(shard.count()) {
        return Ok(None);
    }
    let start = start.unwrap_or(length);
    Ok(Some(Share { bytes: start..end.unwrap_or(length).max(start), previous: previous.unwrap_or(start) }))
}

/// One frame.
struct Frame {
    /// One past its last byte.
    end: u64,
    /// Whether it is one of data.
    is_data: bool,
    /// Whether its data may be more than nothing.
    holds_bytes: bool,
}

impl Frame {
    fn read(file: &File, start: u64, length: u64) -> io::Result<Self> {
        let mut header = [0; HEADER];
        // A frame may be shorter than its longest header.
        let known = HEADER.min(usize::try_from(length - start).unwrap_or(HEADER));
        read_at(file, &mut header[..known], start)?;
        if known < 5 {
            return Err(cut(length));
        }
        let [m0, m1, m2, m3, descriptor, size @ ..] = header;
        let magic = u32::from_le_bytes([m0, m1, m2, m3]);
        if magic >> 4 == SKIPPABLE {
            let size = u32::from_le_bytes([descriptor, size[0], size[1], size[2]]);
            let end = within(start, 8 + u64::from(size), length)?;
            return Ok(Self { end, is_data: false, holds_bytes: false });
        }
        if magic != MAGIC {
            let reason = format!("no zstd frame at byte {start} of the compressed file");
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        Self::blocks(file, within(start, header_length(descriptor), length)?, length, descriptor & 4 != 0)
    }

    /// The blocks from `at` on, and the checksum.
    fn blocks(file: &File, mut at: u64, length: u64, checksum: bool) -> io::Result<Self> {
        let mut holds_bytes = false;
        loop {
            let mut header = [0; 4];
            let body = within(at, 3, length)?;
            read_at(file, &mut header[..3], at)?;
            let header = u32::from_le_bytes(header);
            let (last, kind, size) = (header & 1 == 1, header >> 1 & 3, header >> 3);
            holds_bytes |= size > 0;
            // A block of one repeated byte holds just that, whatever its size.
            at = within(body, if kind == 1 { 1 } else { u64::from(size) }, length)?;
            if last {
                let end = within(at, if checksum { 4 } else { 0 }, length)?;
                return Ok(Self { end, is_data: true, holds_bytes });
            }
        }
    }
}

/// Bytes before a frame's first block.
fn header_length(descriptor: u8) -> u64 {
    let single_segment = descriptor >> 5 & 1 == 1;
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let content_size = match descriptor >> 6 {
        0 => u64::from(single_segment),
        flag => 1 << flag,
    };
    5 + u64::from(!single_segment) + dictionary + content_size
}

/// `size` bytes on from `at`, which must not lie past the end of the file.
fn within(at: u64, size: u64, length: u64) -> io::Result<u64> {
    at.checked_add(size).filter(|&end| end <= length).ok_or_else(|| cut(length))
}

fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<()> {
    file.read_exact_at(buffer, at).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => cut(at),
        _ => error,
    })
}

fn cut(at: u64) -> io::Error {
    let reason = format!("zstd data ends too early, at byte {at} of the compressed file");
    io::Error::new(io::ErrorKind::UnexpectedEof, reason)
}
