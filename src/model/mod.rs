//! Models: configuration, checkpoint, weights and the forward pass.

mod block;
// Parts that tests and benches take apart; a program needs `Model` and `Config`.
#[doc(hidden)]
pub mod checkpoint;
pub mod config;
#[doc(hidden)]
pub mod folder;
#[doc(hidden)]
pub mod forward;
mod map;
#[doc(hidden)]
pub mod names;
#[doc(hidden)]
pub mod weights;

use std::fmt;
use std::path::{Path, PathBuf};

use half::bf16;

#[doc(hidden)]
pub use checkpoint::Checkpoint;
pub use config::Config;
#[doc(hidden)]
pub use forward::{Pack, Transformer};
#[doc(hidden)]
pub use weights::Weights;

use crate::Result;
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
    /// bf16 where the machine multiplies it faster than f32, else f32.
    pub fn auto() -> Self {
        if bf16::is_fast() { Self::Bf16 } else { Self::F32 }
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
    pub(crate) transformer: AnyTransformer,
    fingerprint: u64,
}

/// A transformer of either type.
pub(crate) enum AnyTransformer {
    F32(Transformer<f32>),
    Bf16(Transformer<bf16>),
}

impl Model {
    /// Loads a Hugging Face folder, or the id of a model in the local cache, by positioned reads.
    ///
    /// # Errors
    /// A folder, configuration or tensor that is missing, malformed or of an unsupported kind, by name.
    pub fn load(model: impl AsRef<Path>, dtype: Dtype) -> Result<Self> {
        Self::load_with(model.as_ref(), dtype, false)
    }

    /// [`Model::load`], mapping the weight files instead of reading them with `mmap`: then a file that shrinks while it
    /// is loaded ends the process.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn load_with(model: &Path, dtype: Dtype, mmap: bool) -> Result<Self> {
        let folder =
            if model.is_dir() { model.to_owned() } else { folder::resolve(&model.to_string_lossy())? };
        let config = Config::from_file(&folder.join(folder::CONFIG))?;
        let checkpoint = Checkpoint::open(&folder, mmap)?;
        let transformer = match dtype {
            Dtype::F32 => {
                AnyTransformer::F32(Transformer::new(config.clone(), Weights::load(&config, &checkpoint)?))
            }
            Dtype::Bf16 => {
                AnyTransformer::Bf16(Transformer::new(config.clone(), Weights::load(&config, &checkpoint)?))
            }
        };
        Ok(Self { fingerprint: checkpoint.fingerprint()?, folder, transformer })
    }

    /// The model's folder, an id of the cache resolved.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        match &self.transformer {
            AnyTransformer::F32(transformer) => transformer.config(),
            AnyTransformer::Bf16(transformer) => transformer.config(),
        }
    }

    /// The type of its products.
    pub fn dtype(&self) -> Dtype {
        match self.transformer {
            AnyTransformer::F32(_) => Dtype::F32,
            AnyTransformer::Bf16(_) => Dtype::Bf16,
        }
    }

    /// A hash of its configuration and weights.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}
