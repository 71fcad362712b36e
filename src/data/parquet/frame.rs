//! Frames of a Parquet output: each a Parquet file of one row group, made in memory.

use std::mem;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use parquet::column::writer::ColumnWriter;
use parquet::data_type::{ByteArray, ByteArrayType, DataType};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::ColumnDescPtr;

use super::guarded;
use super::layout::{Layout, Source};
use super::row::{Batch, Row};
use super::scalar::is_unsigned;
use crate::Result;
use crate::data::document::{Content, Document, Origin};
use crate::data::messages;
use crate::data::patch::{Member, Patch, splice};

/// A document on its way into a row group.
struct Entry {
    /// The row that it comes from.
    row: Option<(Arc<Batch>, usize)>,
    text: Option<ByteArray>,
    ids: Ids,
    /// What each message says, where one was edited.
    messages: Option<Vec<Option<ByteArray>>>,
    json: Option<ByteArray>,
    metadata: Option<ByteArray>,
}

/// The ids of a document.
enum Ids {
    None,
    /// As they are in its row.
    Kept,
    Set(Vec<u32>),
}

/// Documents that make up the next frame.
pub(super) struct FrameBuilder {
    path: PathBuf,
    layout: Arc<Layout>,
    entries: Vec<Entry>,
    size: usize,
}

impl FrameBuilder {
    pub fn new(path: PathBuf, layout: Arc<Layout>) -> Self {
        Self { path, layout, entries: Vec::new(), size: 0 }
    }

    /// Bytes of all documents in it, roughly: a pure function of them.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Adds `document` with `patch` applied.
    ///
    /// # Errors
    /// [`crate::Error::Record`] where the patch or the document does not fit the columns.
    pub fn push(&mut self, document: &Document, patch: &Patch) -> Result<()> {
        let entry = self.entry(document, patch).map_err(|reason| document.error(reason))?;
        self.size += entry.weight();
        self.entries.push(entry);
        Ok(())
    }

    /// Adds a row as it is.
    ///
    /// # Errors
    /// [`crate::Error::Record`]'s reason: it does not fit the columns.
    pub fn push_row(&mut self, row: &Row) -> Result<(), String> {
        let entry = of_row(row, &Patch::default())?;
        self.size += entry.weight();
        self.entries.push(entry);
        Ok(())
    }

    fn entry(&self, document: &Document, patch: &Patch) -> Result<Entry, String> {
        match &document.origin {
            Origin::Row(row) if !self.layout.leaves_out => of_row(row, patch),
            Origin::Json(record) if self.layout.leaves_out => {
                // Beside a text they may be anything: then they go with the other members.
                let ids = document.raw_ids().and_then(|raw| serde_json::from_str(raw).ok());
                let ids = ids.map_or(Ids::None, Ids::Set);
                let json = record.rest(matches!(ids, Ids::None), patch)?;
                of_record(document, patch, ids, json.map(ByteArray::from))
            }
            Origin::Text(_) if self.layout.leaves_out => of_record(document, patch, Ids::None, None),
            _ => Err("Parquet rows and other records cannot go into one Parquet file".into()),
        }
    }

    /// The documents as a Parquet file; nothing where there is none.
    ///
    /// # Errors
    /// The crate's.
    pub fn close(&mut self) -> Result<Vec<u8>> {
        self.size = 0;
        let entries = mem::take(&mut self.entries);
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let (layout, properties) = (&self.layout, self.layout.properties(None));
        guarded(&self.path, || {
            let mut file = SerializedFileWriter::new(Vec::new(), layout.root.clone(), properties)?;
            let mut group = file.next_row_group()?;
            for (source, kind) in layout.sources.iter().zip(layout.root.get_fields()) {
                write_column(&mut group, *source, &entries, super::table::leaves(kind).unwrap_or(0))?;
            }
            group.close()?;
            file.into_inner()
        })
    }
}

/// A row with `patch` applied.
fn of_row(row: &Row, patch: &Patch) -> Result<Entry, String> {
    if let Some((name, _)) = patch.members.first() {
        return Err(format!("Parquet rows have no column for `{name}`: write .jsonl instead"));
    }
    let cells = row.cells(patch)?;
    let table = &row.batch.table;
    let kept =
        |column: Option<usize>| column.and_then(|column| row.batch.leaf(column).bytes(row.row)).cloned();
    let string = |cell: Member<String>, column| match cell {
        Member::Keep => kept(column),
        Member::Set(text) => Some(text.into_bytes().into()),
        Member::Remove => None,
    };
    let messages = cells.messages.map(|raw| {
        table.message_contents().ok_or("the column `messages` has no strings under `content`")?;
        let contents = messages::read(&raw)?.into_iter().map(|message| message.content);
        Ok::<_, String>(contents.map(|content| content.map(|content| content.into_bytes().into())).collect())
    });
    Ok(Entry {
        text: string(cells.text, table.content.text),
        ids: match cells.ids {
            Member::Keep => Ids::Kept,
            Member::Set(ids) => Ids::Set(ids),
            Member::Remove => Ids::None,
        },
        messages: messages.transpose()?,
        json: None,
        metadata: string(cells.metadata, table.metadata),
        row: Some((row.batch.clone(), row.row)),
    })
}

/// A document that was not read from a table.
fn of_record(document: &Document, patch: &Patch, ids: Ids, json: Option<ByteArray>) -> Result<Entry, String> {
    let text = match (&document.content, patch.text) {
        (_, Member::Remove) => None,
        (Content::Text(text), Member::Set(edits)) => Some(splice(text, edits)?.into_bytes().into()),
        (Content::Text(text), Member::Keep) => Some(text.as_bytes().into()),
        (Content::Ids(_) | Content::Messages(_), Member::Set(_)) => {
            return Err("the record has no text to edit".into());
        }
        (Content::Ids(_) | Content::Messages(_), Member::Keep) => None,
    };
    let metadata = match patch.metadata {
        Member::Keep => document.metadata(),
        Member::Set(metadata) => Some(metadata),
        Member::Remove => None,
    };
    let metadata = metadata.map(|metadata| metadata.as_bytes().into());
    let ids = match patch.ids {
        Member::Keep => ids,
        Member::Set(ids) => Ids::Set(ids.to_vec()),
        Member::Remove => Ids::None,
    };
    Ok(Entry { row: None, text, ids, messages: None, json, metadata })
}

impl Entry {
    fn weight(&self) -> usize {
        let bytes = |bytes: &Option<ByteArray>| bytes.as_ref().map_or(0, ByteArray::len);
        let ids = if let Ids::Set(ids) = &self.ids { size_of_val(&ids[..]) } else { 0 };
        let row = self.row.as_ref().map_or(0, |(batch, row)| batch.weight(*row));
        let messages: usize = self.messages.iter().flatten().map(bytes).sum();
        // Never nothing, be a document as empty as it may.
        1 + row + messages + bytes(&self.text) + bytes(&self.json) + bytes(&self.metadata) + ids
    }
}

fn write_column(
    group: &mut SerializedRowGroupWriter<Vec<u8>>,
    source: Source,
    entries: &[Entry],
    leaves: usize,
) -> ParquetResult<()> {
    for leaf in 0..leaves {
        let column = group.next_column()?;
        let mut column = column.ok_or_else(|| ParquetError::General("a column is missing".into()))?;
        let writer = column.untyped();
        match source {
            Source::Column(number) => write_rows(entries, number, leaf, writer)?,
            Source::Messages(number) => write_messages(entries, number, leaf, writer)?,
            Source::Text => write_bytes(entries.iter().map(|entry| &entry.text), writer)?,
            Source::Json => write_bytes(entries.iter().map(|entry| &entry.json), writer)?,
            Source::Metadata => write_bytes(entries.iter().map(|entry| &entry.metadata), writer)?,
            Source::Ids => write_ids(entries, writer)?,
        }
        column.close()?;
    }
    Ok(())
}

/// A leaf of the input's column `number`, in runs of rows that follow each other.
fn write_rows(entries: &[Entry], number: usize, leaf: usize, writer: &mut ColumnWriter) -> ParquetResult<()> {
    for (batch, rows) in runs(entries) {
        batch.leaves(number)[leaf].write(rows, writer)?;
    }
    Ok(())
}

/// A leaf of the input's column of messages; what they say may be edited, and all else of them stays.
fn write_messages(
    entries: &[Entry],
    number: usize,
    leaf: usize,
    writer: &mut ColumnWriter,
) -> ParquetResult<()> {
    for group in entries.chunk_by(|a, b| a.messages.is_none() && b.messages.is_none()) {
        match (&group[0].messages, &group[0].row) {
            (Some(contents), Some((batch, row))) if batch.table.message_contents() == Some(leaf) => {
                batch.leaves(number)[leaf].write_replaced(*row, contents, writer)?;
            }
            _ => write_rows(group, number, leaf, writer)?,
        }
    }
    Ok(())
}

/// Rows that follow each other in one batch.
fn runs(entries: &[Entry]) -> Vec<(&Arc<Batch>, Range<usize>)> {
    let mut runs: Vec<(&Arc<Batch>, Range<usize>)> = Vec::new();
    for (batch, row) in entries.iter().filter_map(|entry| entry.row.as_ref()) {
        match runs.last_mut() {
            Some((last, rows)) if Arc::ptr_eq(last, batch) && rows.end == *row => rows.end += 1,
            _ => runs.push((batch, *row..row + 1)),
        }
    }
    runs
}

/// A column of at most one string a row.
fn write_bytes<'a>(
    values: impl Iterator<Item = &'a Option<ByteArray>>,
    writer: &mut ColumnWriter,
) -> ParquetResult<()> {
    let mut definition = Vec::new();
    let mut present = Vec::new();
    for value in values {
        definition.push(i16::from(value.is_some()));
        present.extend(value.clone());
    }
    let Some(writer) = ByteArrayType::get_column_writer_mut(writer) else {
        return Err(ParquetError::General("a string is written to a column of another type".into()));
    };
    // Where a column cannot be null, it has no such levels.
    let is_optional = writer.get_descriptor().max_def_level() > 0;
    if !is_optional && present.len() < definition.len() {
        return Err(ParquetError::General("a column that must have a value in each row has none".into()));
    }
    writer.write_batch(&present, is_optional.then_some(&definition[..]), None).map(drop)
}

/// The column of ids: lists that are kept are copied, others are written anew.
fn write_ids(entries: &[Entry], writer: &mut ColumnWriter) -> ParquetResult<()> {
    for kept in entries.chunk_by(|a, b| matches!(a.ids, Ids::Kept) == matches!(b.ids, Ids::Kept)) {
        let column = kept[0].row.as_ref().and_then(|(batch, _)| batch.table.content.ids);
        match (&kept[0].ids, column) {
            (Ids::Kept, Some(column)) => write_rows(kept, column, 0, writer)?,
            _ => write_lists(kept, writer)?,
        }
    }
    Ok(())
}

fn write_lists(entries: &[Entry], writer: &mut ColumnWriter) -> ParquetResult<()> {
    let column: ColumnDescPtr = match writer {
        ColumnWriter::Int32ColumnWriter(writer) => writer.get_descriptor().clone(),
        ColumnWriter::Int64ColumnWriter(writer) => writer.get_descriptor().clone(),
        _ => return Err(ParquetError::General("ids are written to a column of another type".into())),
    };
    let (mut definition, mut repetition, mut values) = (Vec::new(), Vec::new(), Vec::new());
    // One below, the list is there and empty; on no level, there is none.
    let present = column.repeated_ancestor_def_level();
    for entry in entries {
        match &entry.ids {
            Ids::Set(ids) if !ids.is_empty() => {
                definition.resize(definition.len() + ids.len(), column.max_def_level());
                repetition.push(0);
                repetition.resize(repetition.len() + ids.len() - 1, 1);
                values.extend_from_slice(ids);
            }
            Ids::Set(_) => {
                definition.push(present - 1);
                repetition.push(0);
            }
            Ids::None | Ids::Kept => {
                definition.push(0);
                repetition.push(0);
            }
        }
    }
    let levels = (Some(&definition[..]), Some(&repetition[..]));
    match writer {
        ColumnWriter::Int32ColumnWriter(writer) => {
            let bits = |id: u32| match i32::try_from(id) {
                Err(_) if !is_unsigned(&column) => {
                    Err(ParquetError::General(format!("id {id} does not fit a column of signed integers")))
                }
                _ => Ok(id as i32),
            };
            let values = values.into_iter().map(bits).collect::<ParquetResult<Vec<_>>>()?;
            writer.write_batch(&values, levels.0, levels.1)
        }
        ColumnWriter::Int64ColumnWriter(writer) => {
            let values: Vec<_> = values.into_iter().map(i64::from).collect();
            writer.write_batch(&values, levels.0, levels.1)
        }
        _ => Ok(0),
    }
    .map(drop)
}
