//! Types and ranges of single values.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use clap::builder::RangedU64ValueParser;

use crate::data::Shard;

/// Where the arithmetic runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceArg {
    /// The GPU where a usable one and kernels for it exist, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// A GPU: the one with this number, or the first.
    Cuda(Option<usize>),
    /// The kernels, executed by the host.
    Emulator,
}

impl FromStr for DeviceArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(None)),
            "emulator" => Ok(Self::Emulator),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|number| number.parse().ok())
                .map(|number| Self::Cuda(Some(number)))
                .ok_or_else(|| "expected auto, cpu, cuda, cuda:N or emulator".into()),
        }
    }
}

impl fmt::Display for DeviceArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(None) => f.write_str("cuda"),
            Self::Cuda(Some(number)) => write!(f, "cuda:{number}"),
            Self::Emulator => f.write_str("emulator"),
        }
    }
}

/// Which part of the documents a process takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShardArg {
    /// What the environment says.
    Auto,
    /// This one.
    Given(Shard),
}

impl ShardArg {
    /// The shard.
    ///
    /// # Errors
    /// As [`Shard::from_env`].
    pub fn resolve(self) -> crate::Result<Shard> {
        match self {
            Self::Auto => Shard::from_env(),
            Self::Given(shard) => Ok(shard),
        }
    }
}

impl FromStr for ShardArg {
    type Err = crate::Error;

    fn from_str(text: &str) -> crate::Result<Self> {
        if text == "auto" { Ok(Self::Auto) } else { text.parse().map(Self::Given) }
    }
}

/// The type that weights and activations are held in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DtypeArg {
    /// bf16 where the machine is fast at it, else f32.
    Auto,
    /// IEEE single precision.
    F32,
    /// bfloat16, accumulated in f32.
    Bf16,
}

/// Integers from `minimum` to `maximum`.
pub(super) fn between(minimum: u64, maximum: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(minimum..=maximum)
}

/// Integers from `minimum` on.
pub(super) fn at_least(minimum: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(minimum..)
}

/// A threshold of a probability: any finite number, since one at or below 0 or above 1 has a meaning too.
pub(super) fn threshold(text: &str) -> Result<f64, String> {
    number(text, f64::is_finite, "a finite number")
}

/// A probability mass: above 0 and at most 1.
pub(super) fn mass(text: &str) -> Result<f64, String> {
    number(text, |value| value > 0.0 && value <= 1.0, "a number above 0 and at most 1")
}

/// A number above 0.
pub(super) fn positive(text: &str) -> Result<f64, String> {
    number(text, |value| value.is_finite() && value > 0.0, "a finite number above 0")
}

/// A number from 0 on.
pub(super) fn non_negative(text: &str) -> Result<f64, String> {
    number(text, |value| value.is_finite() && value >= 0.0, "a finite number of at least 0")
}

/// A number from 0 up to 1, 1 left out.
pub(super) fn fraction(text: &str) -> Result<f64, String> {
    number(text, |value| (0.0..1.0).contains(&value), "a number of at least 0 and below 1")
}

/// A number from 0 to 1.
pub(super) fn share(text: &str) -> Result<f64, String> {
    number(text, |value| (0.0..=1.0).contains(&value), "a number from 0 to 1")
}

/// Two shares, the second of them no smaller, as in `0.25,0.75`.
pub(super) fn pair(text: &str) -> Result<[f64; 2], String> {
    let (first, second) = text.split_once(',').ok_or("expected two numbers, as in 0.25,0.75")?;
    let [low, high] = [share(first)?, share(second)?];
    if low <= high { Ok([low, high]) } else { Err("expected the smaller number first".into()) }
}

/// Two decays, as in `0.9,0.95`.
pub(super) fn betas(text: &str) -> Result<[f64; 2], String> {
    let (first, second) = text.split_once(',').ok_or("expected two numbers, as in 0.9,0.95")?;
    Ok([fraction(first)?, fraction(second)?])
}

fn number(text: &str, holds: impl Fn(f64) -> bool, expected: &str) -> Result<f64, String> {
    text.parse().ok().filter(|&value| holds(value)).ok_or_else(|| format!("expected {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_back_as_written() {
        for text in ["auto", "cpu", "cuda", "cuda:0", "cuda:7", "emulator"] {
            assert_eq!(text.parse::<DeviceArg>().unwrap().to_string(), text);
        }
        for text in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "CPU"] {
            assert!(text.parse::<DeviceArg>().is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_outside_their_range_are_refused() {
        assert_eq!(threshold("-0.5"), Ok(-0.5));
        assert_eq!(positive("1.5"), Ok(1.5));
        assert_eq!(mass("1"), Ok(1.0));
        for text in ["nan", "inf", "", "1,5"] {
            assert!(threshold(text).is_err() && positive(text).is_err() && mass(text).is_err(), "{text}");
        }
        for text in ["0", "-1"] {
            assert!(positive(text).is_err() && mass(text).is_err(), "{text}");
        }
        assert!(mass("1.01").is_err());
    }
}
