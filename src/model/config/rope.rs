//! Rotary positions: their settings in both layouts of `config.json`, and the frequencies.

use super::{family::Traits, fields::Fields};
use crate::Result;

/// The largest `rope_theta`; published long-context models reach 5·10¹⁰.
const THETA_LIMIT: f64 = 1e12;
/// The largest scaling factor.
const FACTOR_LIMIT: f64 = 1e6;

/// Rotary position embedding (RoPE) of the first `rotary_dim` components of each query and key head, halves rotated
/// against each other: component i with component i + `rotary_dim / 2`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Components of a head that are rotated; even, at most `head_dim`.
    pub rotary_dim: usize,
    /// The base of the frequencies.
    pub theta: f64,
    /// What stretches the frequencies beyond the trained length.
    pub scaling: RopeScaling,
}

/// How rotary frequencies are stretched for contexts longer than those first trained on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All frequencies divided by a factor (Chen et al., arXiv 2306.15595).
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3.1: low frequencies divided, high ones kept, a linear ramp between.
    Llama3 {
        /// The divisor of the low frequencies.
        factor: f64,
        /// Wavelengths above the original length over this are divided.
        low_freq_factor: f64,
        /// Wavelengths below the original length over this are kept.
        high_freq_factor: f64,
        /// The length first trained on, tokens.
        original_max_position_embeddings: usize,
    },
}

impl Rope {
    /// The angles per position, `rotary_dim / 2` of them: θ^(−2i/`rotary_dim`), scaled.
    ///
    /// Each step is rounded to f32 as transformers (`modeling_rope_utils`) rounds it, since thousands of positions
    /// multiply a difference here.
    pub fn inverse_frequencies(&self) -> Vec<f32> {
        let frequency = |i: usize| {
            let exponent = (2 * i) as f32 / self.rotary_dim as f32;
            1.0 / f64::from(self.theta as f32).powf(f64::from(exponent)) as f32
        };
        (0..self.rotary_dim / 2).map(|i| self.scaling.apply(frequency(i))).collect()
    }

    /// Reads `rope_scaling` (or `rope_parameters`) and the fields beside it.
    pub(super) fn from_fields(
        fields: &Fields,
        traits: &Traits,
        head_dim: usize,
        max_positions: usize,
    ) -> Result<Self> {
        let nested = match fields.object("rope_scaling")?.filter(|scaling| !scaling.is_empty()) {
            Some(scaling) => Some(scaling),
            None => fields.object("rope_parameters")?,
        };
        let (mut theta, mut share) = (None, None);
        let mut scaling = RopeScaling::None;
        if let Some(nested) = &nested {
            theta = nested.number_from_one("rope_theta", THETA_LIMIT)?;
            share = nested.number("partial_rotary_factor", 1.0)?;
            scaling = RopeScaling::from_fields(nested, max_positions)?;
        }
        let theta_field = if traits.partial_rotary { "rotary_emb_base" } else { "rope_theta" };
        let theta = theta.or(fields.number_from_one(theta_field, THETA_LIMIT)?).unwrap_or(10_000.0);
        let share = match share {
            None if traits.partial_rotary => fields.number("rotary_pct", 1.0)?,
            None => fields.number("partial_rotary_factor", 1.0)?,
            share => share,
        };
        let rotary_dim = rotary_dim(fields, traits, share, head_dim)?;
        Ok(Self { rotary_dim, theta, scaling })
    }
}

/// Components to rotate, given the share of a head that the file asks for.
fn rotary_dim(fields: &Fields, traits: &Traits, share: Option<f64>, head_dim: usize) -> Result<usize> {
    if !traits.partial_rotary {
        return match share {
            None | Some(1.0) => Ok(head_dim),
            Some(share) => Err(fields.error(
                "partial_rotary_factor",
                format!("found {share}, but {} models rotate whole heads (1.0)", traits.model_type),
            )),
        };
    }
    let rotary_dim = (head_dim as f64 * share.unwrap_or(0.25)) as usize;
    if rotary_dim == 0 || rotary_dim % 2 == 1 {
        let reason = format!("{rotary_dim} of {head_dim} components rotated, expected an even number from 2");
        return Err(fields.error("rotary_pct", reason));
    }
    Ok(rotary_dim)
}

impl RopeScaling {
    fn from_fields(fields: &Fields, max_positions: usize) -> Result<Self> {
        if let Some(layer_type) = fields.nested() {
            return Err(fields.error(layer_type, "settings by layer type are not supported"));
        }
        let rope_type = match fields.text("rope_type")? {
            Some(rope_type) => rope_type,
            None => fields.text("type")?.unwrap_or("default"),
        };
        match rope_type {
            "default" => Ok(Self::None),
            "linear" => Ok(Self::Linear { factor: fields.required_from_one("factor", FACTOR_LIMIT)? }),
            "llama3" => Self::llama3(fields, max_positions),
            other => Err(fields.unsupported("rope_type", other, "default, linear, llama3")),
        }
    }

    fn llama3(fields: &Fields, max_positions: usize) -> Result<Self> {
        let low_freq_factor = fields.required_number("low_freq_factor", FACTOR_LIMIT)?;
        let high_freq_factor = fields.required_number("high_freq_factor", FACTOR_LIMIT)?;
        if high_freq_factor <= low_freq_factor {
            let reason =
                format!("found {high_freq_factor}, expected more than low_freq_factor {low_freq_factor}");
            return Err(fields.error("high_freq_factor", reason));
        }
        let original = fields.optional_size("original_max_position_embeddings")?;
        Ok(Self::Llama3 {
            factor: fields.required_from_one("factor", FACTOR_LIMIT)?,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings: original.unwrap_or(max_positions),
        })
    }

    /// Stretches one frequency, rounding as transformers does.
    fn apply(self, frequency: f32) -> f32 {
        match self {
            Self::None => frequency,
            Self::Linear { factor } => frequency / factor as f32,
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
                let original = original_max_position_embeddings as f64;
                let wavelength = std::f32::consts::TAU / frequency;
                if wavelength > (original / low_freq_factor) as f32 {
                    return frequency / factor as f32;
                }
                if wavelength < (original / high_freq_factor) as f32 {
                    return frequency;
                }
                let (low, width) = (low_freq_factor as f32, (high_freq_factor - low_freq_factor) as f32);
                let smooth = (original as f32 / wavelength - low) / width;
                (1.0 - smooth) * frequency / factor as f32 + smooth * frequency
            }
        }
    }
}
