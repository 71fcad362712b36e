//! Where arithmetic runs: the CPU, or a device with kernels behind one small trait.
//!
//! A `Queue` is such a device with its work in order. It hands out `Buffer`s; ops take `View`s of them and launch
//! kernels through the launchers that the build generates from the kernels' signatures. Three drivers stand behind it:
//! CUDA, an emulator that runs the same kernel files on the host, and the host itself, on which ops run their loops.

mod buffer;
#[cfg(feature = "cuda")]
mod cuda;
mod driver;
#[cfg(feature = "emulator")]
mod emulator;
mod host;
#[cfg(kernels)]
pub(crate) mod kernels;
mod matrix;
mod queue;

use std::fmt;
use std::str::FromStr;

pub use buffer::{Buffer, View};
#[cfg(kernels)]
pub(crate) use driver::Grid;
pub use driver::{Address, Mark, PRODUCT_ROWS};
#[cfg(feature = "emulator")]
pub use emulator::Schedule;
pub(crate) use host::Access;
// For tests that are generic over the types of kernels; they cannot launch them.
#[doc(hidden)]
pub use kernels::Kernels;
pub use matrix::{Bias, BiasBuffers, Layout, Matrix, Rows, stride};
pub(crate) use queue::Arm;
pub use queue::Queue;

use crate::ops::simd::instruction_sets;
use crate::{Error, Result};

/// Where no kernels are built, ops have their loops alone.
#[cfg(not(kernels))]
pub(crate) mod kernels {
    use crate::tensor::Element;

    /// The types that ops take on devices.
    pub trait Kernels: Element {}
    impl Kernels for f32 {}
    impl Kernels for half::bf16 {}
}

/// A device that a model runs on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Device {
    /// The CPU, on the caller's thread pool.
    #[default]
    Cpu,
    /// An NVIDIA GPU, by its ordinal.
    Cuda(usize),
    /// The GPU's kernels on the host: slow, to test them.
    Emulator,
}

impl Device {
    /// The devices of this build.
    pub const BUILT_IN: &[Self] = &[
        Self::Cpu,
        #[cfg(feature = "cuda")]
        Self::Cuda(0),
        #[cfg(feature = "emulator")]
        Self::Emulator,
    ];

    /// The fastest device that is usable: a GPU where there is one and the kernels are built in, else the CPU.
    pub fn auto() -> Self {
        #[cfg(feature = "cuda")]
        match Self::Cuda(0).check() {
            Ok(()) => return Self::Cuda(0),
            // Somebody has put a driver there, and would want to know that it is of no use.
            Err(error) if cuda::has_driver() => tracing::warn!("{error}; running on the CPU"),
            Err(error) => tracing::debug!("{error}"),
        }
        Self::Cpu
    }

    /// Whether it can be used.
    ///
    /// # Errors
    /// [`Error::Device`] for one that is not built in, or not there.
    pub fn check(self) -> Result<()> {
        match self {
            Self::Cpu => Ok(()),
            #[cfg(feature = "cuda")]
            Self::Cuda(ordinal) => cuda::check(ordinal),
            _ if Self::BUILT_IN.contains(&self) => Ok(()),
            _ => Err(self.not_built_in()),
        }
    }

    /// What of it the order of sums, hence the last bits, depends on.
    pub(crate) fn setting(self) -> String {
        match self {
            Self::Cuda(_) => "cuda".to_owned(),
            other => format!("{other} {}", instruction_sets().join(" ")).trim_end().to_owned(),
        }
    }

    /// An error of this device.
    pub(crate) fn error(self, reason: impl fmt::Display) -> Error {
        Error::Device { device: self.to_string(), reason: reason.to_string() }
    }

    /// Why a device that has no driver in this build cannot be opened.
    pub(crate) fn not_built_in(self) -> Error {
        let feature = if self == Self::Emulator { "emulator" } else { "cuda" };
        self.error(format!(
            "this build has no kernels for it: build with --features {feature}, or use --device cpu"
        ))
    }
}

impl FromStr for Device {
    type Err = Error;

    /// Reads `cpu`, `cuda`, `cuda:N` or `emulator`; `auto` is [`Device::auto`].
    fn from_str(name: &str) -> Result<Self> {
        let ordinal = |name: &str| match name.strip_prefix("cuda:") {
            Some(number) => number.parse().ok(),
            None => (name == "cuda").then_some(0),
        };
        match name {
            "auto" => Ok(Self::auto()),
            "cpu" => Ok(Self::Cpu),
            "emulator" => Ok(Self::Emulator),
            _ => ordinal(name).map(Self::Cuda).ok_or_else(|| {
                Error::Usage(format!("device `{name}`: expected auto, cpu, cuda, cuda:N or emulator"))
            }),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
            Self::Emulator => f.write_str("emulator"),
        }
    }
}
