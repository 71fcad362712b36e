//! Records with provenance, made by hand.

use serde_json::{Value, json};

/// A part of an edited text.
#[derive(Clone, Debug)]
pub enum Part {
    Kept(String),
    /// What stood there before, and what took its place unless it was dropped.
    Edit(String, Option<String>),
}

/// A text kept as it was.
pub fn kept(text: &str) -> Part {
    Part::Kept(text.into())
}

/// A token replaced.
pub fn edit(old: &str, new: &str) -> Part {
    Part::Edit(old.into(), Some(new.into()))
}

/// A token dropped.
pub fn dropped(old: &str) -> Part {
    Part::Edit(old.into(), None)
}

/// The text before and after.
pub fn texts(parts: &[Part]) -> [String; 2] {
    let before = parts.iter().map(|part| match part {
        Part::Kept(text) | Part::Edit(text, _) => text.as_str(),
    });
    let after = parts.iter().map(|part| match part {
        Part::Kept(text) => text.as_str(),
        Part::Edit(_, new) => new.as_deref().unwrap_or_default(),
    });
    [before.collect(), after.collect()]
}

/// The edits of one generation; their positions are the numbers of the parts.
pub fn edits(parts: &[Part], generation: u32) -> Vec<Value> {
    let (mut edits, mut start, mut out_start) = (Vec::new(), 0, 0);
    for (position, part) in parts.iter().enumerate() {
        let (old, new) = match part {
            Part::Kept(text) => (text, Some(text)),
            Part::Edit(old, new) => (old, new.as_ref()),
        };
        let (end, out_end) = (start + old.len(), out_start + new.map_or(0, String::len));
        if matches!(part, Part::Edit(..)) {
            edits.push(json!({
                "position": position, "byte_start": start, "byte_end": end, "out_byte_start": out_start,
                "out_byte_end": out_end, "old_id": 1, "new_id": new.map(|_| 2), "old": old,
                "new": new.cloned().unwrap_or_default(), "p_old": 0.75, "p_new": new.map(|_| 0.000_012_5),
                "generation": generation,
            }));
        }
        (start, out_start) = (end, out_end);
    }
    edits
}

/// The `toedit` object of these edits.
pub fn metadata(edits: &[Value]) -> Value {
    let dropped = edits.iter().filter(|edit| edit["new_id"].is_null()).count();
    json!({
        "tokens": 20, "scored": 19, "eligible": 7, "changed": edits.len() - dropped, "dropped": dropped,
        "not_editable": 0, "no_alternative": 0, "windows": 1, "edits": edits,
    })
}

/// A record that was edited once.
pub fn record(id: &str, parts: &[Part]) -> Value {
    json!({"id": id, "text": texts(parts)[1], "toedit": metadata(&edits(parts, 0))})
}

/// JSON lines.
pub fn lines(records: &[Value]) -> String {
    records.iter().map(|record| format!("{record}\n")).collect()
}
