//! A Parquet file as a table: its schema, which columns mean something, where its row groups lie. Everything is checked
//! against the file's size before a row is read.

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, ConvertedType, LogicalType, Repetition, Type as PhysicalType};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{
    ColumnChunkMetaData, KeyValue, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData,
};
use parquet::file::reader::{ChunkReader, Length};
use parquet::schema::types::{SchemaDescPtr, Type, TypePtr};

use super::chunks::Chunks;
use super::json::list_element;
use super::scalar::is_integer;
use super::{ENCRYPTED, IDS, MAGIC, METADATA, guarded, thrift};
use crate::data::digest::{Changed, state};
use crate::{Error, Result};

/// The column that holds conversations.
const MESSAGES: &str = "messages";
/// The footer's length and the magic number.
const TAIL: usize = 8;

/// A Parquet file's schema and what else is carried through.
#[derive(Debug)]
pub(in crate::data) struct Table {
    pub path: Arc<Path>,
    pub schema: SchemaDescPtr,
    /// The columns at the top, in their order.
    pub columns: Vec<Column>,
    pub key_values: Vec<KeyValue>,
    /// How each leaf is compressed in the first row group.
    pub compression: Vec<Compression>,
    /// What to read a document from.
    pub content: ContentColumns,
    pub id: Option<usize>,
    pub metadata: Option<usize>,
}

/// A column at the top of the schema.
#[derive(Debug)]
pub(super) struct Column {
    pub kind: TypePtr,
    /// Its leaves among all of them.
    pub leaves: Range<usize>,
}

/// The columns that may hold a document: the first that has something in a row does.
#[derive(Debug)]
pub(super) struct ContentColumns {
    pub text: Option<usize>,
    pub ids: Option<usize>,
    pub messages: Option<usize>,
}

/// A file with its table.
pub(super) struct Opened {
    pub table: Arc<Table>,
    pub chunks: Arc<Chunks>,
    pub groups: Vec<RowGroupMetaData>,
    /// Size and time of the last change.
    state: (u64, Option<u64>),
}

impl Opened {
    /// Reads the footer of `path`. The text lies in the column `field`.
    pub fn open(path: &Path, field: &str) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        let state = state(&file).map_err(|e| Error::io(path, e))?;
        let chunks = Chunks::whole(file).map_err(|e| Error::io(path, e))?;
        let metadata = guarded(path, || read_metadata(&chunks))?;
        let table = guarded(path, || Table::new(path, &metadata))?.with_roles(field)?;
        let end = chunks.len();
        let groups = metadata.row_groups().to_vec();
        for (number, group) in groups.iter().enumerate() {
            check_group(group, end).map_err(|reason| {
                Error::file(path, format!("malformed parquet: row group {number}: {reason}"))
            })?;
        }
        if groups.iter().try_fold(0_i64, |rows, group| rows.checked_add(group.num_rows())).is_none() {
            return Err(Error::file(path, "malformed parquet: its row groups have too many rows"));
        }
        Ok(Self { table: Arc::new(table), chunks: Arc::new(chunks), groups, state })
    }

    /// When the file was last changed.
    ///
    /// # Errors
    /// It has changed since it was opened.
    pub fn check_unchanged(&self) -> Result<Option<u64>> {
        let path = &self.table.path;
        match self.chunks.file_state() {
            Ok(state) if state == self.state => Ok(state.1),
            Ok(_) => Err(Error::io(&**path, std::io::Error::other(Changed))),
            Err(error) => Err(Error::io(&**path, error)),
        }
    }
}

impl Table {
    fn new(path: &Path, metadata: &ParquetMetaData) -> ParquetResult<Self> {
        let schema = metadata.file_metadata().schema_descr_ptr();
        let columns = columns(&schema)?;
        let key_values = metadata.file_metadata().key_value_metadata().cloned().unwrap_or_default();
        let first = metadata.row_groups().first();
        let compression = first.map_or_else(
            || vec![Compression::SNAPPY; schema.num_columns()],
            |group| group.columns().iter().map(ColumnChunkMetaData::compression).collect(),
        );
        let content = ContentColumns { text: None, ids: None, messages: None };
        let path = path.into();
        Ok(Self { path, schema, columns, key_values, compression, content, id: None, metadata: None })
    }

    /// Finds the columns that mean something, and checks that they are of a type that can.
    fn with_roles(mut self, field: &str) -> Result<Self> {
        let content = ContentColumns {
            text: self.role(field, |column| is_text(&column.kind), "a string")?,
            ids: self.role(IDS, |column| self.is_ids(column), "a list of integers")?,
            // Beside a text or ids it may be anything.
            messages: self
                .position(MESSAGES)
                .filter(|&column| contents_leaf(&self.columns[column].kind).is_some()),
        };
        if content.text.is_none() && content.ids.is_none() && content.messages.is_none() {
            self.role(MESSAGES, |_| false, "a list of groups that hold the strings `role` and `content`")?;
            let names: Vec<_> = self.columns.iter().map(|column| column.kind.name()).collect();
            let reason = format!("neither column `{field}` nor `{IDS}` found among {}", names.join(", "));
            return Err(Error::file(&self.path, reason));
        }
        self.metadata = self.role(METADATA, |column| is_text(&column.kind), "a string")?;
        self.id = self.position("id");
        self.content = content;
        Ok(self)
    }

    /// The column of that name at the top.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.kind.name() == name)
    }

    fn role(&self, name: &str, fits: impl Fn(&Column) -> bool, expected: &str) -> Result<Option<usize>> {
        let named = |column: &&Column| column.kind.name() == name;
        if self.columns.iter().filter(named).count() > 1 {
            return Err(Error::file(&self.path, format!("column `{name}` occurs twice")));
        }
        match self.position(name) {
            Some(position) if !fits(&self.columns[position]) => {
                let found = describe(&self.columns[position].kind);
                Err(Error::file(&self.path, format!("column `{name}` is {found}, expected {expected}")))
            }
            position => Ok(position),
        }
    }

    /// The leaf of the column `messages`, among its own, that holds what each message says.
    pub fn message_contents(&self) -> Option<usize> {
        contents_leaf(&self.columns[self.content.messages?].kind)
    }

    fn is_ids(&self, column: &Column) -> bool {
        let leaf = &self.schema.columns()[column.leaves.start];
        column.leaves.len() == 1 && leaf.max_rep_level() == 1 && is_integer(leaf)
    }
}

/// Whether a column holds one string a row.
fn is_text(kind: &Type) -> bool {
    let info = kind.get_basic_info();
    kind.is_primitive()
        && info.repetition() != Repetition::REPEATED
        && kind.get_physical_type() == PhysicalType::BYTE_ARRAY
        && match info.logical_type_ref() {
            Some(logical) => matches!(logical, LogicalType::String | LogicalType::Json | LogicalType::Enum),
            None => matches!(
                info.converted_type(),
                ConvertedType::UTF8 | ConvertedType::JSON | ConvertedType::ENUM
            ),
        }
}

/// The leaf, among those of a list of groups with the strings `role` and `content`, that `content` is.
fn contents_leaf(kind: &Type) -> Option<usize> {
    let message = list_element(kind).filter(|message| message.is_group())?;
    let fields = message.get_fields();
    let string =
        |name| fields.iter().position(|field| field.name() == name).filter(|&field| is_text(&fields[field]));
    string("role")?;
    fields[..string("content")?].iter().map(|field| leaves(field)).sum()
}

/// A column's type in words.
fn describe(kind: &Type) -> String {
    let info = kind.get_basic_info();
    let physical = if kind.is_group() { "a group".to_owned() } else { kind.get_physical_type().to_string() };
    match (info.logical_type_ref(), info.converted_type()) {
        (Some(logical), _) => format!("{physical} ({logical:?})"),
        (None, ConvertedType::NONE) if physical == "BYTE_ARRAY" => format!("{physical} (bytes)"),
        (None, ConvertedType::NONE) => physical,
        (None, converted) => format!("{physical} ({converted})"),
    }
}

/// The columns at the top. A group without a column in it cannot be written back.
fn columns(schema: &SchemaDescPtr) -> ParquetResult<Vec<Column>> {
    let mut leaf = 0;
    let mut columns = Vec::new();
    for kind in schema.root_schema().get_fields() {
        let count = leaves(kind).ok_or_else(|| {
            ParquetError::General(format!("group `{}` holds a group without columns", kind.name()))
        })?;
        columns.push(Column { kind: kind.clone(), leaves: leaf..leaf + count });
        leaf += count;
    }
    Ok(columns)
}

/// How many leaves a column has; `None` where a group in it has none.
pub(super) fn leaves(kind: &Type) -> Option<usize> {
    if kind.is_primitive() {
        return Some(1);
    }
    let counts: Option<usize> = kind.get_fields().iter().map(|field| leaves(field)).sum();
    counts.filter(|&count| count > 0)
}

fn read_metadata(chunks: &Chunks) -> ParquetResult<ParquetMetaData> {
    let malformed = |reason: String| Err(ParquetError::General(reason));
    let length = chunks.len();
    if length < (MAGIC.len() + TAIL) as u64 {
        return malformed(format!("{length} bytes are too few: the file was probably cut"));
    }
    let tail = chunks.get_bytes(length - TAIL as u64, TAIL)?;
    let (size, magic) = tail.split_at(4);
    if magic == ENCRYPTED || &chunks.get_bytes(0, 4)?[..] == ENCRYPTED {
        return malformed("encrypted files cannot be read".into());
    }
    if magic != MAGIC {
        return malformed("it does not end with PAR1: the file was probably cut".into());
    }
    let size = u64::from(u32::from_le_bytes([size[0], size[1], size[2], size[3]]));
    let room = length - (MAGIC.len() + TAIL) as u64;
    if size > room {
        return malformed(format!("a footer of {size} bytes does not fit into a file of {length}"));
    }
    let start = length - TAIL as u64 - size;
    // `size` is at most 2^32, and has been found to lie in the file.
    let bytes = chunks.get_bytes(start, size as usize)?;
    thrift::check_footer(&bytes).map_err(|reason| ParquetError::General(reason.into()))?;
    ParquetMetaDataReader::decode_metadata(&bytes)
}

/// Checks a row group's numbers against the file, `end` bytes long.
fn check_group(group: &RowGroupMetaData, end: u64) -> Result<(), String> {
    if group.num_rows() < 0 {
        return Err(format!("{} rows", group.num_rows()));
    }
    if group.columns().len() != group.schema_descr().num_columns() {
        return Err(format!(
            "{} columns, the schema has {}",
            group.columns().len(),
            group.schema_descr().num_columns()
        ));
    }
    for chunk in group.columns() {
        let name = chunk.column_path().string();
        let start = chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset());
        let bounds = u64::try_from(start).ok().zip(u64::try_from(chunk.compressed_size()).ok());
        if bounds.and_then(|(start, size)| start.checked_add(size)).is_none_or(|last| last > end) {
            let size = chunk.compressed_size();
            return Err(format!(
                "column `{name}`: {size} bytes at byte {start} lie outside the file of {end}"
            ));
        }
        if chunk.column_descr().max_rep_level() == 0 && chunk.num_values() != group.num_rows() {
            let (values, rows) = (chunk.num_values(), group.num_rows());
            return Err(format!("column `{name}`: {values} values in {rows} rows"));
        }
        if chunk.file_path().is_some() {
            return Err(format!("column `{name}` lies in another file"));
        }
    }
    Ok(())
}
