//! Rows as documents: their content, the columns that mean something, and the whole as a JSON object.

use std::ops::Range;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::json;
use super::leaf::{Leaf, Values};
use super::scalar::is_unsigned;
use super::table::Table;
use super::{IDS, METADATA};
use crate::data::document::Content;
use crate::data::jsonl::with_members;
use crate::data::messages;
use crate::data::patch::{Member, Patch, quoted, splice};

/// Some rows of a file.
pub(super) struct Batch {
    pub table: Arc<Table>,
    pub leaves: Vec<Leaf>,
    pub rows: usize,
}

/// One row, and what a document is asked for beside its content.
pub(in crate::data) struct Row {
    pub(super) batch: Arc<Batch>,
    pub(super) row: usize,
    /// Bytes of the row, roughly.
    weight: usize,
    id: Option<String>,
    metadata: Option<String>,
    ids: Option<String>,
    /// What an earlier round of editing has made of it.
    changed: Cells,
}

/// What becomes of the cells that an edit is about.
#[derive(Clone, Default)]
pub(super) struct Cells {
    pub text: Member<String>,
    /// Raw JSON, where a message was edited.
    pub messages: Option<String>,
    pub ids: Member<Vec<u32>>,
    pub metadata: Member<String>,
}

impl Batch {
    /// The leaves of a column.
    pub fn leaves(&self, column: usize) -> &[Leaf] {
        let leaves: Range<usize> = self.table.columns[column].leaves.clone();
        &self.leaves[leaves]
    }

    /// The leaf of a column that has one alone.
    pub fn leaf(&self, column: usize) -> &Leaf {
        &self.leaves[self.table.columns[column].leaves.start]
    }

    fn name(&self, column: usize) -> &str {
        self.table.columns[column].kind.name()
    }

    /// A cell as JSON.
    fn cell(&self, column: usize, row: usize) -> Result<String, String> {
        json::cell(&self.table.columns[column].kind, self.leaves(column), row)
            .map_err(|reason| format!("column `{}`: {reason}", self.name(column)))
    }

    /// The string in a column, if there is one in this row.
    pub fn text(&self, column: usize, row: usize) -> Result<Option<&str>, String> {
        let Some(bytes) = self.leaf(column).bytes(row) else { return Ok(None) };
        std::str::from_utf8(bytes.data()).map(Some).map_err(|error| {
            format!(
                "column `{}`: invalid utf-8 (byte {} of the value)",
                self.name(column),
                error.valid_up_to() + 1
            )
        })
    }

    /// The ids in a column, if there is a list in this row.
    fn ids(&self, column: usize, row: usize) -> Result<Option<Vec<u32>>, String> {
        let leaf = self.leaf(column);
        let (start, end) = leaf.places(row);
        let present = leaf.column.repeated_ancestor_def_level();
        match leaf.definition.get(start.level..end.level) {
            Some(&[level]) if level + 1 < present => return Ok(None),
            Some(&[level]) if level < present => return Ok(Some(Vec::new())),
            _ => {}
        }
        let failed = |place: usize, found: String| {
            let name = self.name(column);
            format!("column `{name}`: element {place} is {found}, expected a token id from 0 to {}", u32::MAX)
        };
        if end.value - start.value < end.level - start.level {
            let levels = &leaf.definition[start.level..end.level];
            let place = levels.iter().position(|&level| level < leaf.column.max_def_level());
            return Err(failed(place.unwrap_or_default(), "null".into()));
        }
        let is_signed = !is_unsigned(&leaf.column);
        let place = start.value..end.value;
        let ids = match &leaf.values {
            Values::Int32(values) if is_signed => values[place].iter().map(|&id| i128::from(id)).collect(),
            Values::Int32(values) => values[place].iter().map(|&id| i128::from(id as u32)).collect(),
            Values::Int64(values) if is_signed => values[place].iter().map(|&id| i128::from(id)).collect(),
            Values::Int64(values) => values[place].iter().map(|&id| i128::from(id as u64)).collect(),
            _ => Vec::new(),
        };
        let checked = ids
            .iter()
            .enumerate()
            .map(|(place, id)| u32::try_from(*id).map_err(|_| failed(place, id.to_string())));
        checked.collect::<Result<_, _>>().map(Some)
    }

    /// What row `row` holds: the first of text, ids and messages that is not null.
    fn content(&self, row: usize) -> Result<Content, String> {
        let columns = &self.table.content;
        if let Some(text) = columns.text.map(|text| self.text(text, row)).transpose()?.flatten() {
            return Ok(Content::Text(text.to_owned()));
        }
        if let Some(ids) = columns.ids.map(|ids| self.ids(ids, row)).transpose()?.flatten() {
            return Ok(Content::Ids(ids));
        }
        let messages = columns.messages.map(|messages| self.cell(messages, row)).transpose()?;
        if let Some(messages) = messages.filter(|messages| messages.starts_with('[')) {
            return Ok(Content::Messages(messages));
        }
        let column = columns.text.or(columns.ids).or(columns.messages).unwrap_or_default();
        Err(format!("column `{}` is null", self.name(column)))
    }

    /// About how many bytes a row takes; the same for the same content.
    pub fn weight(&self, row: usize) -> usize {
        self.leaves.iter().map(|leaf| leaf.weight(row)).sum()
    }

    /// Appends what a row consists of, as it lies in the file.
    pub fn append_raw(&self, row: usize, raw: &mut Vec<u8>) {
        self.leaves.iter().for_each(|leaf| leaf.append_raw(row, raw));
    }

    /// A row that is no document.
    pub fn bare(self: &Arc<Self>, row: usize) -> Row {
        let (batch, weight) = (self.clone(), self.weight(row));
        Row { batch, row, weight, id: None, metadata: None, ids: None, changed: Cells::default() }
    }

    /// A document from row `row`, or why it is none.
    pub fn document(self: &Arc<Self>, row: usize, limit: usize) -> Result<(Content, Row), String> {
        let table = &self.table;
        let weight = self.weight(row);
        if let Some(bytes) = table.content.text.and_then(|text| self.leaf(text).bytes(row))
            && bytes.len() > limit
        {
            return Err(format!(
                "text of more than {limit} bytes, the limit for one document (--max-document-bytes raises it)"
            ));
        }
        let content = self.content(row)?;
        let present = |cell: &String| cell != "null";
        let id = table.id.map(|id| self.cell(id, row)).transpose()?.filter(present);
        let metadata = table.metadata.map(|metadata| self.text(metadata, row)).transpose()?.flatten();
        let beside = table.content.ids.filter(|_| matches!(content, Content::Text(_)));
        let ids = beside.map(|ids| self.cell(ids, row)).transpose()?.filter(present);
        let metadata = metadata.map(str::to_owned);
        let changed = Cells::default();
        Ok((content, Row { batch: self.clone(), row, weight, id, metadata, ids, changed }))
    }

    /// A row as a JSON object whose members are the columns in their order, with these cells.
    fn object(&self, row: usize, cells: &Cells) -> Result<String, String> {
        let (table, content) = (&self.table, &self.table.content);
        let mut members = Vec::with_capacity(table.columns.len() + 2);
        let mut add = |name: &str, json: &str| members.push(format!("{}:{json}", quoted(name)));
        for column in 0..table.columns.len() {
            let is = |role: Option<usize>| role == Some(column);
            let json = match (&cells.text, &cells.ids, &cells.metadata, &cells.messages) {
                (Member::Remove, ..) if is(content.text) => None,
                (Member::Set(text), ..) if is(content.text) => Some(quoted(text)),
                (_, Member::Remove, ..) if is(content.ids) => None,
                (_, Member::Set(ids), ..) if is(content.ids) => Some(array(ids)),
                (_, _, Member::Remove | Member::Set(_), _) if is(table.metadata) => None,
                (.., Some(messages)) if is(content.messages) => Some(messages.clone()),
                _ if is(table.metadata) => Some(self.metadata_object(column, row)?),
                _ => Some(self.cell(column, row)?),
            };
            if let Some(json) = json {
                add(self.name(column), &json);
            }
        }
        if let (None, Member::Set(ids)) = (content.ids, &cells.ids) {
            add(IDS, &array(ids));
        }
        if let Member::Set(metadata) = &cells.metadata {
            add(METADATA, metadata);
        }
        Ok(format!("{{{}}}", members.join(",")))
    }

    /// What stands in the column `toedit`: the object that it was before it went into a column.
    fn metadata_object(&self, column: usize, row: usize) -> Result<String, String> {
        let is_line =
            |text: &&str| serde_json::from_str::<&RawValue>(text).is_ok() && !text.contains(['\n', '\r']);
        match self.text(column, row).ok().flatten().filter(is_line) {
            Some(object) => Ok(object.to_owned()),
            None => self.cell(column, row),
        }
    }
}

impl Row {
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    pub fn metadata(&self) -> Option<&str> {
        self.metadata.as_deref()
    }

    pub fn ids(&self) -> Option<&str> {
        self.ids.as_deref()
    }

    pub fn weight(&self) -> usize {
        self.weight
    }

    /// The string in the column `name`, where there is such a column.
    pub fn string(&self, name: &str) -> Result<Option<String>, String> {
        let Some(json) = self.member(name)? else { return Ok(None) };
        let expected = |_| format!("column `{name}`: expected a string");
        serde_json::from_str::<Option<String>>(&json).map_err(expected)
    }

    /// The value in the column `name` as JSON.
    pub fn member(&self, name: &str) -> Result<Option<String>, String> {
        let column = self.batch.table.position(name);
        column.map(|column| self.batch.cell(column, self.row)).transpose()
    }

    /// The row as a JSON object; nothing where its columns contradict each other.
    pub fn object(&self) -> String {
        self.batch.object(self.row, &self.changed).unwrap_or_default()
    }

    /// The row with `patch` applied, as a JSON object.
    pub fn patched(&self, patch: &Patch) -> Result<Vec<u8>, String> {
        let object = self.batch.object(self.row, &self.cells(patch)?)?;
        if patch.members.is_empty() { Ok(object.into_bytes()) } else { with_members(&object, patch.members) }
    }

    /// The row after the edits of `patch`, and its content.
    pub fn edited(&self, patch: &Patch, content: &Content) -> Result<(Self, Content), String> {
        let changed = self.cells(patch)?;
        let content = match (content, &changed) {
            (Content::Text(_), Cells { text: Member::Set(text), .. }) => Content::Text(text.clone()),
            (Content::Ids(_), Cells { ids: Member::Set(ids), .. }) => Content::Ids(ids.clone()),
            (Content::Messages(_), Cells { messages: Some(messages), .. }) => {
                Content::Messages(messages.clone())
            }
            (content, _) => content.clone(),
        };
        let metadata = match &changed.metadata {
            Member::Keep => self.metadata.clone(),
            Member::Set(metadata) => Some(metadata.clone()),
            Member::Remove => None,
        };
        let ids = match &changed.ids {
            Member::Keep => self.ids.clone(),
            Member::Set(ids) => Some(array(ids)),
            Member::Remove => None,
        };
        let (batch, row, weight, id) = (self.batch.clone(), self.row, self.weight, self.id.clone());
        Ok((Self { batch, row, weight, id, metadata, ids, changed }, content))
    }

    /// What `patch` makes of the cells, after what was done to them before.
    pub(super) fn cells(&self, patch: &Patch) -> Result<Cells, String> {
        let Self { batch, row, changed, .. } = self;
        let columns = &batch.table.content;
        let text = match (patch.text, &changed.text) {
            (Member::Remove, _) => Member::Remove,
            (Member::Keep, text) => text.clone(),
            (Member::Set(edits), Member::Set(text)) => Member::Set(splice(text, edits)?),
            (Member::Set(edits), _) => {
                let text = columns.text.map(|column| batch.text(column, *row)).transpose()?.flatten();
                Member::Set(splice(text.ok_or("the row has no text to edit")?, edits)?)
            }
        };
        let messages = match (patch.messages, &changed.messages) {
            ([], messages) => messages.clone(),
            (edits, Some(raw)) => Some(messages::edited(raw, edits)?),
            (edits, None) => {
                let column = columns.messages.ok_or("the row has no messages to edit")?;
                Some(messages::edited(&batch.cell(column, *row)?, edits)?)
            }
        };
        let ids = match patch.ids {
            Member::Keep => changed.ids.clone(),
            Member::Set(ids) => Member::Set(ids.to_vec()),
            Member::Remove => Member::Remove,
        };
        let metadata = match patch.metadata {
            Member::Keep => changed.metadata.clone(),
            Member::Set(metadata) => Member::Set(metadata.to_owned()),
            Member::Remove => Member::Remove,
        };
        Ok(Cells { text, messages, ids, metadata })
    }
}

impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "row {} of a batch of {}", self.row, self.batch.table.path.display())
    }
}

fn array(ids: &[u32]) -> String {
    serde_json::to_string(ids).expect("integers always have a JSON form")
}
