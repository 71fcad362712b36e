//! Compressed streams: recognised by content when read, chosen by name when written.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Chain, Cursor, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::GzBuilder;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use zstd::stream::read::Decoder as ZstdDecoder;
use zstd::stream::write::Encoder as ZstdEncoder;

use super::digest::{Changed, HashedFile, InputDigests};
use super::format::Compression;
use super::source::is_dash;
use crate::{Error, Result};

/// Large enough that system calls vanish from the profile, small enough to stay in the second-level cache.
const BUFFER: usize = 256 << 10;

/// A raw file after its first bytes were looked at.
type Raw = Counted<Chain<Cursor<Vec<u8>>, BufReader<HashedFile>>>;

/// A decompressed stream, a [`BufRead`]. Turn its `io::Error`s into the crate's with [`Reader::error`].
pub struct Reader {
    path: Arc<Path>,
    decoder: Decoder,
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
        Self::open_input(path, progress, InputDigests::default(), 0)
    }

    /// [`Reader::open`] that leaves the file's digest under `index` once all of it was read.
    pub(super) fn open_input(
        path: &Path,
        progress: Arc<AtomicU64>,
        digests: InputDigests,
        index: usize,
    ) -> Result<Self> {
        let opened = if is_dash(path) { standard_input() } else { File::open(path) };
        let hashed = opened.and_then(|file| HashedFile::new(file, is_dash(path), digests, index));
        let mut file = hashed.map_err(|e| Error::io(path, e))?;
        let mut head = Vec::with_capacity(4);
        file.by_ref().take(4).read_to_end(&mut head).map_err(|e| Error::io(path, e))?;
        if head.is_empty() && Compression::from_name(path) != Compression::None {
            return Err(Error::file(
                path,
                "empty, but its name says that it is compressed: it was probably cut",
            ));
        }
        let compression = Compression::from_magic(&head);
        let inner = Cursor::new(head).chain(BufReader::with_capacity(BUFFER, file));
        let raw = Counted { inner, offset: 0, progress };
        let decoder = match compression {
            Compression::None => Decoder::Plain(raw),
            Compression::Gzip => {
                let members = BufReader::with_capacity(BUFFER, GzipMembers::new(raw));
                Decoder::Gzip(Box::new(members))
            }
            Compression::Zstd => {
                let zstd = zstd_decoder(raw).map_err(|e| Error::io(path, e))?;
                Decoder::Zstd(BufReader::with_capacity(BUFFER, zstd))
            }
        };
        Ok(Self { path: path.into(), decoder })
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

    fn inner(&mut self) -> &mut dyn BufRead {
        match &mut self.decoder {
            Decoder::Plain(raw) => raw,
            Decoder::Gzip(gzip) => gzip,
            Decoder::Zstd(zstd) => zstd,
        }
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner().read(buffer)
    }
}

impl BufRead for Reader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner().fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.inner().consume(amount);
    }
}

/// Standard input without the buffer of the standard library, which would only copy.
fn standard_input() -> io::Result<File> {
    io::stdin().as_fd().try_clone_to_owned().map(File::from)
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
