//! Models: configuration, checkpoint, weights and the forward pass.

mod block;
pub mod cache;
// Parts that tests and benches take apart; a program needs `Model` and `Config`.
#[doc(hidden)]
pub mod checkpoint;
mod columns;
pub mod config;
#[cfg(kernels)]
pub(crate) mod device;
#[doc(hidden)]
pub mod folder;
#[doc(hidden)]
pub mod forward;
pub mod init;
pub mod layout;
#[doc(hidden)]
pub mod names;
pub mod save;
#[doc(hidden)]
pub mod weights;

use std::fmt;
use std::path::{Path, PathBuf};

use half::bf16;

#[doc(hidden)]
pub use cache::Cache;
#[doc(hidden)]
pub use checkpoint::Checkpoint;
pub use config::Config;
#[doc(hidden)]
pub use forward::{Pack, Transformer};
#[doc(hidden)]
pub use weights::Weights;

use crate::Result;
use crate::device::Device;
#[cfg(kernels)]
use crate::device::Queue;
use crate::ops::matmul::Multiply;

/// The type in which weights are kept and products take their inputs; everything else is f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// Everything in f32.
    F32,
    /// Twice as fast and half the memory where the machine multiplies bf16.
    Bf16,
}

impl Dtype {
    /// bf16 where the device multiplies it faster than f32, else f32.
    pub fn auto(device: Device) -> Self {
        let fast = match device {
            Device::Cpu => bf16::is_fast(),
            Device::Cuda(_) => true,
            Device::Emulator => false,
        };
        if fast { Self::Bf16 } else { Self::F32 }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

/// How a model is loaded.
#[derive(Clone, Copy, Debug)]
pub struct LoadConfig {
    /// The type of its weights.
    pub dtype: Dtype,
    /// Where they go.
    pub device: Device,
    /// Whether weight files are mapped instead of read by positions: then a file that shrinks while it is loaded ends
    /// the process.
    pub mmap: bool,
}

/// A causal language model, ready to score. Shared by threads.
///
/// ```
/// use toedit::model::{Dtype, Model};
/// let model = Model::load("assets/tiny", Dtype::F32)?;
/// assert_eq!(model.config().vocab_size, 4096);
/// # Ok::<(), toedit::Error>(())
/// ```
pub struct Model {
    folder: PathBuf,
    config: Config,
    dtype: Dtype,
    device: Device,
    pub(crate) transformer: AnyTransformer,
    fingerprint: u64,
}

/// A transformer of either type, on the CPU or on a device with kernels.
pub(crate) enum AnyTransformer {
    F32(Transformer<f32>),
    Bf16(Transformer<bf16>),
    #[cfg(kernels)]
    DeviceF32(device::Transformer<f32>),
    #[cfg(kernels)]
    DeviceBf16(device::Transformer<bf16>),
}

impl AnyTransformer {
    fn load(config: &Config, checkpoint: &Checkpoint, dtype: Dtype, device: Device) -> Result<Self> {
        let own = config.clone();
        Ok(match (device, dtype) {
            (Device::Cpu, Dtype::F32) => Self::F32(Transformer::new(own, Weights::load(config, checkpoint)?)),
            (Device::Cpu, Dtype::Bf16) => {
                Self::Bf16(Transformer::new(own, Weights::load(config, checkpoint)?))
            }
            #[cfg(kernels)]
            (_, Dtype::F32) => {
                Self::DeviceF32(device::Transformer::load(Queue::open(device)?, own, checkpoint)?)
            }
            #[cfg(kernels)]
            (_, Dtype::Bf16) => {
                Self::DeviceBf16(device::Transformer::load(Queue::open(device)?, own, checkpoint)?)
            }
            #[cfg(not(kernels))]
            _ => return Err(device.not_built_in()),
        })
    }
}

impl Model {
    /// Loads a Hugging Face folder, or the id of a model in the local cache, for the CPU.
    ///
    /// # Errors
    /// A folder, configuration or tensor that is missing, malformed or of an unsupported kind, by name.
    pub fn load(model: impl AsRef<Path>, dtype: Dtype) -> Result<Self> {
        Self::load_with(model.as_ref(), LoadConfig { dtype, device: Device::Cpu, mmap: false })
    }

    /// [`Model::load`] onto any device.
    ///
    /// # Errors
    /// As [`Model::load`]; a device that is not there or has no room.
    pub fn load_with(model: &Path, load: LoadConfig) -> Result<Self> {
        let LoadConfig { dtype, device, mmap } = load;
        let folder =
            if model.is_dir() { model.to_owned() } else { folder::resolve(&model.to_string_lossy())? };
        let config = Config::from_file(&folder.join(folder::CONFIG))?;
        let checkpoint = Checkpoint::open(&folder, mmap)?;
        let transformer = AnyTransformer::load(&config, &checkpoint, dtype, device)?;
        Ok(Self { fingerprint: checkpoint.fingerprint()?, folder, config, dtype, device, transformer })
    }

    /// The model's folder, an id of the cache resolved.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The type of its products.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Where it lies.
    pub fn device(&self) -> Device {
        self.device
    }

    /// A hash of its configuration and weights.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}
