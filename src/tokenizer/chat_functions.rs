//! What transformers adds to Jinja for chat templates: `tojson`, `raise_exception` and `strftime_now`.

use std::io;

use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, Error, ErrorKind};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

/// The time for templates that write the date, in seconds: 2024-07-26, the day that Llama's take where there is no clock. The
/// same records must give the same tokens on any day.
const NOW: u64 = 1_721_952_000;

pub(super) fn add(environment: &mut Environment) {
    environment.add_filter("tojson", tojson);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", |format: String| strftime(&format, NOW));
}

/// As `json.dumps(value, ensure_ascii=False)` writes it, with `indent` as there; nothing is escaped for HTML.
fn tojson(value: &Value, arguments: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = arguments.get("indent")?;
    arguments.assert_all_used()?;
    let mut bytes = Vec::new();
    let written = match indent {
        // No more than anyone can read.
        Some(indent) => {
            let spaces = " ".repeat(indent.min(64));
            write_json(value, &mut bytes, PrettyFormatter::with_indent(spaces.as_bytes()))
        }
        None => write_json(value, &mut bytes, PythonFormatter),
    };
    let failed = |error: String| Error::new(ErrorKind::BadSerialization, error);
    written.map_err(|error| failed(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| failed(error.to_string()))
}

fn write_json(value: &Value, out: &mut Vec<u8>, formatter: impl Formatter) -> serde_json::Result<()> {
    value.serialize(&mut Serializer::with_formatter(out, formatter))
}

/// Python's separators: a space after each comma and colon.
struct PythonFormatter;

impl Formatter for PythonFormatter {
    fn begin_array_value<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

/// C's `strftime` in UTC, for the letters of dates and times.
fn strftime(format: &str, seconds: u64) -> Result<String, Error> {
    let (year, month, day) = date(seconds / 86_400);
    let name = MONTHS[month - 1];
    let weekday = DAYS[(seconds / 86_400 % 7) as usize];
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let mut text = String::new();
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            text.push(character);
            continue;
        }
        text += &match characters.next() {
            Some('Y') => year.to_string(),
            Some('y') => format!("{:02}", year % 100),
            Some('m') => format!("{month:02}"),
            Some('B') => name.to_owned(),
            Some('b') => name[..3].to_owned(),
            Some('d') => format!("{day:02}"),
            Some('A') => weekday.to_owned(),
            Some('a') => weekday[..3].to_owned(),
            Some('H') => format!("{hour:02}"),
            Some('M') => format!("{minute:02}"),
            Some('S') => format!("{second:02}"),
            Some('%') => "%".to_owned(),
            other => {
                let reason = format!("strftime_now: `%{}` is not supported", other.unwrap_or(' '));
                return Err(Error::new(ErrorKind::InvalidOperation, reason));
            }
        };
    }
    Ok(text)
}

/// Year, month and day of a day after 1970-01-01, in the Gregorian calendar.
fn date(mut day: u64) -> (u64, usize, u64) {
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    loop {
        let days = if is_leap(year) { 366 } else { 365 };
        if day < days {
            break;
        }
        day -= days;
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 0;
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    while day >= lengths[month] {
        day -= lengths[month];
        month += 1;
    }
    (year, month + 1, day + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        // From `date -u -d @SECONDS`.
        for (seconds, text) in [
            (0, "Thu Thursday 01 01 Jan January 70 1970 00:00:00"),
            (951_782_400, "Tue Tuesday 29 02 Feb February 00 2000 00:00:00"),
            (NOW, "Fri Friday 26 07 Jul July 24 2024 00:00:00"),
            (1_709_251_199, "Thu Thursday 29 02 Feb February 24 2024 23:59:59"),
            (4_107_542_400, "Mon Monday 01 03 Mar March 00 2100 00:00:00"),
        ] {
            assert_eq!(strftime("%a %A %d %m %b %B %y %Y %H:%M:%S", seconds).unwrap(), text);
        }
        assert_eq!(strftime("100%%", 0).unwrap(), "100%");
        assert!(strftime("%Q", 0).is_err() && strftime("%", 0).is_err());
    }
}
