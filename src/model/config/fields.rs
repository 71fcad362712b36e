//! Strict reading of JSON fields: a value of the wrong type or range is an error that names the field.

use std::path::Path;

use serde_json::{Map, Value};

use crate::{Error, Result};

/// No size in a configuration reaches this; it keeps products of two sizes within 64 bits.
const SIZE_LIMIT: u64 = 1 << 31;

/// The fields of one JSON object of the file `path`. `null` counts as absent unless a method says otherwise.
pub(super) struct Fields<'a> {
    path: &'a Path,
    parent: Option<&'static str>,
    object: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    pub fn new(path: &'a Path, object: &'a Map<String, Value>) -> Self {
        Self { path, parent: None, object }
    }

    /// The object in the field `name`.
    pub fn object(&self, name: &'static str) -> Result<Option<Fields<'a>>> {
        self.value(name)
            .map(|value| match value {
                Value::Object(object) => Ok(Fields { path: self.path, parent: Some(name), object }),
                other => Err(self.mismatch(name, other, "an object")),
            })
            .transpose()
    }

    /// An integer from 1 to 2³¹ − 1 that must be there.
    pub fn size(&self, name: &str) -> Result<usize> {
        self.optional_size(name)?.ok_or_else(|| self.missing(name, "an integer"))
    }

    /// An integer from 1 to 2³¹ − 1, if there.
    pub fn optional_size(&self, name: &str) -> Result<Option<usize>> {
        let check = |value: &Value| match value.as_u64() {
            Some(size) if (1..SIZE_LIMIT).contains(&size) => Ok(size as usize),
            _ => Err(self.mismatch(name, value, format!("an integer from 1 to {}", SIZE_LIMIT - 1))),
        };
        self.value(name).map(check).transpose()
    }

    /// As [`Self::optional_size`], but only absence means `default`; `null` means none.
    pub fn nullable_size(&self, name: &str, default: Option<usize>) -> Result<Option<usize>> {
        if self.object.contains_key(name) { self.optional_size(name) } else { Ok(default) }
    }

    /// A number in (0, `max`], if there.
    pub fn number(&self, name: &str, max: f64) -> Result<Option<f64>> {
        let check = |value: &Value| match value.as_f64() {
            Some(number) if number > 0.0 && number <= max => Ok(number),
            _ => Err(self.mismatch(name, value, format!("a number above 0, at most {max}"))),
        };
        self.value(name).map(check).transpose()
    }

    /// A number in [0, `max`], if there.
    pub fn number_from_zero(&self, name: &str, max: f64) -> Result<Option<f64>> {
        let check = |value: &Value| match value.as_f64() {
            Some(number) if (0.0..=max).contains(&number) => Ok(number),
            _ => Err(self.mismatch(name, value, format!("a number from 0 to {max}"))),
        };
        self.value(name).map(check).transpose()
    }

    /// A number in [1, `max`], if there.
    pub fn number_from_one(&self, name: &str, max: f64) -> Result<Option<f64>> {
        let check = |value: &Value| match value.as_f64() {
            Some(number) if (1.0..=max).contains(&number) => Ok(number),
            _ => Err(self.mismatch(name, value, format!("a number from 1 to {max}"))),
        };
        self.value(name).map(check).transpose()
    }

    /// A number in [1, `max`] that must be there.
    pub fn required_from_one(&self, name: &str, max: f64) -> Result<f64> {
        self.number_from_one(name, max)?.ok_or_else(|| self.missing(name, "a number"))
    }

    /// A number in (0, `max`] that must be there.
    pub fn required_number(&self, name: &str, max: f64) -> Result<f64> {
        self.number(name, max)?.ok_or_else(|| self.missing(name, "a number"))
    }

    /// A truth value, or `default`.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool> {
        match self.value(name) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self.mismatch(name, other, "true or false")),
        }
    }

    /// A string, if there.
    pub fn text(&self, name: &str) -> Result<Option<&'a str>> {
        self.value(name).map(|value| self.as_text(name, value)).transpose()
    }

    /// A list of strings, if there.
    pub fn texts(&self, name: &str) -> Result<Option<Vec<&'a str>>> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let Value::Array(items) = value else { return Err(self.mismatch(name, value, "a list of strings")) };
        items.iter().map(|item| self.as_text(name, item)).collect::<Result<_>>().map(Some)
    }

    /// A token id or a list of them; only absence means `default`, `null` means none.
    pub fn ids(&self, name: &str, default: Option<u32>) -> Result<Vec<u32>> {
        let id = |value: &Value| match value.as_u64() {
            Some(id) if id < SIZE_LIMIT => Ok(id as u32),
            _ => Err(self.mismatch(name, value, "a token id (or a list of them)")),
        };
        match self.object.get(name) {
            None => Ok(default.into_iter().collect()),
            Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(items)) => items.iter().map(id).collect(),
            Some(value) => Ok(vec![id(value)?]),
        }
    }

    /// Whether the object has no fields.
    pub fn is_empty(&self) -> bool {
        self.object.is_empty()
    }

    /// The name of a field that holds an object, if one does.
    pub fn nested(&self) -> Option<&'a str> {
        self.object.iter().find(|(_, value)| value.is_object()).map(|(name, _)| name.as_str())
    }

    /// An error if the field is there and neither `null` nor `false`: an option that is not supported.
    pub fn refuse(&self, name: &str, why: &str) -> Result<()> {
        match self.value(name) {
            None | Some(Value::Bool(false)) => Ok(()),
            Some(_) => Err(self.error(name, why)),
        }
    }

    /// An error about a field that names something unknown.
    pub fn unsupported(&self, name: &str, found: &str, supported: &str) -> Error {
        self.error(
            name,
            format!("found `{}`, which is not supported, expected one of: {supported}", start(found)),
        )
    }

    /// An error about the field `name`.
    pub fn error(&self, name: &str, reason: impl ToString) -> Error {
        let field = self.parent.map_or_else(|| name.to_owned(), |parent| format!("{parent}.{name}"));
        Error::Config { path: self.path.to_owned(), field, reason: reason.to_string() }
    }

    fn value(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    fn as_text(&self, name: &str, value: &'a Value) -> Result<&'a str> {
        value.as_str().ok_or_else(|| self.mismatch(name, value, "a string"))
    }

    fn missing(&self, name: &str, expected: &str) -> Error {
        self.error(name, format!("missing, expected {expected}"))
    }

    fn mismatch(&self, name: &str, found: &Value, expected: impl AsRef<str>) -> Error {
        self.error(name, format!("found {}, expected {}", start(&found.to_string()), expected.as_ref()))
    }
}

/// The start of a text for a message: a hostile value may be a megabyte long.
fn start(text: &str) -> String {
    text.chars().take(80).collect()
}
