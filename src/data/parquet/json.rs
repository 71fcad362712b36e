//! A row's cell as JSON, put together from the levels of its leaves (Melnik et al., "Dremel", VLDB 2010).

use parquet::basic::{ConvertedType, LogicalType, Repetition};
use parquet::schema::types::Type;

use super::leaf::{Leaf, Start};
use super::scalar;
use super::table::leaves;
use crate::data::patch::quoted;

/// What hostile levels come to.
const DISAGREE: &str = "the levels of its columns do not agree";

/// Row `row` of the column `kind`, whose leaves these are: one value, on one line.
pub(super) fn cell(kind: &Type, leaves: &[Leaf], row: usize) -> Result<String, &'static str> {
    let mut cursors: Vec<_> = leaves
        .iter()
        .map(|leaf| {
            let (at, end) = leaf.places(row);
            Cursor { leaf, at, end }
        })
        .collect();
    let mut out = String::new();
    node(kind, &mut cursors, Level::default(), &mut out)?;
    if cursors.iter().all(|cursor| cursor.at.level == cursor.end.level) { Ok(out) } else { Err(DISAGREE) }
}

/// A place in a leaf's row.
struct Cursor<'a> {
    leaf: &'a Leaf,
    at: Start,
    end: Start,
}

impl Cursor<'_> {
    fn definition(&self) -> Result<i16, &'static str> {
        if self.at.level >= self.end.level {
            return Err(DISAGREE);
        }
        Ok(self
            .leaf
            .definition
            .get(self.at.level)
            .copied()
            .unwrap_or_else(|| self.leaf.column.max_def_level()))
    }

    /// Whether the next value goes on with the list of this level.
    fn continues(&self, repetition: i16) -> bool {
        self.at.level < self.end.level && self.leaf.repetition.get(self.at.level) == Some(&repetition)
    }

    fn advance(&mut self) -> Result<(), &'static str> {
        let is_value = self.definition()? == self.leaf.column.max_def_level();
        self.at.level += 1;
        self.at.value += usize::from(is_value);
        Ok(())
    }
}

/// How much of the path to a node is there, and how many lists it lies in.
#[derive(Clone, Copy, Default)]
struct Level {
    definition: i16,
    repetition: i16,
}

impl Level {
    fn optional(self) -> Self {
        Self { definition: self.definition + 1, ..self }
    }

    fn repeated(self) -> Self {
        Self { definition: self.definition + 1, repetition: self.repetition + 1 }
    }
}

/// A node that is there once or not at all, or a repeated one on its own, which is a list.
fn node(kind: &Type, cursors: &mut [Cursor], level: Level, out: &mut String) -> Result<(), &'static str> {
    match kind.get_basic_info().repetition() {
        Repetition::REQUIRED => value(kind, cursors, level, out),
        Repetition::REPEATED => list(kind, cursors, level, out),
        Repetition::OPTIONAL if first(cursors)?.definition()? <= level.definition => {
            out.push_str("null");
            skip(cursors)
        }
        Repetition::OPTIONAL => value(kind, cursors, level.optional(), out),
    }
}

/// A node that is there.
fn value(kind: &Type, cursors: &mut [Cursor], level: Level, out: &mut String) -> Result<(), &'static str> {
    if kind.is_primitive() {
        let cursor = first(cursors)?;
        if cursor.definition()? != cursor.leaf.column.max_def_level() {
            return Err(DISAGREE);
        }
        let value = cursor.at.value;
        cursor.advance()?;
        out.push_str(&scalar::to_json(cursor.leaf, value));
        return Ok(());
    }
    match (annotation(kind), kind.get_fields()) {
        (Some(Annotation::List), [element]) if is_repeated(element) => list(element, cursors, level, out),
        (Some(Annotation::Map), [entry]) if is_repeated(entry) => list(entry, cursors, level, out),
        (_, fields) => object(fields, cursors, level, out),
    }
}

fn object(
    fields: &[std::sync::Arc<Type>],
    mut cursors: &mut [Cursor],
    level: Level,
    out: &mut String,
) -> Result<(), &'static str> {
    let mut separator = '{';
    for field in fields {
        out.push(separator);
        separator = ',';
        out.push_str(&quoted(field.name()));
        out.push(':');
        let (own, rest) = cursors.split_at_mut_checked(leaves(field).unwrap_or(0)).ok_or(DISAGREE)?;
        node(field, own, level, out)?;
        cursors = rest;
    }
    out.push('}');
    Ok(())
}

/// The elements of a list; `repeated` is the node that repeats.
fn list(repeated: &Type, cursors: &mut [Cursor], level: Level, out: &mut String) -> Result<(), &'static str> {
    if first(cursors)?.definition()? <= level.definition {
        out.push_str("[]");
        return skip(cursors);
    }
    let level = level.repeated();
    let mut separator = '[';
    loop {
        out.push(separator);
        separator = ',';
        match element(repeated) {
            Some(element) => node(element, cursors, level, out)?,
            None => value(repeated, cursors, level, out)?,
        }
        if !first(cursors)?.continues(level.repetition) {
            out.push(']');
            return Ok(());
        }
    }
}

/// What a column holds many of in a row, where it is a list.
pub(super) fn list_element(kind: &Type) -> Option<&Type> {
    let repeated = match kind {
        kind if is_repeated(kind) => kind,
        kind if kind.is_primitive() => return None,
        kind => match (annotation(kind), kind.get_fields()) {
            (Some(Annotation::List), [repeated]) if is_repeated(repeated) => repeated,
            _ => return None,
        },
    };
    Some(element(repeated).unwrap_or(repeated))
}

/// The element inside the repeated group of a list of three levels; none where the repeated node is the element itself,
/// as in older files and in maps (the format's "backward-compatibility rules").
fn element(repeated: &Type) -> Option<&Type> {
    if repeated.is_primitive() || repeated.name() == "array" || repeated.name().ends_with("_tuple") {
        return None;
    }
    match repeated.get_fields() {
        [element] => Some(element),
        _ => None,
    }
}

fn skip(cursors: &mut [Cursor]) -> Result<(), &'static str> {
    cursors.iter_mut().try_for_each(Cursor::advance)
}

fn first<'a, 'b>(cursors: &'a mut [Cursor<'b>]) -> Result<&'a mut Cursor<'b>, &'static str> {
    cursors.first_mut().ok_or(DISAGREE)
}

enum Annotation {
    List,
    Map,
}

fn annotation(kind: &Type) -> Option<Annotation> {
    let info = kind.get_basic_info();
    match (info.logical_type_ref(), info.converted_type()) {
        (Some(LogicalType::List), _) | (None, ConvertedType::LIST) => Some(Annotation::List),
        (Some(LogicalType::Map), _) | (None, ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE) => {
            Some(Annotation::Map)
        }
        _ => None,
    }
}

fn is_repeated(kind: &Type) -> bool {
    kind.get_basic_info().repetition() == Repetition::REPEATED
}
