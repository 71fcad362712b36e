//! A document: its content, where it came from, and how it is written back.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::format::Format;
use super::jsonl::Record;
use super::messages;
#[cfg(feature = "parquet")]
use super::parquet::Row;
use super::patch::{Member, Patch, quoted, splice};
use super::refused::{Mark, Refused, RefusedRow};
use super::shard::part::Line;
use crate::random::{ids_stream, text_stream};
use crate::{Error, Result};

/// What a document holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Text, decoded.
    Text(String),
    /// Token ids.
    Ids(Vec<u32>),
    /// A conversation: the raw JSON of the record's `messages`, an array.
    Messages(String),
}

/// One record of an input, with all that is needed to write it back.
#[derive(Debug)]
pub struct Document {
    pub(super) source: Arc<Path>,
    pub(super) line: Line,
    pub(super) mark: Mark,
    pub(super) content: Content,
    pub(super) origin: Origin,
}

/// What a document was read from.
#[derive(Debug)]
pub(super) enum Origin {
    Json(Box<Record>),
    /// A text file; the name under which its text goes into a JSON line.
    Text(Arc<str>),
    /// A row of a table.
    #[cfg(feature = "parquet")]
    Row(Box<Row>),
}

impl Document {
    /// A document from one JSON object: its text under `text_field`, or else ids under `input_ids`, or else `messages`.
    ///
    /// # Errors
    /// [`Error::Record`] (at `-`, line 1) if the object is malformed or holds none of them.
    pub fn from_json(line: impl Into<String>, text_field: &str) -> Result<Self> {
        let source: Arc<Path> = Path::new("-").into();
        let (record, content) = Record::parse(line.into(), text_field)
            .map_err(|(_, reason)| Error::Record { path: source.to_path_buf(), line: 1, reason })?;
        Ok(Self {
            source,
            line: 1.into(),
            mark: Mark::default(),
            content,
            origin: Origin::Json(Box::new(record)),
        })
    }

    /// A document from plain text, written as `{"text": …}` where JSON is asked for.
    pub fn from_text(text: impl Into<String>) -> Self {
        let (source, content) = (Path::new("-").into(), Content::Text(text.into()));
        let mark = Mark::default();
        Self { source, line: 1.into(), mark, content, origin: Origin::Text("text".into()) }
    }

    /// The file it was read from; `-` is standard input.
    pub fn source(&self) -> &Arc<Path> {
        &self.source
    }

    /// The number of that file among the inputs, from 0.
    pub fn file(&self) -> usize {
        self.mark.file
    }

    /// Its line in the decompressed file, from 1 (always 1 for a text file). Where a shard begins inside the file,
    /// the first call reads what lies before it.
    pub fn line(&self) -> u64 {
        self.line.in_file()
    }

    /// Its number among the records of its file, or of the shard's part of it, from 0. Those that could not be read are counted.
    pub fn index(&self) -> u64 {
        self.mark.records.saturating_sub(1)
    }

    /// How far reading had come with it.
    pub fn mark(&self) -> Mark {
        self.mark
    }

    /// Text or ids.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// The text, if the document is one.
    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Text(text) => Some(text),
            Content::Ids(_) | Content::Messages(_) => None,
        }
    }

    /// The token ids, if the document consists of them.
    pub fn ids(&self) -> Option<&[u32]> {
        match &self.content {
            Content::Ids(ids) => Some(ids),
            Content::Text(_) | Content::Messages(_) => None,
        }
    }

    /// The string under `name` in the record, decoded; `None` where there is no such member.
    ///
    /// # Errors
    /// [`Error::Record`] if it is no string.
    pub fn string_member(&self, name: &str) -> Result<Option<String>> {
        match &self.origin {
            Origin::Json(record) => record.string(name).map_err(|reason| self.error(reason)),
            #[cfg(feature = "parquet")]
            Origin::Row(row) => row.string(name).map_err(|reason| self.error(reason)),
            Origin::Text(_) => Ok(None),
        }
    }

    /// The raw JSON of the record's member `name`; `None` where there is no such member.
    ///
    /// # Errors
    /// [`Error::Record`] if there are two.
    pub fn member(&self, name: &str) -> Result<Option<Cow<'_, str>>> {
        let member = match &self.origin {
            Origin::Json(record) => record.member(name).map(|raw| raw.map(Cow::Borrowed)),
            #[cfg(feature = "parquet")]
            Origin::Row(row) => row.member(name).map(|raw| raw.map(Cow::Owned)),
            Origin::Text(_) => Ok(None),
        };
        member.map_err(|reason| self.error(reason))
    }

    /// The prompt under `prompt_field` and the document's text behind it, as one, and the text's range in it.
    ///
    /// # Errors
    /// [`Error::Record`] if there is no such string, or no text.
    pub fn prompted(&self, prompt_field: &str) -> Result<(String, Range<usize>)> {
        let prompt = self.string_member(prompt_field)?;
        let missing = || self.error(format!("field `{prompt_field}` not found, the prompt of the text"));
        let mut text = prompt.ok_or_else(missing)?;
        let start = text.len();
        text.push_str(self.text().ok_or_else(|| self.error("no text behind the prompt"))?);
        let range = start..text.len();
        Ok((text, range))
    }

    /// The raw JSON of the record's `id`.
    pub fn id(&self) -> Option<&str> {
        match &self.origin {
            Origin::Json(record) => record.id(),
            #[cfg(feature = "parquet")]
            Origin::Row(row) => row.id(),
            Origin::Text(_) => None,
        }
    }

    /// The raw JSON of the `toedit` object that an earlier run left in the record.
    pub fn metadata(&self) -> Option<&str> {
        match &self.origin {
            Origin::Json(record) => record.metadata(),
            #[cfg(feature = "parquet")]
            Origin::Row(row) => row.metadata(),
            Origin::Text(_) => None,
        }
    }

    /// The raw JSON of the record's `input_ids`, which a document of text may have too.
    pub fn raw_ids(&self) -> Option<&str> {
        match &self.origin {
            Origin::Json(record) => record.ids(),
            #[cfg(feature = "parquet")]
            Origin::Row(row) => row.ids(),
            Origin::Text(_) => None,
        }
    }

    /// Bytes of the record and of the content decoded from it: about what the document takes in memory.
    pub fn bytes(&self) -> usize {
        let content = match &self.content {
            Content::Text(text) | Content::Messages(text) => text.len(),
            Content::Ids(ids) => size_of_val(&ids[..]),
        };
        match &self.origin {
            Origin::Json(record) => record.len() + content,
            #[cfg(feature = "parquet")]
            Origin::Row(row) => row.weight() + content,
            Origin::Text(_) => content,
        }
    }

    /// The document with `patch` applied, as `format` writes it: a JSON object without a line's end, in which
    /// only the bytes of what was changed differ from the input, or bare text, which leaves everything else
    /// out.
    ///
    /// # Errors
    /// [`Error::Record`] if an edit does not fit the text, or if there is no text where text is asked for.
    pub fn render(&self, patch: &Patch, format: Format) -> Result<Vec<u8>> {
        let rendered = match (format, &self.origin) {
            (Format::JsonLines, Origin::Json(record)) => record.patched(patch),
            #[cfg(feature = "parquet")]
            (Format::JsonLines, Origin::Row(row)) => row.patched(patch),
            (Format::JsonLines, Origin::Text(field)) => self.as_record(field, patch),
            (Format::Text, _) => self.as_text(patch),
            (Format::Parquet, _) => Err("a row of Parquet stands in its file alone".into()),
        };
        rendered.map_err(|reason| self.error(reason))
    }

    /// An error about this document, naming file and line.
    pub fn error(&self, reason: impl Into<String>) -> Error {
        self.line.error(&self.source, reason.into())
    }

    /// The document after the edits of `patch`, as it would be read where [`Document::render`] wrote it as a JSON line. Its
    /// place in its file stays.
    ///
    /// # Errors
    /// As [`Document::render`].
    pub fn edited(&self, patch: &Patch) -> Result<Self> {
        let edited = match &self.origin {
            Origin::Json(record) => {
                record.edited(patch).map(|(record, content)| (content, Origin::Json(record)))
            }
            #[cfg(feature = "parquet")]
            Origin::Row(row) => {
                row.edited(patch, &self.content).map(|(row, content)| (content, Origin::Row(Box::new(row))))
            }
            Origin::Text(field) => self.as_text(patch).map(|text| {
                let text = String::from_utf8_lossy(&text).into_owned();
                (Content::Text(text), Origin::Text(field.clone()))
            }),
        };
        let (content, origin) = edited.map_err(|reason| self.error(reason))?;
        let (source, line, mark) = (self.source.clone(), self.line.clone(), self.mark);
        Ok(Self { source, line, mark, content, origin })
    }

    /// The document as a record that is not used, with what [`Document::error`] or the like says about it.
    pub fn refuse(self, error: &Error) -> Refused {
        let reason = match error {
            Error::Record { reason, .. } => reason.clone(),
            other => other.to_string(),
        };
        let (format, raw, row) = match (self.origin, self.content) {
            (Origin::Json(record), _) => (Format::JsonLines, record.into_line(), RefusedRow::default()),
            #[cfg(feature = "parquet")]
            (Origin::Row(row), _) => (Format::JsonLines, row.object(), Some(row)),
            (Origin::Text(_), Content::Text(text) | Content::Messages(text)) => {
                (Format::Text, text, RefusedRow::default())
            }
            (Origin::Text(_), Content::Ids(_)) => (Format::Text, String::new(), RefusedRow::default()),
        };
        let (source, line, mark) = (self.source, self.line, self.mark);
        Refused { source, line, mark, reason, raw: raw.into_bytes(), is_cut: false, format, row }
    }

    fn as_record(&self, field: &str, patch: &Patch) -> Result<Vec<u8>, String> {
        let text = self.text().unwrap_or_default();
        let line = format!("{{{}:{}}}", quoted(field), quoted(text));
        let (record, _) = Record::parse(line, field).map_err(|(_, reason)| reason)?;
        record.patched(patch)
    }

    fn as_text(&self, patch: &Patch) -> Result<Vec<u8>, String> {
        match (&self.content, patch.text) {
            (Content::Ids(_) | Content::Messages(_), _) | (_, Member::Remove) => {
                Err("a text file can hold text only, not ids or messages".into())
            }
            (Content::Text(text), Member::Set(edits)) => splice(text, edits).map(String::into_bytes),
            (Content::Text(text), Member::Keep) => Ok(text.clone().into_bytes()),
        }
    }
}

/// The stream of the random number generator that belongs to a document: see [`crate::random::text_stream`] and
/// [`crate::random::ids_stream`]. The text of a conversation is what [`messages::canonical`] makes of it, so that neither
/// the spelling of its JSON nor a template plays a part.
pub fn stream_key(document: &Document) -> u64 {
    match document.content() {
        Content::Text(text) => text_stream(text, document.id()),
        Content::Messages(raw) => text_stream(&messages::canonical(raw), document.id()),
        Content::Ids(ids) => ids_stream(ids, document.id()),
    }
}
