//! The settings of an edit, checked when they are made.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::rules::{self, Action, Rule, Strategy};
use crate::random::Stream;
use crate::score::Statistics;
use crate::{Error, Result};

/// Candidates of the top-k sampler where nothing else is said.
pub const DEFAULT_TOP_K: usize = 8;
/// Mass of the top-p sampler where nothing else is said: no restriction.
pub const DEFAULT_TOP_P: f64 = 1.0;
/// The temperature where neither the user nor a strategy sets one.
pub const DEFAULT_TEMPERATURE: f64 = 1.5;

/// How a token is drawn from a row of logits.
///
/// The text form is the name alone; parsing one gives the default parameter.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "name", content = "value", rename_all = "kebab-case")]
pub enum Sampler {
    /// From the k largest logits.
    TopK(usize),
    /// From the fewest largest logits whose mass at temperature 1 reaches P; 1 means [`Sampler::Full`].
    TopP(f64),
    /// From the whole vocabulary.
    Full,
    /// From the whole vocabulary, proposals that are not allowed being drawn again, 64 times at most.
    Rejection,
}

impl Sampler {
    /// The name: `top-k`, `top-p`, `full` or `rejection`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::TopK(_) => "top-k",
            Self::TopP(_) => "top-p",
            Self::Full => "full",
            Self::Rejection => "rejection",
        }
    }

    fn validate(&self) -> Result<()> {
        match *self {
            Self::TopK(0) => Err(Error::Usage("top-k of 0 candidates: expected at least 1".into())),
            Self::TopP(mass) if !(mass > 0.0 && mass <= 1.0) => {
                Err(Error::Usage(format!("top-p mass {mass}: expected above 0 and at most 1")))
            }
            _ => Ok(()),
        }
    }

    /// Whether the original is the only candidate wherever p >= t > 1/2, where it is the most likely token.
    fn keeps_only_original(&self, t: f64) -> bool {
        match *self {
            Self::TopK(k) => k == 1,
            Self::TopP(mass) => mass < 1.0 && mass <= t,
            Self::Full | Self::Rejection => false,
        }
    }
}

impl Default for Sampler {
    fn default() -> Self {
        Self::TopK(DEFAULT_TOP_K)
    }
}

impl fmt::Display for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Sampler {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        [Self::TopK(DEFAULT_TOP_K), Self::TopP(DEFAULT_TOP_P), Self::Full, Self::Rejection]
            .into_iter()
            .find(|sampler| sampler.name() == s)
            .ok_or_else(|| Error::Usage(format!("sampler `{s}`: expected top-k, top-p, full or rejection")))
    }
}

/// What is edited and how.
///
/// ```
/// use toedit::edit::{EditConfig, Sampler, Strategy};
/// let config = EditConfig::new(Strategy::UpRevise).with_sampler(Sampler::TopK(64))?.with_seed(7);
/// assert_eq!(config.rules()[0].to_string(), "p>=0.99:resample");
/// assert_eq!(config.temperature(), 1.5);
/// # Ok::<(), toedit::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EditConfig {
    rules: Vec<Rule>,
    sampler: Sampler,
    temperature: f64,
    exclude_original: bool,
    seed: u64,
    generation: u32,
}

impl EditConfig {
    /// The rules and the temperature of `strategy`, top-k with k = 8, seed 0, generation 0.
    pub fn new(strategy: Strategy) -> Self {
        let temperature = strategy.temperature().unwrap_or(DEFAULT_TEMPERATURE);
        Self { temperature, ..Self::from_rules(strategy.rules()) }
    }

    /// As [`EditConfig::new`] with rules of one's own, the first that applies deciding, and temperature 1.5.
    pub fn from_rules(rules: Vec<Rule>) -> Self {
        Self {
            rules,
            sampler: Sampler::default(),
            temperature: DEFAULT_TEMPERATURE,
            exclude_original: false,
            seed: 0,
            generation: 0,
        }
    }

    /// Decides by `rules` instead of the strategy's, the first that applies; the temperature stays.
    pub fn with_rules(self, rules: Vec<Rule>) -> Self {
        Self { rules, ..self }
    }

    /// Draws by `sampler`.
    ///
    /// # Errors
    /// [`Error::Usage`] unless k >= 1 and 0 < P <= 1.
    pub fn with_sampler(self, sampler: Sampler) -> Result<Self> {
        sampler.validate()?;
        Ok(Self { sampler, ..self })
    }

    /// Divides logits by `temperature` before drawing.
    ///
    /// # Errors
    /// [`Error::Usage`] unless it is finite and above 0.
    pub fn with_temperature(self, temperature: f64) -> Result<Self> {
        if !(temperature.is_finite() && temperature > 0.0) {
            return Err(Error::Usage(format!("temperature {temperature}: expected a finite number above 0")));
        }
        Ok(Self { temperature, ..self })
    }

    /// Whether the original token is no candidate of its own position.
    pub fn with_exclude_original(self, exclude_original: bool) -> Self {
        Self { exclude_original, ..self }
    }

    /// The seed of the random numbers.
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// The round of editing, from 0, so that each draws numbers of its own.
    ///
    /// # Errors
    /// [`Error::Usage`] if it exceeds [`Stream::MAX_GENERATION`].
    pub fn with_generation(self, generation: u32) -> Result<Self> {
        if generation > Stream::MAX_GENERATION {
            let most = Stream::MAX_GENERATION;
            return Err(Error::Usage(format!("generation {generation}: expected at most {most}")));
        }
        Ok(Self { generation, ..self })
    }

    /// The rules in order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// What the rules do with the token that `statistics` describes.
    pub fn decide(&self, statistics: &Statistics) -> Action {
        rules::decide(&self.rules, statistics)
    }

    /// The sampler.
    pub fn sampler(&self) -> &Sampler {
        &self.sampler
    }

    /// The sampling temperature.
    pub fn temperature(&self) -> f64 {
        self.temperature
    }

    /// Whether the original token is no candidate of its own position.
    pub fn exclude_original(&self) -> bool {
        self.exclude_original
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The round of editing, from 0.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// A sentence for the user where the sampler can change nothing that the rules resample.
    ///
    /// At p >= t > 1/2 the original is the most likely token. If it alone has the mass P, or k is 1, it is the only
    /// candidate: it is drawn, or nothing is where it is excluded.
    pub fn warning(&self) -> Option<String> {
        let resample = self.rules.iter().filter(|rule| rule.action() == Action::Resample);
        let lowest = resample.map(|rule| rule.condition().lower_bound()).reduce(f64::min)?;
        if lowest <= 0.5 || !self.sampler.keeps_only_original(lowest) {
            return None;
        }
        let (setting, remedy) = match self.sampler {
            Sampler::TopP(mass) => (format!("top-p {mass}"), format!("a mass above {lowest}")),
            _ => ("top-k 1".to_owned(), "a larger k".to_owned()),
        };
        Some(format!(
            "{setting} keeps only the original token where p >= {lowest}, so resampling changes nothing; choose {remedy} or another sampler"
        ))
    }
}

impl Default for EditConfig {
    fn default() -> Self {
        Self::new(Strategy::default())
    }
}
