//! The final file, put together from the pages of its frames, which are not encoded again.

use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

use parquet::column::writer::ColumnCloseResult;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaDataReader, RowGroupMetaData};
use parquet::file::writer::SerializedFileWriter;

use super::chunks::Chunks;
use super::layout::Layout;
use super::table::leaves;

/// Bytes of a row group, unless its last frame goes beyond: large enough that a file's metadata stays small.
const ROW_GROUP_BYTES: u64 = 64 << 20;

/// Frames that make up a row group.
#[derive(Default)]
struct Pending {
    frames: Vec<(u64, RowGroupMetaData)>,
    bytes: u64,
}

/// Writes the frames of `file` that end at `ends`, one after the other, as one Parquet file.
pub(super) fn assemble(
    layout: &Layout,
    file: File,
    ends: &[u64],
    out: &mut (dyn Write + Send),
) -> Result<()> {
    let file = Arc::new(file);
    let frames = frames(ends);
    let keep = kept(layout, &file, &frames)?;
    let narrow = layout.only(&keep)?;
    let key_values = Some(narrow.key_values.clone());
    let mut writer = SerializedFileWriter::new(out, narrow.root.clone(), narrow.properties(key_values))?;
    let columns = kept_leaves(layout, &keep);
    let mut pending = Pending::default();
    for frame in frames {
        for group in row_groups(&file, &frame)? {
            pending.bytes +=
                group.columns().iter().map(|chunk| chunk.compressed_size().max(0) as u64).sum::<u64>();
            pending.frames.push((frame.start, group));
        }
        if pending.bytes >= ROW_GROUP_BYTES {
            write_group(&mut writer, &file, &std::mem::take(&mut pending), &columns)?;
        }
    }
    if !pending.frames.is_empty() {
        write_group(&mut writer, &file, &pending, &columns)?;
    }
    writer.close().map(drop)
}

/// The frames' bytes; a commit without any is none.
fn frames(ends: &[u64]) -> Vec<Range<u64>> {
    let starts = std::iter::once(0).chain(ends.iter().copied());
    starts
        .zip(ends.iter().copied())
        .map(|(start, end)| start..end)
        .filter(|frame| !frame.is_empty())
        .collect()
}

fn row_groups(file: &Arc<File>, frame: &Range<u64>) -> Result<Vec<RowGroupMetaData>> {
    let chunks = Chunks::of(file.clone(), vec![frame.clone()]);
    Ok(ParquetMetaDataReader::new().parse_and_finish(&chunks)?.row_groups().to_vec())
}

/// Which columns at the top are written: where the layout says so, only those that hold something. A file without any rows
/// keeps all.
fn kept(layout: &Layout, file: &Arc<File>, frames: &[Range<u64>]) -> Result<Vec<bool>> {
    let fields = layout.root.get_fields();
    if !layout.leaves_out || frames.is_empty() {
        return Ok(vec![true; fields.len()]);
    }
    let mut keep = vec![false; fields.len()];
    for frame in frames {
        for group in row_groups(file, frame)? {
            // All columns of such a layout have one leaf.
            for (keep, chunk) in keep.iter_mut().zip(group.columns()) {
                *keep |= holds_something(chunk);
            }
        }
        if keep.iter().all(|&keep| keep) {
            break;
        }
    }
    if keep.iter().all(|&keep| !keep) {
        keep.fill(true);
    }
    Ok(keep)
}

/// Whether a column chunk has something that is not null, be it an empty list.
fn holds_something(chunk: &ColumnChunkMetaData) -> bool {
    let levels = chunk.definition_level_histogram().map(|histogram| histogram.values());
    levels.is_none_or(|levels| levels.iter().skip(1).any(|&count| count > 0))
}

/// The numbers of the leaves of the columns that are kept.
fn kept_leaves(layout: &Layout, keep: &[bool]) -> Vec<usize> {
    let columns = layout.root.get_fields().iter().zip(keep);
    let each = columns.flat_map(|(kind, keep)| std::iter::repeat_n(*keep, leaves(kind).unwrap_or(0)));
    each.enumerate().filter(|(_, keep)| *keep).map(|(leaf, _)| leaf).collect()
}

fn write_group<W: Write + Send>(
    writer: &mut SerializedFileWriter<W>,
    file: &Arc<File>,
    pending: &Pending,
    columns: &[usize],
) -> Result<()> {
    let rows: i64 = pending.frames.iter().map(|(_, group)| group.num_rows()).sum();
    let mut group = writer.next_row_group()?;
    for &column in columns {
        let chunks: Vec<_> =
            pending.frames.iter().map(|(start, group)| (*start, group.column(column))).collect();
        let (metadata, ranges) = merge(&chunks)?;
        let pages = Chunks::of(file.clone(), ranges);
        let bytes_written = metadata.compressed_size().max(0) as u64;
        let close = ColumnCloseResult {
            bytes_written,
            rows_written: rows.max(0) as u64,
            metadata,
            bloom_filter: None,
            column_index: None,
            offset_index: None,
        };
        group.append_column(&pages, close)?;
    }
    group.close().map(drop)
}

/// One column chunk of several, as if they lay one behind the other from byte 0 on, and where they do lie.
fn merge(chunks: &[(u64, &ColumnChunkMetaData)]) -> Result<(ColumnChunkMetaData, Vec<Range<u64>>)> {
    let sum =
        |size: fn(&ColumnChunkMetaData) -> i64| chunks.iter().map(|(_, chunk)| size(chunk)).sum::<i64>();
    let (_, first) =
        chunks.first().ok_or_else(|| ParquetError::General("a row group without frames".into()))?;
    let mut ranges = Vec::with_capacity(chunks.len());
    for (start, chunk) in chunks {
        let bounds =
            u64::try_from(chunk.data_page_offset()).ok().zip(u64::try_from(chunk.compressed_size()).ok());
        let Some((offset, size)) = bounds.filter(|_| chunk.dictionary_page_offset().is_none()) else {
            return Err(ParquetError::General(
                "a frame's column chunk is not one of data pages alone".into(),
            ));
        };
        ranges.push(start + offset..start + offset + size);
    }
    let metadata = ColumnChunkMetaData::builder(first.column_descr_ptr())
        .set_compression(first.compression())
        .set_encodings_mask(*first.encodings_mask())
        .set_num_values(sum(ColumnChunkMetaData::num_values))
        .set_total_compressed_size(sum(ColumnChunkMetaData::compressed_size))
        .set_total_uncompressed_size(sum(ColumnChunkMetaData::uncompressed_size))
        .set_data_page_offset(0)
        .build()?;
    Ok((metadata, ranges))
}
