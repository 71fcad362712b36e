//! One leaf column of some rows, as it lies in the file: values of their physical type, and levels. Nothing is converted,
//! so that what is not edited comes out as it went in.

use std::ops::Range;

use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::column::writer::{ColumnWriter, ColumnWriterImpl};
use parquet::data_type::{AsBytes, ByteArray, ByteArrayType, DataType, FixedLenByteArray, Int96};
use parquet::errors::{ParquetError, Result};
use parquet::schema::types::ColumnDescPtr;

/// A leaf column of a batch of rows.
pub(super) struct Leaf {
    pub column: ColumnDescPtr,
    /// How much of the path to each value is there; empty where all of it always is.
    pub definition: Vec<i16>,
    /// On which level each value repeats; empty where none can.
    pub repetition: Vec<i16>,
    pub values: Values,
    /// Where each row begins, and the end of the last.
    starts: Vec<Start>,
}

/// Values that are not null, one after the other.
pub(super) enum Values {
    Bool(Vec<bool>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Int96(Vec<Int96>),
    Float(Vec<f32>),
    Double(Vec<f64>),
    Bytes(Vec<ByteArray>),
    Fixed(Vec<FixedLenByteArray>),
}

/// A place among levels and values.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Start {
    pub level: usize,
    pub value: usize,
}

impl Leaf {
    /// The next `rows` rows of a column chunk.
    pub fn read(reader: &mut ColumnReader, column: &ColumnDescPtr, rows: usize) -> Result<Self> {
        let mut levels = Levels { rows, ..Levels::default() };
        let values = match reader {
            ColumnReader::BoolColumnReader(reader) => Values::Bool(levels.fill(reader)?),
            ColumnReader::Int32ColumnReader(reader) => Values::Int32(levels.fill(reader)?),
            ColumnReader::Int64ColumnReader(reader) => Values::Int64(levels.fill(reader)?),
            ColumnReader::Int96ColumnReader(reader) => Values::Int96(levels.fill(reader)?),
            ColumnReader::FloatColumnReader(reader) => Values::Float(levels.fill(reader)?),
            ColumnReader::DoubleColumnReader(reader) => Values::Double(levels.fill(reader)?),
            ColumnReader::ByteArrayColumnReader(reader) => Values::Bytes(levels.fill(reader)?),
            ColumnReader::FixedLenByteArrayColumnReader(reader) => Values::Fixed(levels.fill(reader)?),
        };
        Self::new(column.clone(), levels.definition, levels.repetition, values, rows)
    }

    /// A column of `rows` rows from its parts.
    pub fn new(
        column: ColumnDescPtr,
        definition: Vec<i16>,
        repetition: Vec<i16>,
        values: Values,
        rows: usize,
    ) -> Result<Self> {
        let (is_optional, is_repeated) = (column.max_def_level() > 0, column.max_rep_level() > 0);
        let levels = if is_optional { definition.len() } else { values.len() };
        let mut starts = Vec::with_capacity(rows + 1);
        let mut value = 0;
        for level in 0..levels {
            if !is_repeated || repetition.get(level) == Some(&0) {
                starts.push(Start { level, value });
            }
            value += usize::from(definition.get(level).is_none_or(|&level| level == column.max_def_level()));
        }
        starts.push(Start { level: levels, value });
        let agree = starts.len() == rows + 1
            && starts[0].level == 0
            && value == values.len()
            && (!is_repeated || repetition.len() == levels);
        if !agree {
            let path = column.path().string();
            return Err(ParquetError::General(format!(
                "column `{path}`: its values, levels and {rows} rows do not agree"
            )));
        }
        Ok(Self { column, definition, repetition, values, starts })
    }

    /// Where `row` begins and ends.
    pub fn places(&self, row: usize) -> (Start, Start) {
        (self.starts[row], self.starts[row + 1])
    }

    /// The bytes of a column that holds at most one value a row, if the row has one.
    pub fn bytes(&self, row: usize) -> Option<&ByteArray> {
        let (start, end) = self.places(row);
        match &self.values {
            Values::Bytes(values) if end.value > start.value => values.get(start.value),
            _ => None,
        }
    }

    /// About how many bytes a row takes; the same for the same content.
    pub fn weight(&self, row: usize) -> usize {
        let (start, end) = self.places(row);
        let values = start.value..end.value;
        let fixed = values.len() * self.values.width();
        let variable: usize = match &self.values {
            Values::Bytes(all) => all[values].iter().map(ByteArray::len).sum(),
            Values::Fixed(all) => all[values].iter().map(|value| value.len()).sum(),
            _ => 0,
        };
        fixed + variable + (end.level - start.level)
    }

    /// Appends a row's levels and values as bytes, from which they could be told.
    pub fn append_raw(&self, row: usize, raw: &mut Vec<u8>) {
        let (start, end) = self.places(row);
        for levels in [&self.definition, &self.repetition] {
            let levels = levels.get(start.level..end.level).unwrap_or_default();
            raw.extend(levels.iter().flat_map(|level| level.to_le_bytes()));
        }
        raw.extend(((end.level - start.level) as u64).to_le_bytes());
        let place = start.value..end.value;
        match &self.values {
            Values::Bool(values) => append(&values[place], raw),
            Values::Int32(values) => append(&values[place], raw),
            Values::Int64(values) => append(&values[place], raw),
            Values::Int96(values) => append(&values[place], raw),
            Values::Float(values) => append(&values[place], raw),
            Values::Double(values) => append(&values[place], raw),
            Values::Bytes(values) => append(&values[place], raw),
            Values::Fixed(values) => append(&values[place], raw),
        }
    }

    /// Appends some rows to a column of the same type.
    pub fn write(&self, rows: Range<usize>, writer: &mut ColumnWriter) -> Result<()> {
        match (&self.values, writer) {
            (Values::Bool(values), ColumnWriter::BoolColumnWriter(writer)) => self.put(values, rows, writer),
            (Values::Int32(values), ColumnWriter::Int32ColumnWriter(writer)) => {
                self.put(values, rows, writer)
            }
            (Values::Int64(values), ColumnWriter::Int64ColumnWriter(writer)) => {
                self.put(values, rows, writer)
            }
            (Values::Int96(values), ColumnWriter::Int96ColumnWriter(writer)) => {
                self.put(values, rows, writer)
            }
            (Values::Float(values), ColumnWriter::FloatColumnWriter(writer)) => {
                self.put(values, rows, writer)
            }
            (Values::Double(values), ColumnWriter::DoubleColumnWriter(writer)) => {
                self.put(values, rows, writer)
            }
            (Values::Bytes(values), ColumnWriter::ByteArrayColumnWriter(writer)) => {
                self.put(values, rows, writer)
            }
            (Values::Fixed(values), ColumnWriter::FixedLenByteArrayColumnWriter(writer)) => {
                self.put(values, rows, writer)
            }
            _ => {
                let path = self.column.path().string();
                Err(ParquetError::General(format!("column `{path}` is written as another type than it has")))
            }
        }
    }

    /// Appends a row of a list of strings with others in their place, by their number in the list.
    pub fn write_replaced(
        &self,
        row: usize,
        strings: &[Option<ByteArray>],
        writer: &mut ColumnWriter,
    ) -> Result<()> {
        let disagree = || ParquetError::General("the strings of a list do not agree with its levels".into());
        let (start, end) = self.places(row);
        let levels = start.level..end.level;
        let is_there = |level: &usize| self.definition[*level] == self.column.max_def_level();
        let places = levels.clone().filter(is_there).map(|level| strings.get(level - start.level));
        let values = places.map(|string| string.cloned().flatten().ok_or_else(disagree));
        let values = values.collect::<Result<Vec<_>>>()?;
        let writer = ByteArrayType::get_column_writer_mut(writer).ok_or_else(disagree)?;
        let (definition, repetition) = (&self.definition[levels.clone()], &self.repetition[levels]);
        writer.write_batch(&values, Some(definition), Some(repetition)).map(drop)
    }

    fn put<T: DataType>(
        &self,
        values: &[T::T],
        rows: Range<usize>,
        writer: &mut ColumnWriterImpl<T>,
    ) -> Result<()> {
        let (start, end) = (self.starts[rows.start], self.starts[rows.end]);
        let levels = start.level..end.level;
        let definition = (!self.definition.is_empty()).then(|| &self.definition[levels.clone()]);
        let repetition = (!self.repetition.is_empty()).then(|| &self.repetition[levels]);
        writer.write_batch(&values[start.value..end.value], definition, repetition).map(drop)
    }
}

/// Each value with its length.
fn append<T: AsBytes>(values: &[T], raw: &mut Vec<u8>) {
    for value in values {
        let bytes = value.as_bytes();
        raw.extend((bytes.len() as u64).to_le_bytes());
        raw.extend_from_slice(bytes);
    }
}

impl Values {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Bool(values) => values.len(),
            Self::Int32(values) => values.len(),
            Self::Int64(values) => values.len(),
            Self::Int96(values) => values.len(),
            Self::Float(values) => values.len(),
            Self::Double(values) => values.len(),
            Self::Bytes(values) => values.len(),
            Self::Fixed(values) => values.len(),
        }
    }

    /// Bytes of each, beside the content of those of variable length.
    fn width(&self) -> usize {
        match self {
            Self::Bool(_) => 1,
            Self::Int32(_) | Self::Float(_) | Self::Bytes(_) => 4,
            Self::Int64(_) | Self::Double(_) => 8,
            Self::Int96(_) => 12,
            Self::Fixed(_) => 0,
        }
    }
}

/// Levels in the making.
#[derive(Default)]
struct Levels {
    rows: usize,
    definition: Vec<i16>,
    repetition: Vec<i16>,
}

impl Levels {
    /// Reads the rows' levels, and gives their values.
    fn fill<T: DataType>(&mut self, reader: &mut ColumnReaderImpl<T>) -> Result<Vec<T::T>> {
        let mut values = Vec::new();
        let levels = (Some(&mut self.definition), Some(&mut self.repetition));
        let (rows, ..) = reader.read_records(self.rows, levels.0, levels.1, &mut values)?;
        if rows == self.rows {
            return Ok(values);
        }
        Err(ParquetError::EOF(format!("a column ends {} rows before its row group", self.rows - rows)))
    }
}
