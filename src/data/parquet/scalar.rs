//! Single values as JSON. What JSON has no form for becomes a string: dates and times as in ISO 8601, bytes as
//! `{"hex":…}`. A number that is not finite becomes null, a decimal a number with all its digits.

use half::f16;
use parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type as PhysicalType};
use parquet::data_type::{ByteArray, Int96};
use parquet::schema::types::ColumnDescriptor;

use super::leaf::{Leaf, Values};
use crate::data::patch::quoted;

const SECONDS_A_DAY: i128 = 86_400;
/// 1970-01-01 as a Julian day.
const EPOCH: i128 = 2_440_588;

/// What the values of a column stand for, beside their physical type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    Unsigned,
    Text,
    Date,
    /// Units are 10^-`digits` seconds.
    Time {
        digits: u32,
    },
    Timestamp {
        digits: u32,
        utc: bool,
    },
    Decimal {
        scale: usize,
    },
    Uuid,
    Float16,
}

/// Value number `value` of a leaf.
pub(super) fn to_json(leaf: &Leaf, value: usize) -> String {
    let kind = kind(&leaf.column);
    match &leaf.values {
        Values::Bool(values) => values[value].to_string(),
        Values::Int32(values) if kind == Kind::Unsigned => (values[value] as u32).to_string(),
        Values::Int32(values) => integer(values[value].into(), kind),
        Values::Int64(values) if kind == Kind::Unsigned => (values[value] as u64).to_string(),
        Values::Int64(values) => integer(values[value].into(), kind),
        Values::Int96(values) => julian(&values[value]),
        Values::Float(values) => number(&values[value]),
        Values::Double(values) => number(&values[value]),
        Values::Bytes(values) => bytes(&values[value], kind),
        Values::Fixed(values) => bytes(&values[value], kind),
    }
}

/// Whether a column's integers have no sign.
pub(super) fn is_unsigned(column: &ColumnDescriptor) -> bool {
    kind(column) == Kind::Unsigned
}

/// Whether a column's integers are just that, and no dates or decimals.
pub(super) fn is_integer(column: &ColumnDescriptor) -> bool {
    matches!(column.physical_type(), PhysicalType::INT32 | PhysicalType::INT64)
        && matches!(kind(column), Kind::Plain | Kind::Unsigned)
}

fn kind(column: &ColumnDescriptor) -> Kind {
    let digits = |unit: &TimeUnit| match unit {
        TimeUnit::MILLIS => 3,
        TimeUnit::MICROS => 6,
        TimeUnit::NANOS => 9,
    };
    let decimal = Kind::Decimal { scale: usize::try_from(column.type_scale()).unwrap_or(0) };
    match (column.logical_type_ref(), column.converted_type()) {
        (Some(LogicalType::String | LogicalType::Enum | LogicalType::Json), _) => Kind::Text,
        (Some(LogicalType::Integer(integer)), _) if !integer.is_signed => Kind::Unsigned,
        (Some(LogicalType::Date), _) => Kind::Date,
        (Some(LogicalType::Time(time)), _) => Kind::Time { digits: digits(&time.unit) },
        (Some(LogicalType::Timestamp(time)), _) => {
            Kind::Timestamp { digits: digits(&time.unit), utc: time.is_adjusted_to_u_t_c }
        }
        (Some(LogicalType::Decimal(_)), _) => decimal,
        (Some(LogicalType::Uuid), _) => Kind::Uuid,
        (Some(LogicalType::Float16), _) => Kind::Float16,
        (Some(_), _) => Kind::Plain,
        (None, ConvertedType::UTF8 | ConvertedType::ENUM | ConvertedType::JSON) => Kind::Text,
        (
            None,
            ConvertedType::UINT_8 | ConvertedType::UINT_16 | ConvertedType::UINT_32 | ConvertedType::UINT_64,
        ) => Kind::Unsigned,
        (None, ConvertedType::DATE) => Kind::Date,
        (None, ConvertedType::TIME_MILLIS) => Kind::Time { digits: 3 },
        (None, ConvertedType::TIME_MICROS) => Kind::Time { digits: 6 },
        (None, ConvertedType::TIMESTAMP_MILLIS) => Kind::Timestamp { digits: 3, utc: true },
        (None, ConvertedType::TIMESTAMP_MICROS) => Kind::Timestamp { digits: 6, utc: true },
        (None, ConvertedType::DECIMAL) => decimal,
        (None, _) => Kind::Plain,
    }
}

fn integer(value: i128, kind: Kind) -> String {
    match kind {
        Kind::Date => format!("\"{}\"", date(value)),
        Kind::Time { digits } => format!("\"{}\"", time(value, digits)),
        Kind::Timestamp { digits, utc } => timestamp(value, digits, utc),
        Kind::Decimal { scale } => decimal(value, scale),
        _ => value.to_string(),
    }
}

fn number<T: serde::Serialize>(value: &T) -> String {
    // Null where it is not finite.
    serde_json::to_string(value).expect("numbers always have a JSON form")
}

fn bytes(value: &ByteArray, kind: Kind) -> String {
    let data = value.data();
    match (kind, data) {
        (Kind::Text, _) => std::str::from_utf8(data).map_or_else(|_| hex(data), quoted),
        (Kind::Float16, &[low, high]) => number(&f16::from_le_bytes([low, high]).to_f32()),
        (Kind::Uuid, _) if data.len() == 16 => uuid(data),
        (Kind::Decimal { scale }, [first, ..]) if data.len() <= 16 => {
            // Big endian, its sign in the first bit.
            let sign = i128::from(*first as i8 >> 7);
            decimal(data.iter().fold(sign, |value, &byte| value << 8 | i128::from(byte)), scale)
        }
        _ => hex(data),
    }
}

fn hex(data: &[u8]) -> String {
    let digits: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{{\"hex\":\"{digits}\"}}")
}

fn uuid(data: &[u8]) -> String {
    let mut text: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
    [20, 16, 12, 8].into_iter().for_each(|place| text.insert(place, '-'));
    quoted(&text)
}

fn decimal(value: i128, scale: usize) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let mut digits = format!("{:0width$}", value.unsigned_abs(), width = scale + 1);
    if scale > 0 {
        digits.insert(digits.len() - scale, '.');
    }
    format!("{sign}{digits}")
}

/// Day `days` after 1970-01-01, in the Gregorian calendar (Hinnant, "chrono-compatible low-level date algorithms").
fn date(days: i128) -> String {
    let shifted = days + 719_468;
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = year + era * 400 + i128::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

fn time(value: i128, digits: u32) -> String {
    let unit = 10_i128.pow(digits);
    let (seconds, rest) = (value.div_euclid(unit), value.rem_euclid(unit));
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{hour:02}:{minute:02}:{second:02}.{rest:0width$}", width = digits as usize)
}

fn timestamp(value: i128, digits: u32, utc: bool) -> String {
    let day = SECONDS_A_DAY * 10_i128.pow(digits);
    let zone = if utc { "Z" } else { "" };
    format!("\"{}T{}{zone}\"", date(value.div_euclid(day)), time(value.rem_euclid(day), digits))
}

/// An old time stamp: nanoseconds of a Julian day.
fn julian(value: &Int96) -> String {
    let &[low, high, day] = value.data() else { return "null".to_owned() };
    let nanoseconds = i128::from(u64::from(high) << 32 | u64::from(low));
    timestamp((i128::from(day) - EPOCH) * SECONDS_A_DAY * 1_000_000_000 + nanoseconds, 9, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_times() {
        let dates = [(0, "1970-01-01"), (-1, "1969-12-31"), (19_782, "2024-02-29"), (-719_529, "-001-12-31")];
        for (days, expected) in dates {
            assert_eq!(date(days), expected);
        }
        assert_eq!(timestamp(1_700_000_000_123, 3, true), "\"2023-11-14T22:13:20.123Z\"");
        assert_eq!(timestamp(-1, 6, false), "\"1969-12-31T23:59:59.999999\"");
        assert_eq!(time(86_399_000_000_001, 9), "23:59:59.000000001");
        let mut old = Int96::new();
        old.set_data(1, 0, 2_440_589);
        assert_eq!(julian(&old), "\"1970-01-02T00:00:00.000000001\"");
    }

    #[test]
    fn decimals_keep_their_digits() {
        let table = [(0, 2, "0.00"), (5, 2, "0.05"), (-12_345, 2, "-123.45"), (7, 0, "7"), (-5, 3, "-0.005")];
        for (value, scale, expected) in table {
            assert_eq!(decimal(value, scale), expected);
        }
        let kind = Kind::Decimal { scale: 1 };
        assert_eq!(bytes(&vec![0xff, 0x85].into(), kind), "-12.3");
        assert_eq!(bytes(&vec![0; 17].into(), kind), format!("{{\"hex\":\"{}\"}}", "00".repeat(17)));
    }
}
