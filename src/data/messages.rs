//! The messages of a conversation: who says what, and where that stands in the raw JSON.

use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::patch::{Splice, TextEdit, apply, raw_splices};

/// Edits of one message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageEdits {
    /// The message's number, from 0.
    pub message: usize,
    /// Edits of the string under its `content`: ascending, disjoint.
    pub edits: Vec<TextEdit>,
}

/// What one message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who speaks: `user`, `assistant` and the like.
    pub role: String,
    /// The string under `content`, decoded; `None` where there is none, or no string.
    pub content: Option<String>,
    /// Where the string's body, without its quotes, stands in the raw JSON.
    body: Range<usize>,
}

/// Reads the raw JSON of `messages`, an array of objects with a string `role`.
///
/// ```
/// let raw = r#"[{"role": "user", "content": "Hi"}, {"content": "caf\u00e9", "role": "assistant"}]"#;
/// let messages = toedit::data::messages::read(raw)?;
/// assert_eq!((messages[1].role.as_str(), messages[1].content.as_deref()), ("assistant", Some("café")));
/// # Ok::<(), String>(())
/// ```
///
/// # Errors
/// What is malformed.
pub fn read(raw: &str) -> Result<Vec<Message>, String> {
    let objects: Vec<&RawValue> = serde_json::from_str(raw).map_err(|error| malformed(&error))?;
    let message = |object: &&RawValue| {
        let Members { role, content } =
            serde_json::from_str(object.get()).map_err(|error| malformed(&error))?;
        let role = role.and_then(|role| serde_json::from_str(role.get()).ok());
        let role = role.ok_or("messages: expected objects with a string `role`")?;
        let string = content.filter(|content| content.get().starts_with('"'));
        let decode = |content: &RawValue| serde_json::from_str(content.get());
        // All else about a string has been checked.
        let content = string.map(decode).transpose();
        let content = content.map_err(|error| format!("messages: lone surrogate escape: {error}"))?;
        let body = string.map_or(0..0, |string| {
            let start = string.get().as_ptr() as usize - raw.as_ptr() as usize;
            start + 1..start + string.get().len() - 1
        });
        Ok(Message { role, content, body })
    };
    objects.iter().map(message).collect()
}

/// A conversation's roles and contents in one spelling, whatever that of its JSON: an array of pairs. Where it is malformed
/// it is taken as it stands.
pub fn canonical(raw: &str) -> String {
    let Ok(messages) = read(raw) else { return raw.to_owned() };
    let pairs: Vec<_> = messages.iter().map(|message| (&message.role, &message.content)).collect();
    serde_json::to_string(&pairs).expect("strings always have a JSON form")
}

/// The raw JSON of messages after edits.
///
/// # Errors
/// What is malformed, or does not fit.
pub fn edited(raw: &str, edits: &[MessageEdits]) -> Result<String, String> {
    String::from_utf8(apply(raw, splices(raw, 0, edits)?)).map_err(|error| error.to_string())
}

/// The edits of messages as splices of the raw JSON, which stands at `at` in its line.
pub(super) fn splices(raw: &str, at: usize, edits: &[MessageEdits]) -> Result<Vec<Splice>, String> {
    if !edits.is_sorted_by(|a, b| a.message < b.message) {
        return Err("edits of messages must ascend, each message once".into());
    }
    let messages = read(raw)?;
    let mut splices = Vec::new();
    for MessageEdits { message, edits } in edits {
        let found = messages.get(*message).filter(|message| message.content.is_some());
        let body = found.ok_or_else(|| format!("message {message} has no content to edit"))?.body.clone();
        splices.extend(raw_splices(&raw[body.clone()], at + body.start, edits)?);
    }
    Ok(splices)
}

fn malformed(error: &serde_json::Error) -> String {
    format!("messages: {error}")
}

/// The members of a message that matter; each may stand there once.
#[derive(Default)]
struct Members<'a> {
    role: Option<&'a RawValue>,
    content: Option<&'a RawValue>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("objects with a string `role`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = Members::default();
        while let Some((key, value)) = map.next_entry::<String, &RawValue>()? {
            let slot = match key.as_str() {
                "role" => &mut members.role,
                "content" => &mut members.content,
                _ => continue,
            };
            if slot.replace(value).is_some() {
                return Err(A::Error::custom(format_args!("field `{key}` occurs twice")));
            }
        }
        Ok(members)
    }
}
