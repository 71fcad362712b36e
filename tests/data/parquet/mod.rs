//! Parquet: rows in and out, refused files, and nothing lost in between.

mod documents;
mod frames;
mod malformed;
mod nested;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DataType, DoubleType, FixedLenByteArrayType, Int32Type, Int64Type,
    Int96, Int96Type,
};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use toedit::Result;
use toedit::data::{
    Arrival, Begin, Document, Inputs, OutputColumns, OutputWriter, Outputs, Patch, Payload, ReadOptions,
    WriteConfig,
};

/// A leaf column of a row group: values, and levels where the schema has them.
enum Leaf {
    Bool(Vec<bool>),
    Int32(Vec<i32>, Levels),
    Int64(Vec<i64>, Levels),
    Int96(Vec<Int96>),
    Double(Vec<f64>, Levels),
    Bytes(Vec<ByteArray>, Levels),
    Fixed(Vec<Vec<u8>>),
}

/// Definition and repetition levels; empty where there are none.
#[derive(Clone, Default)]
struct Levels(Vec<i16>, Vec<i16>);

impl Leaf {
    /// A column of strings that are always there.
    fn strings(values: &[&str]) -> Self {
        Self::Bytes(values.iter().map(|&value| value.into()).collect(), Levels::default())
    }

    /// A column of strings some of which are null.
    fn nullable(values: &[Option<&str>]) -> Self {
        let levels = values.iter().map(|value| i16::from(value.is_some())).collect();
        Self::Bytes(values.iter().flatten().map(|&value| value.into()).collect(), Levels(levels, Vec::new()))
    }

    fn write(&self, group: &mut SerializedRowGroupWriter<Vec<u8>>) {
        match self {
            Self::Bool(values) => put::<BoolType>(group, values, &Levels::default()),
            Self::Int32(values, levels) => put::<Int32Type>(group, values, levels),
            Self::Int64(values, levels) => put::<Int64Type>(group, values, levels),
            Self::Int96(values) => put::<Int96Type>(group, values, &Levels::default()),
            Self::Double(values, levels) => put::<DoubleType>(group, values, levels),
            Self::Bytes(values, levels) => put::<ByteArrayType>(group, values, levels),
            Self::Fixed(values) => {
                let values: Vec<_> = values.iter().map(|value| value.clone().into()).collect();
                put::<FixedLenByteArrayType>(group, &values, &Levels::default());
            }
        }
    }
}

fn put<T: DataType>(group: &mut SerializedRowGroupWriter<Vec<u8>>, values: &[T::T], levels: &Levels) {
    let mut column = group.next_column().unwrap().unwrap();
    let present = |levels: &Vec<i16>| !levels.is_empty();
    let definition = Some(&levels.0).filter(|levels| present(levels)).map(|levels| &levels[..]);
    let repetition = Some(&levels.1).filter(|levels| present(levels)).map(|levels| &levels[..]);
    column.typed::<T>().write_batch(values, definition, repetition).unwrap();
    column.close().unwrap();
}

/// A Parquet file with these row groups.
fn table_with(schema: &str, groups: &[Vec<Leaf>], properties: WriterProperties) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(&format!("message root {{ {schema} }}")).unwrap());
    let mut file = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties)).unwrap();
    for leaves in groups {
        let mut group = file.next_row_group().unwrap();
        leaves.iter().for_each(|leaf| leaf.write(&mut group));
        group.close().unwrap();
    }
    file.into_inner().unwrap()
}

fn table(schema: &str, groups: &[Vec<Leaf>]) -> Vec<u8> {
    table_with(schema, groups, WriterProperties::builder().build())
}

const TEXT: &str = "required binary text (UTF8);";

/// A file of one text column, a row group for each list.
fn texts_table(groups: &[&[&str]]) -> Vec<u8> {
    let groups: Vec<_> = groups.iter().map(|texts| vec![Leaf::strings(texts)]).collect();
    table(TEXT, &groups)
}

/// What a file holds, row by row, as the crate's own record reader shows it.
fn rows(path: &Path) -> Vec<String> {
    let reader = SerializedFileReader::new(std::fs::File::open(path).unwrap()).unwrap();
    reader.get_row_iter(None).unwrap().map(|row| row.unwrap().to_string()).collect()
}

fn arrivals(path: &Path, options: ReadOptions) -> Vec<Result<Arrival>> {
    Inputs::expand(&[path.to_owned()]).unwrap().documents(options).unwrap().arrivals().collect()
}

fn documents(path: &Path) -> Vec<Document> {
    let document = |arrival: Result<Arrival>| match arrival.unwrap() {
        Arrival::Document(document) => document,
        Arrival::Refused(refused) => panic!("{}", refused.error()),
    };
    arrivals(path, ReadOptions::default()).into_iter().map(document).collect()
}

fn config(begin: Begin, columns: OutputColumns) -> WriteConfig {
    WriteConfig { columns, ..WriteConfig::new(begin) }
}

/// Opens the writer of one output for one input.
fn writer(input: &Path, output: &Path, config: WriteConfig) -> Result<(Inputs, OutputWriter<u64>)> {
    let inputs = Inputs::expand(&[input.to_owned()])?;
    let outputs = Outputs::plan(&inputs, output, Payload::Documents)?;
    Ok((inputs, outputs.writer(config)?))
}

/// Copies records from `input` to `output`, refused ones as they are, with a patch for each document.
fn copy<'a>(
    input: &Path,
    output: &Path,
    config: WriteConfig,
    patch: impl Fn(&Document) -> Patch<'a>,
) -> Result<PathBuf> {
    let (inputs, mut writer) = writer(input, output, config)?;
    let documents = inputs.documents(ReadOptions::default())?.with_plan(writer.read_plan());
    for arrival in documents.arrivals() {
        match arrival? {
            Arrival::Document(document) => writer.write(&document, &patch(&document), &1)?,
            Arrival::Refused(refused) => writer.pass(&refused, &1)?,
        }
    }
    writer.finish()?;
    Ok(output.to_owned())
}

fn key_values() -> Option<Vec<KeyValue>> {
    Some(vec![KeyValue::new("owner".into(), "é".to_owned()), KeyValue::new("empty".into(), None)])
}

fn compressions() -> [Compression; 5] {
    [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(Default::default()),
        Compression::ZSTD(Default::default()),
        Compression::LZ4_RAW,
    ]
}
