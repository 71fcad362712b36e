//! One JSON object on a line: found where its members stand, decoded only where it is read, patched in place.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::document::Content;
use super::messages::{self, MessageEdits};
use super::patch::{Member, Patch, Splice, TextEdit, apply, quoted, raw_splices};

/// Characters of a parser's message that are shown.
const MESSAGE: usize = 200;

/// A record's line and where the members lie that the program knows; all others stay unread bytes.
#[derive(Debug)]
pub(super) struct Record {
    line: String,
    /// The name of the text's member.
    field: Box<str>,
    spans: Spans,
}

/// Where the known members of an object stand.
#[derive(Debug, Default)]
struct Spans {
    text: Option<Span>,
    ids: Option<Span>,
    messages: Option<Span>,
    id: Option<Span>,
    metadata: Option<Span>,
    /// How many members there are.
    count: usize,
    /// Where the last member's value ends, or just inside the brace of an empty object.
    end: usize,
}

/// One member of an object.
#[derive(Clone, Debug)]
struct Span {
    /// Its number among the members, from 0.
    number: usize,
    /// First byte of its key.
    key: usize,
    value: Range<usize>,
    /// Where the value of the member before it ends.
    previous: usize,
}

impl Record {
    /// Finds the members of `line`, which is one JSON object, and decodes the text under `field` or else the
    /// ids or the messages. A line that is no such record comes back with the reason.
    pub fn parse(line: String, field: &str) -> Result<(Self, Content), (String, String)> {
        let content = Spans::find(&line, field)
            .and_then(|spans| spans.content(&line, field).map(|content| (spans, content)));
        match content {
            Ok((spans, content)) => Ok((Self { line, field: field.into(), spans }, content)),
            Err(reason) => Err((line, reason)),
        }
    }

    /// Bytes of the line.
    pub fn len(&self) -> usize {
        self.line.len()
    }

    /// The line as it was read.
    pub fn into_line(self) -> String {
        self.line
    }

    /// The line without its text, its metadata and, unless they are to be kept, its ids; none where nothing is left. Its
    /// messages are edited, other members are set.
    #[cfg(feature = "parquet")]
    pub fn rest(&self, keep_ids: bool, patch: &Patch) -> Result<Option<Vec<u8>>, String> {
        let ids = if keep_ids { Member::Keep } else { Member::Remove };
        let patch = Patch { text: Member::Remove, ids, metadata: Member::Remove, ..*patch };
        if patch.members.is_empty() && self.spans.removed(&patch).len() == self.spans.count {
            return Ok(None);
        }
        Ok(Some(self.patched(&patch)?.trim_ascii().to_vec()))
    }

    /// The raw JSON of the member `id`.
    pub fn id(&self) -> Option<&str> {
        self.spans.id.as_ref().map(|span| &self.line[span.value.clone()])
    }

    /// The string under `name`, decoded.
    pub fn string(&self, name: &str) -> Result<Option<String>, String> {
        Spans::find(&self.line, name)?.string(&self.line, name)
    }

    /// The raw JSON of the member `name`.
    pub fn member(&self, name: &str) -> Result<Option<&str>, String> {
        let span = Spans::find(&self.line, name)?.text;
        Ok(span.map(|span| &self.line[span.value]))
    }

    /// The raw JSON of the member `input_ids`.
    pub fn ids(&self) -> Option<&str> {
        self.spans.ids.as_ref().map(|span| &self.line[span.value.clone()])
    }

    /// The raw JSON of the member `toedit`.
    pub fn metadata(&self) -> Option<&str> {
        self.spans.metadata.as_ref().map(|span| &self.line[span.value.clone()])
    }

    /// The line with `patch` applied, or what does not fit.
    pub fn patched(&self, patch: &Patch) -> Result<Vec<u8>, String> {
        let spans = &self.spans;
        let mut splices = self.text_splices(patch.text)?;
        splices.extend(self.message_splices(patch.messages)?);
        let mut added = Vec::new();
        if let Member::Set(ids) = patch.ids {
            let array = id_array(ids);
            match &spans.ids {
                Some(span) => splices.push(Splice { range: span.value.clone(), new: array }),
                None => added.push(format!("\"input_ids\":{array}")),
            }
        }
        let (replaced, new) = member_splices(&self.line, patch.members)?;
        splices.extend(replaced);
        added.extend(new);
        if let Member::Set(metadata) = patch.metadata {
            added.push(format!("\"toedit\":{metadata}"));
        }
        let removed = spans.removed(patch);
        splices.extend(spans.removals(&self.line, &removed));
        if !added.is_empty() {
            let comma = if removed.len() < spans.count { "," } else { "" };
            splices.push(Splice { range: spans.end..spans.end, new: format!("{comma}{}", added.join(",")) });
        }
        Ok(apply(&self.line, splices))
    }

    /// The record that [`Record::patched`] would be read as.
    pub fn edited(&self, patch: &Patch) -> Result<(Box<Self>, Content), String> {
        let line = String::from_utf8(self.patched(patch)?).map_err(|error| error.to_string())?;
        let (record, content) = Self::parse(line, &self.field).map_err(|(_, reason)| reason)?;
        Ok((Box::new(record), content))
    }

    fn message_splices(&self, edits: &[MessageEdits]) -> Result<Vec<Splice>, String> {
        match &self.spans.messages {
            _ if edits.is_empty() => Ok(Vec::new()),
            Some(span) => messages::splices(&self.line[span.value.clone()], span.value.start, edits),
            None => Err("the record has no messages to edit".into()),
        }
    }

    fn text_splices(&self, text: Member<&[TextEdit]>) -> Result<Vec<Splice>, String> {
        match (text, &self.spans.text) {
            (Member::Set(edits), Some(span)) => {
                let body = span.value.start + 1..span.value.end - 1;
                raw_splices(&self.line[body.clone()], body.start, edits)
            }
            (Member::Set(_), None) => Err("the record has no text to edit".into()),
            (Member::Keep | Member::Remove, _) => Ok(Vec::new()),
        }
    }
}

/// `line`, which is one JSON object, with members set as [`Patch::members`] has them.
#[cfg(feature = "parquet")]
pub(super) fn with_members(line: &str, members: &[(&str, &str)]) -> Result<Vec<u8>, String> {
    let Spans { count, end, .. } = Spans::find(line, "")?;
    let (mut splices, added) = member_splices(line, members)?;
    if !added.is_empty() {
        let comma = if count > 0 { "," } else { "" };
        splices.push(Splice { range: end..end, new: format!("{comma}{}", added.join(",")) });
    }
    Ok(apply(line, splices))
}

/// What replaces members that are there, and those that are to be added.
fn member_splices(line: &str, members: &[(&str, &str)]) -> Result<(Vec<Splice>, Vec<String>), String> {
    let (mut splices, mut added) = (Vec::new(), Vec::new());
    for (name, value) in members {
        match Spans::find(line, name)?.text {
            Some(span) => splices.push(Splice { range: span.value, new: (*value).to_owned() }),
            None => added.push(format!("{}:{value}", quoted(name))),
        }
    }
    Ok((splices, added))
}

impl Spans {
    fn find(line: &str, field: &str) -> Result<Self, String> {
        let mut json = serde_json::Deserializer::from_str(line);
        let spans = (&mut json).deserialize_map(SpanVisitor { line, field }).map_err(|e| reason(&e, 0))?;
        json.end().map_err(|e| reason(&e, 0))?;
        Ok(spans)
    }

    /// The text where there is one, else the ids, else the messages.
    fn content(&self, line: &str, field: &str) -> Result<Content, String> {
        if let Some(text) = self.string(line, field)? {
            return Ok(Content::Text(text));
        }
        if let Some(span) = &self.ids {
            let ids = serde_json::from_str(&line[span.value.clone()]);
            let in_field = |e| format!("field `input_ids`: {}", reason(&e, span.value.start));
            return Ok(Content::Ids(ids.map_err(in_field)?));
        }
        match &self.messages {
            Some(span) => Ok(Content::Messages(line[span.value.clone()].to_owned())),
            None => Err(format!("neither field `{field}` nor `input_ids` found")),
        }
    }

    /// The member under `field`, decoded.
    fn string(&self, line: &str, field: &str) -> Result<Option<String>, String> {
        let Some(span) = &self.text else { return Ok(None) };
        let raw = &line[span.value.clone()];
        let text = serde_json::from_str(raw).map_err(|e| {
            let mut reason = reason(&e, span.value.start);
            if raw.starts_with('"') {
                // Finding the span has checked everything else about a string.
                reason = format!("lone surrogate escape: {reason}");
            }
            format!("field `{field}`: {reason}")
        })?;
        Ok(Some(text))
    }

    /// The known member of that name, to be filled in.
    fn slot(&mut self, key: &str, field: &str) -> Option<&mut Option<Span>> {
        match key {
            _ if key == field => Some(&mut self.text),
            "input_ids" => Some(&mut self.ids),
            "messages" => Some(&mut self.messages),
            "id" => Some(&mut self.id),
            "toedit" => Some(&mut self.metadata),
            _ => None,
        }
    }

    /// The members that `patch` takes out, in their order; a new `toedit` goes to the end, the old one is
    /// removed.
    fn removed(&self, patch: &Patch) -> Vec<&Span> {
        let candidates = [
            (&self.text, patch.text == Member::Remove),
            (&self.ids, patch.ids == Member::Remove),
            (&self.metadata, patch.metadata != Member::Keep),
        ];
        let chosen = candidates.into_iter().filter(|(_, remove)| *remove);
        let mut removed: Vec<_> = chosen.filter_map(|(span, _)| span.as_ref()).collect();
        removed.sort_by_key(|span| span.number);
        removed
    }

    /// A member goes with the comma before it; one of the leading members with the comma after it.
    fn removals(&self, line: &str, removed: &[&Span]) -> Vec<Splice> {
        let range = |(before, span): (usize, &&Span)| match before == span.number {
            true if span.number + 1 < self.count => span.key..next_key(line, span.value.end),
            true => span.key..span.value.end,
            false => span.previous..span.value.end,
        };
        let ranges = removed.iter().enumerate().map(range);
        ranges.map(|range| Splice { range, new: String::new() }).collect()
    }
}

/// Walks an object once and notes where the known members stand.
struct SpanVisitor<'a> {
    line: &'a str,
    field: &'a str,
}

impl SpanVisitor<'_> {
    /// Where `raw`, a part of the line, stands in it.
    fn range(&self, raw: &RawValue) -> Range<usize> {
        let start = raw.get().as_ptr() as usize - self.line.as_ptr() as usize;
        start..start + raw.get().len()
    }
}

impl<'de> Visitor<'de> for SpanVisitor<'de> {
    type Value = Spans;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("one JSON object a line")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Spans, A::Error> {
        let brace = self.line.find('{').map_or(0, |brace| brace + 1);
        let mut spans = Spans { end: brace, ..Spans::default() };
        while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
            let (number, previous, value) = (spans.count, spans.end, self.range(value));
            spans.count += 1;
            spans.end = value.end;
            let name = decode_key(key.get());
            if let Some(slot) = spans.slot(&name, self.field) {
                let span = Span { number, key: self.range(key).start, value, previous };
                if slot.replace(span).is_some() {
                    return Err(serde::de::Error::custom(format_args!("field `{name}` occurs twice")));
                }
            }
        }
        Ok(spans)
    }
}

/// The key that a raw JSON string spells; one with a lone surrogate equals no name and comes back as it
/// stands.
fn decode_key(raw: &str) -> Cow<'_, str> {
    let body = &raw[1..raw.len() - 1];
    if body.contains('\\') {
        serde_json::from_str(raw).map_or(Cow::Borrowed(body), Cow::Owned)
    } else {
        Cow::Borrowed(body)
    }
}

/// Where the key after a value that ends at `end` begins: only white space and a comma lie between them.
fn next_key(line: &str, end: usize) -> usize {
    line[end..].find('"').map_or(end, |gap| end + gap)
}

fn id_array(ids: &[u32]) -> String {
    serde_json::to_string(ids).expect("integers always have a JSON form")
}

/// The parser's message with the place in the line, `base` being where the parsed part begins.
fn reason(error: &serde_json::Error, base: usize) -> String {
    let message = error.to_string();
    let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
    // A wrong type is quoted by its value, which may be as long as the line.
    let shown: String = message.chars().take(MESSAGE).collect();
    let dots = if shown.len() < message.len() { "…" } else { "" };
    format!("{shown}{dots} (byte {} of the line)", base + error.column())
}
