//! A Parquet file row by row: row groups one after the other, a batch of rows at a time.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parquet::column::reader::{ColumnReader, get_column_reader};
use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::Length;
use parquet::file::serialized_reader::SerializedPageReader;

use super::guarded;
use super::leaf::Leaf;
use super::pages::Pages;
use super::row::Batch;
use super::table::Opened;
use crate::data::compress::Source;
use crate::data::digest::Digest;
use crate::data::document::{Document, Origin};
use crate::data::format::Format;
use crate::data::reader::Records;
use crate::data::refused::{Arrival, Mark, Refused};
use crate::data::shard::Shard;
use crate::data::shard::part::Line;
use crate::{Error, Result};

/// Rows read at a time, fewer where they are large. A document keeps the batch that it comes from.
const MAX_BATCH_ROWS: u64 = 256;
/// Bytes of a batch to aim at, after decompression.
const BATCH_BYTES: u64 = 1 << 20;

/// The rows of a file, or of a shard's part of it.
pub(in crate::data) struct Rows {
    opened: Opened,
    /// The row groups to come, with the number of their first row.
    next_group: usize,
    first_row: u64,
    /// The rows to read.
    range: Range<u64>,
    group: Option<Group>,
    batch: Option<Arc<Batch>>,
    /// The next row of the batch, and the number of its first row in the file.
    next: usize,
    batch_start: u64,
    source: Source,
    counted: u64,
    /// The row at hand, for its hash.
    raw: Vec<u8>,
}

/// A row group that is being read.
struct Group {
    readers: Vec<ColumnReader>,
    /// Rows that are still to come, and the number of the first of them.
    left: u64,
    row: u64,
    batch_rows: u64,
    /// Bytes in the file for each row.
    bytes: f64,
}

impl Rows {
    /// Opens `path`; the text lies in the column `field`.
    ///
    /// # Errors
    /// The system's; a file that is no table, or has no column to read a document from.
    pub fn open(path: &Path, field: &str, source: Source) -> Result<Self> {
        let opened = Opened::open(path, field)?;
        let range = rows_of(&opened.groups, source.shard);
        Ok(Self {
            opened,
            next_group: 0,
            first_row: 0,
            range,
            group: None,
            batch: None,
            next: 0,
            batch_start: 0,
            source,
            counted: 0,
            raw: Vec::new(),
        })
    }

    /// Goes to the next row; false after the last.
    fn go_on(&mut self) -> Result<bool> {
        self.next += 1;
        if self.batch.as_ref().is_none_or(|batch| self.next >= batch.rows) {
            self.batch = None;
            return self.fill();
        }
        Ok(true)
    }

    /// Reads the next batch; false where there is none.
    fn fill(&mut self) -> Result<bool> {
        let path = self.path().clone();
        loop {
            if let Some(group) = self.group.as_mut().filter(|group| group.left > 0) {
                let rows = group.left.min(group.batch_rows);
                let table = &self.opened.table;
                let leaves = guarded(&path, || group.read(rows as usize, table.schema.columns()))?;
                let batch = Batch { table: table.clone(), leaves, rows: rows as usize };
                (self.batch, self.next, self.batch_start) = (Some(Arc::new(batch)), 0, group.row - rows);
                let used = (group.bytes * rows as f64) as u64;
                self.count(used);
                return Ok(true);
            }
            let Some(meta) = self.opened.groups.get(self.next_group) else {
                return Ok(false);
            };
            // Not negative: the groups were checked.
            let rows = self.first_row..self.first_row + meta.num_rows() as u64;
            let wanted = rows.start.max(self.range.start)..rows.end.min(self.range.end);
            self.group = None;
            if wanted.start < wanted.end {
                let skip = wanted.start - rows.start;
                let mut group = guarded(&path, || Group::open(&self.opened, meta, skip))?;
                (group.left, group.row) = (wanted.end - wanted.start, wanted.start);
                self.group = Some(group);
            }
            self.first_row = rows.end;
            self.next_group += 1;
        }
    }

    fn count(&mut self, bytes: u64) {
        self.counted += bytes;
        self.source.progress.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The bytes of the file that hold the rows; `None` where that is all of it.
    fn part(&self) -> Option<Range<u64>> {
        self.source.shard?;
        let mut row = 0;
        let mut part: Option<Range<u64>> = None;
        for group in &self.opened.groups {
            let rows = row..row + group.num_rows() as u64;
            row = rows.end;
            if rows.start.max(self.range.start) >= rows.end.min(self.range.end) {
                continue;
            }
            for chunk in group.columns() {
                // Checked when the file was opened.
                let (start, size) = chunk.byte_range();
                let part = part.get_or_insert(start..start);
                *part = part.start.min(start)..part.end.max(start + size);
            }
        }
        Some(part.unwrap_or(0..0))
    }

    /// Leaves the digest of what was read, which takes reading it once more: columns are not read in order.
    fn finish(&mut self) -> Result<()> {
        let path = self.path().clone();
        let part = self.part();
        let wanted = part.clone().unwrap_or(0..u64::MAX);
        let digest = Digest::of_part(&path, wanted).map_err(|e| Error::io(&*path, e))?;
        let modified = self.opened.check_unchanged()?;
        self.source.digests.set(self.source.index, |input| {
            (input.digest, input.part, input.modified) = (Some(digest), part, modified);
        });
        if self.source.shard.is_none() {
            // What lies between and behind the pages.
            self.count(self.opened.chunks.len().saturating_sub(self.counted));
        }
        Ok(())
    }
}

impl Records for Rows {
    fn path(&self) -> &Arc<Path> {
        &self.opened.table.path
    }

    fn advance(&mut self, _: usize) -> Result<bool> {
        self.raw.clear();
        if !self.go_on()? {
            self.finish()?;
            return Ok(false);
        }
        if let Some(batch) = &self.batch {
            batch.append_raw(self.next, &mut self.raw);
        }
        Ok(true)
    }

    fn raw(&self) -> &[u8] {
        &self.raw
    }

    fn offset(&self) -> u64 {
        0
    }

    fn arrival(&mut self, mark: Mark, limit: usize) -> Arrival {
        let batch = self.batch.as_ref().expect("there is a row at hand");
        let (source, row) = (self.path().clone(), self.next);
        let line = Line::from(self.batch_start + row as u64 + 1);
        match batch.document(row, limit) {
            Ok((content, row)) => {
                let origin = Origin::Row(Box::new(row));
                Arrival::Document(Document { source, line, mark, content, origin })
            }
            Err(reason) => {
                let row = Box::new(batch.bare(row));
                let (raw, format, is_cut) = (row.object().into_bytes(), Format::JsonLines, false);
                let row = Some(row);
                Arrival::Refused(Refused { source, line, mark, reason, raw, is_cut, format, row })
            }
        }
    }
}

impl Group {
    /// Opens the columns of a row group, behind the first `skip` rows.
    fn open(opened: &Opened, meta: &RowGroupMetaData, skip: u64) -> ParquetResult<Self> {
        let mut readers = Vec::with_capacity(meta.num_columns());
        for chunk in meta.columns() {
            let (start, size) = chunk.byte_range();
            opened.chunks.check_pages(start..start.saturating_add(size), chunk.compression())?;
            let reader =
                SerializedPageReader::new(opened.chunks.clone(), chunk, meta.num_rows() as usize, None)?;
            let pages = Pages { reader, column: chunk.column_descr_ptr() };
            let mut reader = get_column_reader(chunk.column_descr_ptr(), Box::new(pages));
            if skip > 0 {
                skip_rows(&mut reader, skip as usize)?;
            }
            readers.push(reader);
        }
        let rows = (meta.num_rows() as u64).max(1);
        let sum = |size: fn(&_) -> i64| {
            meta.columns().iter().map(|chunk| size(chunk).max(0) as u64).fold(0, u64::saturating_add)
        };
        let (compressed, plain) = (
            sum(parquet::file::metadata::ColumnChunkMetaData::compressed_size),
            sum(parquet::file::metadata::ColumnChunkMetaData::uncompressed_size),
        );
        let batch_rows = (BATCH_BYTES / (plain / rows).max(1)).clamp(1, MAX_BATCH_ROWS);
        Ok(Self { readers, left: 0, row: 0, batch_rows, bytes: compressed as f64 / rows as f64 })
    }

    fn read(
        &mut self,
        rows: usize,
        columns: &[parquet::schema::types::ColumnDescPtr],
    ) -> ParquetResult<Vec<Leaf>> {
        let leaves = self.readers.iter_mut().zip(columns);
        let leaves = leaves.map(|(reader, column)| Leaf::read(reader, column, rows)).collect();
        self.left -= rows as u64;
        self.row += rows as u64;
        leaves
    }
}

fn skip_rows(reader: &mut ColumnReader, rows: usize) -> ParquetResult<()> {
    match reader {
        ColumnReader::BoolColumnReader(reader) => reader.skip_records(rows),
        ColumnReader::Int32ColumnReader(reader) => reader.skip_records(rows),
        ColumnReader::Int64ColumnReader(reader) => reader.skip_records(rows),
        ColumnReader::Int96ColumnReader(reader) => reader.skip_records(rows),
        ColumnReader::FloatColumnReader(reader) => reader.skip_records(rows),
        ColumnReader::DoubleColumnReader(reader) => reader.skip_records(rows),
        ColumnReader::ByteArrayColumnReader(reader) => reader.skip_records(rows),
        ColumnReader::FixedLenByteArrayColumnReader(reader) => reader.skip_records(rows),
    }
    .map(drop)
}

/// The rows of a shard: its share of them, moved to the next row group's beginning where there are enough groups.
fn rows_of(groups: &[RowGroupMetaData], shard: Option<Shard>) -> Range<u64> {
    let total: u64 = groups.iter().map(|group| group.num_rows() as u64).sum();
    let Some(shard) = shard else { return 0..total };
    let share = shard.range(total);
    let filled = groups.iter().filter(|group| group.num_rows() > 0).count();
    if filled < shard.count() as usize {
        return share;
    }
    let snap = |row: u64| {
        let mut ends = groups.iter().scan(0, |end, group| {
            *end += group.num_rows() as u64;
            Some(*end)
        });
        if row == 0 { 0 } else { ends.find(|&end| end >= row).unwrap_or(total) }
    };
    snap(share.start)..snap(share.end)
}
