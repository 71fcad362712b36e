//! Rules: what is done with a token, by its probability.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::score::Statistics;
use crate::{Error, Result};

/// A condition on p, the probability of a token given the original tokens before it.
///
/// Bounds may lie outside 0 to 1: `p>=0` always holds, `p>=1.1` never does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Condition {
    /// p >= t
    AtLeast(f64),
    /// p > t
    Above(f64),
    /// p <= t
    AtMost(f64),
    /// p < t
    Below(f64),
    /// low <= p < high
    Band {
        /// The lower bound, inclusive.
        low: f64,
        /// The upper bound, exclusive.
        high: f64,
    },
}

impl Condition {
    /// Whether it holds for the token that `statistics` describes.
    pub fn holds(&self, statistics: &Statistics) -> bool {
        match *self {
            Self::AtLeast(t) => statistics.at_least(t),
            Self::Above(t) => statistics.above(t),
            Self::AtMost(t) => !statistics.above(t),
            Self::Below(t) => !statistics.at_least(t),
            Self::Band { low, high } => statistics.at_least(low) && !statistics.at_least(high),
        }
    }

    /// The largest number that every p meeting the condition reaches; −∞ where there is no lower bound.
    pub fn lower_bound(&self) -> f64 {
        match *self {
            Self::AtLeast(t) | Self::Above(t) => t,
            Self::Band { low, .. } => low,
            Self::AtMost(_) | Self::Below(_) => f64::NEG_INFINITY,
        }
    }

    fn validate(&self) -> Result<()> {
        let finite = match *self {
            Self::AtLeast(t) | Self::Above(t) | Self::AtMost(t) | Self::Below(t) => t.is_finite(),
            Self::Band { low, high } => low.is_finite() && high.is_finite(),
        };
        match *self {
            _ if !finite => Err(Error::Usage(format!("condition `{self}`: expected finite bounds"))),
            Self::Band { low, high } if low >= high => {
                Err(Error::Usage(format!("condition `{self}` is never met: expected low < high")))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(t) => write!(f, "p>={t}"),
            Self::Above(t) => write!(f, "p>{t}"),
            Self::AtMost(t) => write!(f, "p<={t}"),
            Self::Below(t) => write!(f, "p<{t}"),
            Self::Band { low, high } => write!(f, "{low}<=p<{high}"),
        }
    }
}

impl FromStr for Condition {
    type Err = Error;

    /// Reads `p>=t`, `p>t`, `p<=t`, `p<t` or `a<=p<b`.
    fn from_str(s: &str) -> Result<Self> {
        let unreadable = || {
            Error::Usage(format!(
                "condition `{s}`: expected one such as p>=0.99, p>0.5, p<=0.1, p<0.001 or 0.2<=p<0.3"
            ))
        };
        let bound = |s: &str| s.trim().parse::<f64>().map_err(|_| unreadable());
        let condition = if let Some(comparison) = s.trim().strip_prefix('p') {
            let (variant, t) = one_sided(comparison.trim_start()).ok_or_else(unreadable)?;
            variant(bound(t)?)
        } else {
            let (low, high) = s.split_once("<=").ok_or_else(unreadable)?;
            let high =
                high.trim_start().strip_prefix('p').and_then(|rest| rest.trim_start().strip_prefix('<'));
            Self::Band { low: bound(low)?, high: bound(high.ok_or_else(unreadable)?)? }
        };
        condition.validate()?;
        Ok(condition)
    }
}

/// The variant of a condition with one bound.
type OneSided = fn(f64) -> Condition;

/// Splits `>=t` and its like into the condition's variant and the bound.
fn one_sided(s: &str) -> Option<(OneSided, &str)> {
    const SYMBOLS: [(&str, OneSided); 4] = [
        (">=", Condition::AtLeast),
        ("<=", Condition::AtMost),
        (">", Condition::Above),
        ("<", Condition::Below),
    ];
    SYMBOLS.iter().find_map(|&(symbol, variant)| s.strip_prefix(symbol).map(|t| (variant, t)))
}

/// What is done with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Draw another in its place.
    Resample,
    /// Remove it.
    Drop,
    /// Leave it.
    Keep,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resample => "resample",
            Self::Drop => "drop",
            Self::Keep => "keep",
        })
    }
}

impl FromStr for Action {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        [Self::Resample, Self::Drop, Self::Keep]
            .into_iter()
            .find(|action| action.to_string() == s)
            .ok_or_else(|| Error::Usage(format!("action `{s}`: expected resample, drop or keep")))
    }
}

/// An action for the tokens that meet a condition, written `condition:action`.
///
/// ```
/// use toedit::edit::Rule;
/// let rule: Rule = "p<=0.1:resample".parse()?;
/// assert_eq!(rule.to_string(), "p<=0.1:resample");
/// assert!("p<=0.1:replace".parse::<Rule>().is_err());
/// # Ok::<(), toedit::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    condition: Condition,
    action: Action,
}

impl Rule {
    /// The rule `condition:action`.
    ///
    /// # Errors
    /// [`Error::Usage`] if a bound is not finite or a band is empty.
    pub fn new(condition: Condition, action: Action) -> Result<Self> {
        condition.validate()?;
        Ok(Self { condition, action })
    }

    /// When it applies.
    pub fn condition(&self) -> Condition {
        self.condition
    }

    /// What it does.
    pub fn action(&self) -> Action {
        self.action
    }
}

/// The action of the first of `rules` whose condition holds; none means [`Action::Keep`].
pub fn decide(rules: &[Rule], statistics: &Statistics) -> Action {
    rules.iter().find(|rule| rule.condition.holds(statistics)).map_or(Action::Keep, Rule::action)
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.condition, self.action)
    }
}

impl FromStr for Rule {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let (condition, action) = s.split_once(':').ok_or_else(|| {
            Error::Usage(format!("rule `{s}`: expected a condition and an action, such as p>=0.99:resample"))
        })?;
        Self::new(condition.parse()?, action.trim().parse()?)
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The named sets of rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// p >= 0.99 → resample: the ToEdit of Zhu et al., ICML 2025.
    #[default]
    UpRevise,
    /// p >= 0.99 → resample; p < 0.001 → drop.
    LowDropUpRevise,
    /// p < 0.001 → drop.
    Filtering,
}

impl Strategy {
    /// Every strategy.
    pub const ALL: [Self; 3] = [Self::UpRevise, Self::LowDropUpRevise, Self::Filtering];

    /// Its rules, in order.
    pub fn rules(&self) -> Vec<Rule> {
        let up_revise = Rule { condition: Condition::AtLeast(0.99), action: Action::Resample };
        let low_drop = Rule { condition: Condition::Below(0.001), action: Action::Drop };
        match self {
            Self::UpRevise => vec![up_revise],
            Self::LowDropUpRevise => vec![up_revise, low_drop],
            Self::Filtering => vec![low_drop],
        }
    }

    /// Its sampling temperature; `None` where nothing is sampled.
    pub fn temperature(&self) -> Option<f64> {
        match self {
            Self::UpRevise => Some(1.5),
            Self::LowDropUpRevise => Some(1.0),
            Self::Filtering => None,
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UpRevise => "up-revise",
            Self::LowDropUpRevise => "low-drop-up-revise",
            Self::Filtering => "filtering",
        })
    }
}

impl FromStr for Strategy {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|strategy| strategy.to_string() == s).ok_or_else(|| {
            Error::Usage(format!("strategy `{s}`: expected up-revise, low-drop-up-revise or filtering"))
        })
    }
}

impl Serialize for Strategy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
