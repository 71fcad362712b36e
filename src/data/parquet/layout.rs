//! The columns of a Parquet output: those of its input, with what an edit adds and takes away.

use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, ConvertedType, LogicalType, Repetition, Type as PhysicalType};
use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesPtr};
use parquet::schema::types::{ColumnPath, SchemaDescPtr, SchemaDescriptor, Type, TypePtr};

use super::table::{Opened, Table};
use super::{IDS, METADATA, arrow, begins, guarded};
use crate::data::patch::Member;
use crate::data::source::InputFile;
use crate::data::writer::OutputColumns;
use crate::{Error, Result};

/// The column for what JSON lines hold beside text, ids and metadata.
const JSON: &str = "json";

/// The columns of an output.
pub(super) struct Layout {
    pub root: TypePtr,
    pub schema: SchemaDescPtr,
    /// Where each column at the top comes from.
    pub sources: Vec<Source>,
    /// Whether columns in which nothing stands are left out in the end: nobody has asked for them.
    pub leaves_out: bool,
    pub compression: Vec<Compression>,
    pub key_values: Vec<KeyValue>,
}

/// Where a column comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The input's column of this number, as it is.
    Column(usize),
    /// The text, in place of the input's column of this number where there is one.
    Text,
    /// The ids, likewise.
    Ids,
    /// The messages, in the input's column of this number.
    Messages(usize),
    /// The other members of a JSON object.
    Json,
    /// What the edit did.
    Metadata,
}

impl Layout {
    /// The columns of an output of these inputs: all of them Parquet with the same columns, or none.
    ///
    /// # Errors
    /// They are not; an input cannot be read.
    pub fn plan(inputs: &[InputFile], columns: &OutputColumns) -> Result<Self> {
        let mut first: Option<(&InputFile, Option<Opened>)> = None;
        for input in inputs {
            let is_table = begins(&input.path)?;
            let opened = is_table.then(|| Opened::open(&input.path, &columns.text_field)).transpose()?;
            match &first {
                None => first = Some((input, opened)),
                Some((other, table)) => check_same((other, table.as_ref()), (input, opened.as_ref()))?,
            }
        }
        match first {
            Some((_, Some(opened))) => Self::of_table(&opened.table, columns),
            Some((input, None)) => Self::of_json(&input.path, columns),
            None => Self::of_json(Path::new("-"), columns),
        }
    }

    /// The columns of a table, patched.
    fn of_table(table: &Table, columns: &OutputColumns) -> Result<Self> {
        let mut fields = Vec::new();
        for (number, column) in table.columns.iter().enumerate() {
            let source = match Some(number) {
                position if position == table.content.text && !columns.has_text => continue,
                position if position == table.content.text => Source::Text,
                position if position == table.content.ids => Source::Ids,
                position if position == table.content.messages => Source::Messages(number),
                position if position == table.metadata && columns.metadata != Member::Keep => continue,
                _ => Source::Column(number),
            };
            let compression = table.compression[column.leaves.clone()].iter().copied().map(writable);
            fields.push((column.kind.clone(), source, compression.collect::<Vec<_>>()));
        }
        let text = table.content.text.or(table.content.ids).unwrap_or_default();
        let compression = writable(table.compression[table.columns[text].leaves.start]);
        let name = table.schema.name();
        let layout = guarded(&table.path, || {
            if columns.has_ids && table.content.ids.is_none() {
                fields.push((list(IDS)?, Source::Ids, vec![compression]));
            }
            if columns.metadata == Member::Set(()) {
                fields.push((string(METADATA, None)?, Source::Metadata, vec![compression]));
            }
            Self::new(name, fields)
        })?;
        let mut key_values = table.key_values.clone();
        guarded(&table.path, || {
            arrow::update(&mut key_values, table, &layout);
            Ok(())
        })?;
        Ok(Self { key_values, ..layout })
    }

    /// The columns for JSON lines and text files.
    fn of_json(path: &Path, columns: &OutputColumns) -> Result<Self> {
        let compression = vec![Compression::ZSTD(Default::default())];
        let layout = guarded(path, || {
            let mut fields = Vec::new();
            if columns.has_text {
                fields.push((string(&columns.text_field, None)?, Source::Text));
            }
            fields.push((list(IDS)?, Source::Ids));
            fields.push((string(JSON, Some(LogicalType::Json))?, Source::Json));
            if columns.metadata != Member::Remove {
                fields.push((string(METADATA, None)?, Source::Metadata));
            }
            let fields = fields.into_iter().map(|(kind, source)| (kind, source, compression.clone()));
            Self::new("schema", fields.collect())
        })?;
        Ok(Self { leaves_out: true, ..layout })
    }

    fn new(name: &str, fields: Vec<(TypePtr, Source, Vec<Compression>)>) -> ParquetResult<Self> {
        let sources = fields.iter().map(|(_, source, _)| *source).collect();
        let compression = fields.iter().flat_map(|(_, _, compression)| compression.clone()).collect();
        let fields = fields.into_iter().map(|(kind, ..)| kind).collect();
        let root = Arc::new(Type::group_type_builder(name).with_fields(fields).build()?);
        let schema = Arc::new(SchemaDescriptor::new(root.clone()));
        Ok(Self { root, schema, sources, leaves_out: false, compression, key_values: Vec::new() })
    }

    /// The same without the columns at the top that `keep` is false for.
    pub fn only(&self, keep: &[bool]) -> ParquetResult<Self> {
        let mut leaf = 0;
        let mut fields = Vec::new();
        for ((kind, source), keep) in self.root.get_fields().iter().zip(&self.sources).zip(keep) {
            let leaves = super::table::leaves(kind).unwrap_or(0);
            if *keep {
                fields.push((kind.clone(), *source, self.compression[leaf..leaf + leaves].to_vec()));
            }
            leaf += leaves;
        }
        let key_values = self.key_values.clone();
        Ok(Self { key_values, ..Self::new(self.root.name(), fields)? })
    }

    /// How columns are written. No dictionaries, so that pages of several frames can make up one column chunk.
    pub fn properties(&self, key_values: Option<Vec<KeyValue>>) -> WriterPropertiesPtr {
        // They tell whether a column holds anything.
        let statistics = if self.leaves_out { EnabledStatistics::Chunk } else { EnabledStatistics::None };
        let mut builder = WriterProperties::builder()
            .set_created_by(concat!("toedit version ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_dictionary_enabled(false)
            .set_statistics_enabled(statistics)
            .set_offset_index_disabled(true)
            .set_key_value_metadata(key_values.filter(|pairs| !pairs.is_empty()));
        for (column, compression) in self.schema.columns().iter().zip(&self.compression) {
            let path = ColumnPath::new(column.path().parts().to_vec());
            builder = builder.set_column_compression(path, *compression);
        }
        Arc::new(builder.build())
    }
}

/// A codec that is written: what has been superseded is only read.
fn writable(compression: Compression) -> Compression {
    match compression {
        Compression::LZ4 => Compression::LZ4_RAW,
        other => other,
    }
}

fn check_same(
    (other, a): (&InputFile, Option<&Opened>),
    (input, b): (&InputFile, Option<&Opened>),
) -> Result<()> {
    let reason = match (a, b) {
        (None, None) => return Ok(()),
        (Some(a), Some(b)) => {
            let (a, b) = (&a.table.schema, &b.table.schema);
            let differing = a.columns().iter().zip(b.columns()).find(|(a, b)| a != b);
            match differing {
                Some((a, b)) if a.path() == b.path() => {
                    format!("column `{}` has another type", a.path().string())
                }
                Some((a, b)) => {
                    format!("column `{}` stands where `{}` does", b.path().string(), a.path().string())
                }
                None if a.num_columns() != b.num_columns() => "the number of columns differs".to_owned(),
                None => return Ok(()),
            }
        }
        _ => "one is Parquet, the other is not".to_owned(),
    };
    let other = other.path.display();
    Err(Error::file(
        &input.path,
        format!("cannot go into one Parquet file with {other}: {reason}; name a folder as output"),
    ))
}

/// A column of strings.
fn string(name: &str, logical: Option<LogicalType>) -> ParquetResult<TypePtr> {
    let kind = Type::primitive_type_builder(name, PhysicalType::BYTE_ARRAY)
        .with_repetition(Repetition::OPTIONAL)
        .with_logical_type(Some(logical.unwrap_or(LogicalType::String)));
    kind.build().map(Arc::new)
}

/// A column of lists of integers.
fn list(name: &str) -> ParquetResult<TypePtr> {
    let element = Type::primitive_type_builder("element", PhysicalType::INT64)
        .with_repetition(Repetition::OPTIONAL)
        .build()?;
    let repeated = Type::group_type_builder("list")
        .with_repetition(Repetition::REPEATED)
        .with_fields(vec![Arc::new(element)])
        .build()?;
    let list = Type::group_type_builder(name)
        .with_repetition(Repetition::OPTIONAL)
        .with_converted_type(ConvertedType::LIST)
        .with_logical_type(Some(LogicalType::List))
        .with_fields(vec![Arc::new(repeated)]);
    list.build().map(Arc::new)
}
