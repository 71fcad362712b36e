//! `--config FILE.toml` and `--show-config`: the long flags, under their names without dashes, as TOML.
//!
//! Keys at the top level are those of the command that runs; a table named like a command (`[edit]`, `[eval.perplexity]`) holds keys of
//! that command alone and goes before the top level. Paths are relative to the working directory, as on the command line.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use toml::{Table, Value};

use super::Running;
use crate::{Error, Result};

/// Name of the group of flags that are one setting: given on the command line in part, the file's are left out as a whole.
pub(super) const RULES: &str = "rules";

/// Flags that a file cannot hold.
const NOT_IN_A_FILE: [&str; 3] = ["config", "show-config", "help"];

/// The file's settings as arguments of the command that runs (one below `root`), without those that it has from the command line.
pub(super) fn arguments(file: &Path, root: &Command, running: &Running) -> Result<Vec<OsString>> {
    let Running { path, command, matches } = running;
    let text = fs::read_to_string(file).map_err(|source| Error::io(file, source))?;
    let table = text.parse().map_err(|error| usage(file, error))?;
    let settings = select(table, root, path).map_err(|reason| usage(file, reason))?;
    let mut arguments = Vec::new();
    for (key, value) in &settings {
        let arg = find(command, key).map_err(|reason| usage(file, reason))?;
        if !is_given(command, matches, arg) {
            arguments.extend(to_arguments(arg, key, value).map_err(|reason| usage(file, reason))?);
        }
    }
    Ok(arguments)
}

/// The configuration in effect as TOML that [`arguments`] reads back.
pub(super) fn show(command: &Command, matches: &ArgMatches) -> Result<String> {
    let mut table = Table::new();
    for arg in command.get_arguments() {
        let Some(key) = arg.get_long().filter(|key| !NOT_IN_A_FILE.contains(key)) else { continue };
        if let Some(value) = current(arg, matches)? {
            table.insert(key.to_owned(), value);
        }
    }
    Ok(table.to_string())
}

fn usage(file: &Path, reason: impl ToString) -> Error {
    Error::Usage(format!("{}: {}", file.display(), reason.to_string().trim_end()))
}

/// The settings of the command at `path`. The tables of the others are checked for unknown keys all the same.
fn select(table: Table, root: &Command, path: &[&str]) -> Result<Table, String> {
    let (tables, mut settings) = split(table);
    settings.extend(own(tables, root, Some(path))?);
    Ok(settings)
}

/// Tables, and keys with plain values.
fn split(table: Table) -> (Table, Table) {
    table.into_iter().partition(|(_, value)| value.is_table())
}

/// The settings that tables named like the commands below `owner` hold for the one at `path`, if that is below it.
fn own(tables: Table, owner: &Command, path: Option<&[&str]>) -> Result<Table, String> {
    let mut settings = Table::new();
    for (name, value) in tables {
        let Value::Table(table) = value else { continue };
        let owner = owner.find_subcommand(&name).ok_or_else(|| format!("unknown table `{name}`"))?;
        let (tables, keys) = split(table);
        for key in keys.keys() {
            find(owner, key).map_err(|reason| format!("table `{name}`: {reason}"))?;
        }
        let rest = path.and_then(|path| path.strip_prefix(&[&*name]));
        if rest.is_some_and(<[_]>::is_empty) {
            settings.extend(keys);
        }
        settings.extend(own(tables, owner, rest)?);
    }
    Ok(settings)
}

fn find<'a>(command: &'a Command, key: &str) -> Result<&'a Arg, String> {
    command
        .get_arguments()
        .find(|arg| arg.get_long() == Some(key) && !NOT_IN_A_FILE.contains(&key))
        .ok_or_else(|| format!("unknown key `{key}`: `toedit {}` has no such flag", command.get_name()))
}

/// Whether the command line has the flag, or another of the group that is one setting with it.
fn is_given(command: &Command, matches: &ArgMatches, arg: &Arg) -> bool {
    let together = command
        .get_groups()
        .filter(|group| group.get_id() == RULES)
        .flat_map(|group| group.get_args())
        .collect::<Vec<_>>();
    let on_command_line = |id: &clap::Id| matches.value_source(id.as_str()) == Some(ValueSource::CommandLine);
    if together.contains(&arg.get_id()) {
        together.into_iter().any(on_command_line)
    } else {
        on_command_line(arg.get_id())
    }
}

fn to_arguments(arg: &Arg, key: &str, value: &Value) -> Result<Vec<OsString>, String> {
    let takes_values = arg.get_action().takes_values();
    let value_is_optional = arg.get_num_args().is_some_and(|range| range.min_values() == 0);
    match value {
        Value::Boolean(false) if !takes_values => Ok(Vec::new()),
        Value::Boolean(true) if !takes_values || value_is_optional => Ok(vec![format!("--{key}").into()]),
        _ if !takes_values => Err(format!("key `{key}`: expected true or false")),
        Value::Array(values) if matches!(arg.get_action(), ArgAction::Append) => {
            values.iter().map(|value| to_argument(key, value)).collect()
        }
        _ => Ok(vec![to_argument(key, value)?]),
    }
}

fn to_argument(key: &str, value: &Value) -> Result<OsString, String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        other => {
            return Err(format!("key `{key}`: expected a string or a number, found {}", other.type_str()));
        }
    };
    Ok(format!("--{key}={text}").into())
}

/// A flag's value in effect, `None` where it has none.
fn current(arg: &Arg, matches: &ArgMatches) -> Result<Option<Value>> {
    let id = arg.get_id().as_str();
    if !arg.get_action().takes_values() {
        return Ok(Some(Value::Boolean(matches.get_flag(id))));
    }
    let Some(raw) = matches.get_raw(id) else { return Ok(None) };
    let mut values = Vec::new();
    for value in raw {
        let text = value.to_str().ok_or_else(|| {
            Error::Usage(format!("--{id}: `{}` is not UTF-8, which TOML cannot hold", value.display()))
        })?;
        values.push(to_value(text));
    }
    let is_list = matches!(arg.get_action(), ArgAction::Append);
    Ok(if is_list { Some(Value::Array(values)) } else { values.pop() })
}

/// A number where the text is the very form in which the number is written, else a string, so that reading it gives the text back.
fn to_value(text: &str) -> Value {
    let integer = text.parse().ok().filter(|number: &i64| number.to_string() == text);
    let float = text.parse().ok().filter(|number: &f64| number.is_finite() && number.to_string() == text);
    integer.map(Value::Integer).or(float.map(Value::Float)).unwrap_or_else(|| Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_numbers_where_that_loses_nothing() {
        assert_eq!(to_value("8"), Value::Integer(8));
        assert_eq!(to_value("0.99"), Value::Float(0.99));
        for text in ["007", "1e3", "1.50", "+1", "inf", "nan", "18446744073709551615", "-", ""] {
            assert_eq!(to_value(text), Value::String(text.into()));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]
        #[test]
        fn a_value_shown_is_read_back(text in "\\PC*|[0-9]{1,20}|-?[0-9]{1,3}\\.[0-9]{1,3}|[\\x00-\\x7f]*") {
            let shown = Table::from_iter([("key".to_owned(), to_value(&text))]).to_string();
            let read: Table = shown.parse().unwrap();
            prop_assert_eq!(to_argument("key", &read["key"]).unwrap(), OsString::from(format!("--key={text}")));
        }
    }
}
