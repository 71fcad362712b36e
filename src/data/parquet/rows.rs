//! A Parquet file row by row: row groups one after the other, a batch of rows at a time.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parquet::column::reader::{ColumnReader, get_column_reader};
use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::Length;
use parquet::file::serialized_reader::SerializedPageReader;

use super::guarded;
use super::leaf::Leaf;
use super::row::{Batch, Row};
use super::table::Opened;
use crate::Result;
use crate::data::document::Content;
use crate::data::shard::Shard;

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
    progress: Arc<AtomicU64>,
    counted: u64,
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
    /// Opens `path`; the text lies in the column `field`. `progress` counts the file's bytes as they are used.
    pub fn open(path: &Path, field: &str, shard: Option<Shard>, progress: Arc<AtomicU64>) -> Result<Self> {
        let opened = Opened::open(path, field)?;
        let range = rows_of(&opened.groups, shard);
        Ok(Self {
            opened,
            next_group: 0,
            first_row: 0,
            range,
            group: None,
            batch: None,
            next: 0,
            batch_start: 0,
            progress,
            counted: 0,
        })
    }

    /// The file.
    pub fn path(&self) -> &Arc<Path> {
        &self.opened.table.path
    }

    /// Goes to the next row and gives its number in the file, from 0; `None` after the last.
    pub fn advance(&mut self) -> Result<Option<u64>> {
        self.next += 1;
        if self.batch.as_ref().is_none_or(|batch| self.next >= batch.rows) {
            self.batch = None;
            if !self.fill()? {
                return Ok(None);
            }
        }
        Ok(Some(self.batch_start + self.next as u64))
    }

    /// The row at hand as a document, or why it is none.
    pub fn document(&self, limit: usize) -> Result<(Content, Row), String> {
        let batch = self.batch.as_ref().ok_or("there is no row")?;
        batch.document(self.next, limit)
    }

    /// The row at hand as a JSON object, for messages and rejects.
    pub fn object(&self) -> String {
        let object = self.batch.as_ref().map(|batch| batch.object(self.next));
        object.and_then(Result::ok).unwrap_or_default()
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
                self.finish();
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
        self.progress.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts what lies between and behind the pages, where the whole file was read.
    fn finish(&mut self) {
        let total: u64 = self.opened.groups.iter().map(|group| group.num_rows() as u64).sum();
        if self.range == (0..total) {
            self.count(self.opened.chunks.len().saturating_sub(self.counted));
        }
    }
}

impl Group {
    /// Opens the columns of a row group, behind the first `skip` rows.
    fn open(opened: &Opened, meta: &RowGroupMetaData, skip: u64) -> ParquetResult<Self> {
        let mut readers = Vec::with_capacity(meta.num_columns());
        for chunk in meta.columns() {
            let pages =
                SerializedPageReader::new(opened.chunks.clone(), chunk, meta.num_rows() as usize, None)?;
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
