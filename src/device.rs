//! Where arithmetic runs.

use std::fmt;

use crate::{Error, Result};

/// A device that a model runs on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Device {
    /// The CPU, on the caller's thread pool.
    #[default]
    Cpu,
}

impl Device {
    /// The devices of this build.
    pub const BUILT_IN: &[Self] = &[Self::Cpu];

    /// The device of a name: `auto` (the fastest usable one), `cpu`, `cuda`, `cuda:N` or `emulator`.
    ///
    /// # Errors
    /// [`Error::Device`] for a device that this build or machine does not have.
    pub fn open(name: &str) -> Result<Self> {
        match name {
            "auto" | "cpu" => Ok(Self::Cpu),
            _ => Err(Error::Device {
                device: name.to_owned(),
                reason: "this build has no kernels for it; use --device cpu".to_owned(),
            }),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
        }
    }
}
