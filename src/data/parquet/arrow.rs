//! The schema that Arrow leaves in a file's metadata: it knows types that Parquet does not, and must name the columns that
//! are there.

use std::sync::Arc;

use arrow_ipc::convert::try_schema_from_ipc_buffer;
use arrow_ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteOptions};
use arrow_schema::{DataType, Field, FieldRef, Fields, Schema};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use parquet::file::metadata::KeyValue;

use super::layout::{Layout, Source};
use super::table::Table;
use super::{IDS, METADATA};

/// Its name among the key-value pairs.
const KEY: &str = "ARROW:schema";

/// Makes Arrow's schema in `pairs`, that of `table`, one of `layout`. One that does not fit its table is left out: readers
/// then go by Parquet's own.
pub(super) fn update(pairs: &mut Vec<KeyValue>, table: &Table, layout: &Layout) {
    for pair in pairs.iter_mut().filter(|pair| pair.key == KEY) {
        pair.value = pair.value.as_deref().and_then(|value| updated(value, table, layout));
        if pair.value.is_none() {
            tracing::warn!("{}: its Arrow schema cannot be used and is left out", table.path.display());
        }
    }
    pairs.retain(|pair| pair.key != KEY || pair.value.is_some());
}

fn updated(value: &str, table: &Table, layout: &Layout) -> Option<String> {
    let bytes = BASE64_STANDARD.decode(value).ok()?;
    let schema = try_schema_from_ipc_buffer(&bytes).ok()?;
    let names = |(field, column): (&FieldRef, &super::table::Column)| field.name() == column.kind.name();
    let fits =
        schema.fields().len() == table.columns.len() && schema.fields().iter().zip(&table.columns).all(names);
    if !fits {
        return None;
    }
    let field = |source: &Source| match source {
        Source::Column(number) | Source::Messages(number) => schema.fields().get(*number).cloned(),
        Source::Text => schema.fields().get(table.content.text?).cloned(),
        Source::Ids => match table.content.ids {
            Some(number) => schema.fields().get(number).cloned(),
            None => Some(Arc::new(Field::new_list(IDS, Field::new("element", DataType::Int64, true), true))),
        },
        Source::Json | Source::Metadata => Some(Arc::new(Field::new(METADATA, DataType::Utf8, true))),
    };
    let fields: Option<Fields> = layout.sources.iter().map(field).collect();
    Some(encode(&Schema::new_with_metadata(fields?, schema.metadata().clone())))
}

/// A message of Arrow's stream format, with its marker and length.
fn encode(schema: &Schema) -> String {
    let mut tracker = DictionaryTracker::new(true);
    let encoded = IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(
        schema,
        &mut tracker,
        &IpcWriteOptions::default(),
    );
    let message = encoded.ipc_message;
    // A schema of more than 4 GB has not come out of a footer.
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_le_bytes();
    BASE64_STANDARD.encode([&[0xff; 4], &length[..], &message].concat())
}
