//! Compressed streams: recognised by content when read, chosen by name when written.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::GzBuilder;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use zstd::stream::read::Decoder as ZstdDecoder;
use zstd::stream::write::Encoder as ZstdEncoder;

use super::digest::{Changed, HashedFile, InputDigests, Stretch};
use super::format::Compression;
use super::shard::Shard;
use super::shard::frames::Share;
use super::shard::part::{Before, Part, Seam};
use super::source::{is_dash, open};
use crate::{Error, Result};

/// Large enough that system calls vanish from the profile, small enough to stay in the second-level cache.
const BUFFER: usize = 256 << 10;

/// A raw file.
type Raw = Counted<BufReader<HashedFile>>;

/// What is read of a file beside its path, and where is told how far that is.
#[derive(Default)]
pub(super) struct Source {
    /// Counts bytes of the file as they are used.
    pub progress: Arc<AtomicU64>,
    /// Gets the digest of what was read, under `index`.
    pub digests: InputDigests,
    pub index: usize,
    /// The part that is read; all of it where there is none.
    pub shard: Option<Shard>,
}

/// A decompressed stream, a [`BufRead`]. Turn its `io::Error`s into the crate's with [`Reader::error`].
pub struct Reader {
    path: Arc<Path>,
    decoder: Decoder,
    bounds: Bounds,
    /// What a shard's part leaves out at the beginning of the file.
    before: Option<Arc<Before>>,
}

/// Which records of a stream are read.
enum Bounds {
    /// All that there are.
    None,
    /// Those of one shard, dealt out in turn.
    Dealt(Shard),
    /// Those that begin before this byte of a plain file.
    Byte(u64),
    /// Those that begin in the frames at hand; the file goes on behind them.
    Frames { file: File, rest: Range<u64>, progress: Arc<AtomicU64> },
    /// None any more: the last one goes on in the frames at hand.
    Spilled,
}

enum Decoder {
    Plain(Raw),
    Gzip(Box<BufReader<GzipMembers>>),
    Zstd(BufReader<ZstdDecoder<'static, Raw>>),
}

impl Reader {
    /// Opens `path` (`-` is standard input) and recognises its compression by its first bytes: every member
    /// of a gzip file and every frame of a zstd file is read, windows up to 2 GiB (`--long=31`) are accepted,
    /// zeros after the last gzip member are padding. `progress` counts the file's own, compressed, bytes as
    /// they are used.
    ///
    /// A gzip file cut exactly where a member ends cannot be told from a complete one.
    ///
    /// # Errors
    /// The file cannot be opened, or is empty where its name promises compressed data.
    pub fn open(path: &Path, progress: Arc<AtomicU64>) -> Result<Self> {
        let file = open(path).map_err(|error| Error::io(path, error))?;
        Self::open_input(path, file, Source { progress, ..Source::default() })
    }

    /// [`Reader::open`] of an open file, at the first record of the source's shard, whose last one may end far behind its part of the file.
    ///
    /// # Errors
    /// As [`Reader::open`]; a zstd file's frames cannot be found.
    pub(super) fn open_input(path: &Path, mut file: File, source: Source) -> Result<Self> {
        let failed = |error| Error::io(path, error);
        let mut head = Vec::with_capacity(4);
        (&mut file).take(4).read_to_end(&mut head).map_err(failed)?;
        if head.is_empty() && Compression::from_name(path) != Compression::None {
            return Err(Error::file(
                path,
                "empty, but its name says that it is compressed: it was probably cut",
            ));
        }
        let compression = Compression::from_magic(&head);
        let shard = source.shard;
        let part = Part::plan(&file, is_dash(path), compression, shard).map_err(|error| {
            match error.raw_os_error() {
                Some(_) => Error::io(path, error),
                None => Error::file(path, error),
            }
        })?;
        match part {
            Part::Whole | Part::Dealt => Self::open_whole(path, file, head, source).map_err(failed),
            Part::Bytes(range) => Self::open_bytes(path, file, range, source).map_err(failed),
            Part::Frames(share) => Self::open_frames(path, file, share, source),
        }
    }

    /// All of a file, of which `head` has been read.
    fn open_whole(path: &Path, file: File, head: Vec<u8>, source: Source) -> io::Result<Self> {
        let compression = Compression::from_magic(&head);
        let file = HashedFile::new(file, is_dash(path), head, source.digests, source.index)?;
        let decoder = Decoder::new(Counted::new(file, 0, source.progress), compression)?;
        let bounds = source.shard.map_or(Bounds::None, Bounds::Dealt);
        Ok(Self { path: path.into(), decoder, bounds, before: None })
    }

    /// A plain file at the first line that begins in `part`.
    fn open_bytes(path: &Path, file: File, part: Range<u64>, source: Source) -> io::Result<Self> {
        // With the byte before it: a line's end there means that a line begins here.
        let (start, end) = (part.start.saturating_sub(1), part.end);
        let is_first = part.start == 0;
        let stretch = Stretch { part, read: start..u64::MAX };
        let file = HashedFile::part(file, stretch, source.digests, source.index)?;
        let mut raw = Counted::new(file, start, source.progress);
        let mut before = None;
        if !is_first {
            raw.by_ref().take(end - start).skip_until(b'\n')?;
            before = Some(Arc::new(Before::new(path.into(), Compression::None, raw.offset, 0)));
        }
        Ok(Self { path: path.into(), decoder: Decoder::Plain(raw), bounds: Bounds::Byte(end), before })
    }

    /// A zstd file at the first line that begins in a shard's frames.
    fn open_frames(path: &Path, file: File, share: Share, source: Source) -> Result<Self> {
        let failed = |error| Error::io(path, error);
        let seam = Seam::before(&file, &share).map_err(|e| Error::file(path, corrupt(&e, &share)))?;
        let Source { progress, digests, index, .. } = source;
        let (range, length) = (share.bytes, file.metadata().map_err(failed)?.len());
        let tail = file.try_clone().map_err(failed)?;
        let stretch = Stretch { part: range.clone(), read: range.clone() };
        let file = HashedFile::part(file, stretch, digests, index).map_err(failed)?;
        let decoder = Decoder::frames(file, range.clone(), progress.clone()).map_err(failed)?;
        let bounds = Bounds::Frames { file: tail, rest: range.end..length, progress };
        let mut reader = Self { path: path.into(), decoder, bounds, before: None };
        let skipped = match seam {
            Seam::Inside => reader.decoder.inner().skip_until(b'\n').map_err(|e| reader.error(e))?,
            Seam::Beginning | Seam::Newline => 0,
        };
        if seam != Seam::Beginning {
            let before = Before::new(path.into(), Compression::Zstd, range.start, skipped as u64);
            reader.before = Some(Arc::new(before));
        }
        Ok(reader)
    }

    /// Whether a record begins here, at the end of another one or at the very beginning, that is to be read.
    ///
    /// # Errors
    /// As [`BufRead::fill_buf`].
    pub(super) fn begins_record(&mut self) -> io::Result<bool> {
        match self.bounds {
            Bounds::Byte(end) if self.offset() >= end => Ok(false),
            Bounds::Spilled => Ok(false),
            _ => Ok(!self.decoder.inner().fill_buf()?.is_empty()),
        }
    }

    /// Whether record `number`, from 0, of those that begin is to be read.
    pub(super) fn owns(&self, number: u64) -> bool {
        match self.bounds {
            Bounds::Dealt(shard) => shard.owns(number),
            _ => true,
        }
    }

    /// What lies before the first record; none where that is nothing.
    pub(super) fn before(&self) -> Option<&Arc<Before>> {
        self.before.as_ref()
    }

    /// The file that is read.
    pub fn path(&self) -> &Arc<Path> {
        &self.path
    }

    /// The crate's error for a failure of this stream: names the file and, for compressed data that is cut or
    /// corrupt, how far into the compressed file decoding came.
    pub fn error(&self, error: io::Error) -> Error {
        let kind = match &self.decoder {
            _ if error.raw_os_error().is_some() || is_change(&error) => return Error::io(&*self.path, error),
            Decoder::Plain(_) => return Error::io(&*self.path, error),
            Decoder::Gzip(_) => "gzip",
            Decoder::Zstd(_) => "zstd",
        };
        let offset = self.offset();
        if error.kind() == io::ErrorKind::UnexpectedEof {
            let reason = format!("{kind} data ends too early, at byte {offset} of the compressed file");
            return Error::file(&self.path, reason);
        }
        Error::file(
            &self.path,
            format!("corrupt {kind} data near byte {offset} of the compressed file: {error}"),
        )
    }

    /// Bytes of the file itself that were used so far.
    fn offset(&self) -> u64 {
        match &self.decoder {
            Decoder::Plain(raw) => raw.offset,
            Decoder::Gzip(gzip) => gzip.get_ref().offset(),
            Decoder::Zstd(zstd) => zstd.get_ref().get_ref().offset,
        }
    }

    /// Goes on behind a shard's last frame.
    fn spill(&mut self) -> io::Result<()> {
        if let Bounds::Frames { file, rest, progress } = &self.bounds {
            let file = HashedFile::rest(file.try_clone()?, rest.clone())?;
            self.decoder = Decoder::frames(file, rest.clone(), progress.clone())?;
            self.bounds = Bounds::Spilled;
        }
        Ok(())
    }
}

impl Decoder {
    fn new(raw: Raw, compression: Compression) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::Plain(raw),
            Compression::Gzip => {
                Self::Gzip(Box::new(BufReader::with_capacity(BUFFER, GzipMembers::new(raw))))
            }
            Compression::Zstd => Self::Zstd(BufReader::with_capacity(BUFFER, zstd_decoder(raw)?)),
        })
    }

    /// The frames in these bytes of a zstd file.
    fn frames(file: HashedFile, range: Range<u64>, progress: Arc<AtomicU64>) -> io::Result<Self> {
        // To the decoder no frame at all is one that was cut.
        let compression = if range.is_empty() { Compression::None } else { Compression::Zstd };
        Self::new(Counted::new(file, range.start, progress), compression)
    }

    fn inner(&mut self) -> &mut dyn BufRead {
        match self {
            Self::Plain(raw) => raw,
            Self::Gzip(gzip) => gzip,
            Self::Zstd(zstd) => zstd,
        }
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Reader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if matches!(self.bounds, Bounds::Frames { .. }) && self.decoder.inner().fill_buf()?.is_empty() {
            self.spill()?;
        }
        self.decoder.inner().fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.decoder.inner().consume(amount);
    }
}

/// Says that the data before a shard's frames cannot be decoded.
fn corrupt(error: &io::Error, share: &Share) -> String {
    format!("corrupt zstd data before byte {} of the compressed file: {error}", share.bytes.start)
}

fn is_change(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Changed>())
}

fn zstd_decoder(raw: Raw) -> io::Result<ZstdDecoder<'static, Raw>> {
    let mut decoder = ZstdDecoder::with_buffer(raw)?;
    decoder.window_log_max(31)?;
    Ok(decoder)
}

/// Counts the bytes that are consumed: its own count for messages, the shared one for progress.
struct Counted<R> {
    inner: R,
    offset: u64,
    progress: Arc<AtomicU64>,
}

impl Raw {
    /// `file`, which is read from byte `offset` on.
    fn new(file: HashedFile, offset: u64, progress: Arc<AtomicU64>) -> Self {
        Self { inner: BufReader::with_capacity(BUFFER, file), offset, progress }
    }
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.inner.consume(amount);
        self.offset += amount as u64;
        self.progress.fetch_add(amount as u64, Ordering::Relaxed);
    }
}

/// All members of a gzip file, one after the other. `MultiGzDecoder` would do, were zero padding no error to
/// it.
struct GzipMembers {
    /// Absent only after the last member.
    member: Option<GzDecoder<Raw>>,
    end: u64,
}

impl GzipMembers {
    fn new(raw: Raw) -> Self {
        Self { member: Some(GzDecoder::new(raw)), end: 0 }
    }

    fn offset(&self) -> u64 {
        self.member.as_ref().map_or(self.end, |member| member.get_ref().offset)
    }

    /// What follows a finished member: another one, or padding up to the end of the file.
    fn follow(&mut self, mut raw: Raw) -> io::Result<()> {
        let padded = skip_zeros(&mut raw)?;
        self.end = raw.offset;
        match raw.fill_buf()?.first() {
            None => Ok(()),
            Some(0x1f) if !padded => {
                self.member = Some(GzDecoder::new(raw));
                Ok(())
            }
            Some(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "garbage after the last member")),
        }
    }
}

impl Read for GzipMembers {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let count = member.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            if let Some(finished) = self.member.take() {
                self.follow(finished.into_inner())?;
            }
        }
        Ok(0)
    }
}

/// Skips zero bytes; true if there were any.
fn skip_zeros(raw: &mut impl BufRead) -> io::Result<bool> {
    let mut skipped = false;
    loop {
        let buffer = raw.fill_buf()?;
        let zeros = buffer.iter().take_while(|&&byte| byte == 0).count();
        let done = zeros < buffer.len() || buffer.is_empty();
        raw.consume(zeros);
        skipped |= zeros > 0;
        if done {
            return Ok(skipped);
        }
    }
}

/// A compressing writer. Nothing is certain to be written before [`Encoder::finish`] has returned.
pub enum Encoder<W: Write> {
    /// Bytes as they come.
    Plain(BufWriter<W>),
    /// Gzip without a time stamp, so that equal content gives equal files.
    Gzip(GzEncoder<BufWriter<W>>),
    /// Zstandard with a content checksum: without one a flipped bit can decode without an error.
    Zstd(ZstdEncoder<'static, BufWriter<W>>),
}

impl<W: Write> Encoder<W> {
    /// Compresses into `writer`.
    ///
    /// # Errors
    /// The compressor cannot be set up.
    pub fn new(writer: W, compression: Compression) -> io::Result<Self> {
        let writer = BufWriter::with_capacity(BUFFER, writer);
        Ok(match compression {
            Compression::None => Self::Plain(writer),
            Compression::Gzip => {
                Self::Gzip(GzBuilder::new().mtime(0).write(writer, flate2::Compression::default()))
            }
            Compression::Zstd => {
                let mut encoder = ZstdEncoder::new(writer, zstd::DEFAULT_COMPRESSION_LEVEL)?;
                encoder.include_checksum(true)?;
                Self::Zstd(encoder)
            }
        })
    }

    /// Ends the stream and flushes every layer; the writer comes back with all bytes in it.
    ///
    /// # Errors
    /// Any byte could not be written, a full disk at the last flush included.
    pub fn finish(self) -> io::Result<W> {
        let buffered = match self {
            Self::Plain(writer) => writer,
            Self::Gzip(encoder) => encoder.finish()?,
            Self::Zstd(encoder) => encoder.finish()?,
        };
        let mut writer = buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
        writer.flush()?;
        Ok(writer)
    }

    fn inner(&mut self) -> &mut dyn Write {
        match self {
            Self::Plain(writer) => writer,
            Self::Gzip(encoder) => encoder,
            Self::Zstd(encoder) => encoder,
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner().flush()
    }
}
