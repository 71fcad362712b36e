//! The settings that a run's bytes depend on, and how those of two runs differ.

use serde_json::{Map, Value};

/// All that the bytes of an output depend on, by name.
pub type Settings = Map<String, Value>;

/// Characters of a value that are shown.
const SHOWN: usize = 200;

/// What only decides about records that cannot be used. A run that was to stop at the first of them has met none.
pub(crate) const ON_ERROR: &str = "on_error";
pub(crate) const MAX_DOCUMENT_BYTES: &str = "max_document_bytes";
/// The value of [`ON_ERROR`] for such a run.
const STOP: &str = "stop";

/// The settings of an earlier run as far as they matter to one that has `now`.
pub(super) fn relevant(then: &Settings, now: &Settings) -> Settings {
    let mut settings = then.clone();
    if then.get(ON_ERROR).and_then(Value::as_str) == Some(STOP) {
        for name in [ON_ERROR, MAX_DOCUMENT_BYTES] {
            settings.remove(name);
            settings.extend(now.get(name).map(|value| (name.to_owned(), value.clone())));
        }
    }
    settings
}

/// The first setting in which two runs differ, with both values; none where they are the same.
pub(crate) fn difference(then: &Settings, now: &Settings) -> Option<String> {
    let differs = |name: &&String| then.get(*name) != now.get(*name);
    let name = then.keys().chain(now.keys()).find(differs)?;
    Some(format!("`{name}` was {} and is {}", show(then.get(name)), show(now.get(name))))
}

fn show(value: Option<&Value>) -> String {
    let Some(value) = value else { return "nothing".to_owned() };
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
