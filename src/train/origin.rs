//! Where a trained model comes from: a model folder, or a configuration alone.

use std::path::{Path, PathBuf};

use crate::model::init::Initializer;
use crate::model::layout::Parameter;
use crate::model::names::Names;
use crate::model::{Checkpoint, Config, folder};
use crate::{Error, Result};

/// What training starts from.
#[derive(Debug)]
pub struct Origin {
    /// `config.json`, and its bytes.
    config_path: PathBuf,
    config: Config,
    /// None for a model from scratch.
    checkpoint: Option<Checkpoint>,
    /// Where the tokenizer and what else belongs to the model lie, where there is such a folder.
    folder: Option<PathBuf>,
}

impl Origin {
    /// A model that is trained further: a Hugging Face folder, or the id of a model in the local cache.
    ///
    /// # Errors
    /// As [`crate::Model::load`], but for the weights' values.
    pub fn model(name: &str) -> Result<Self> {
        let folder = folder::resolve(name)?;
        let config_path = folder.join(folder::CONFIG);
        let config = Config::from_file(&config_path)?;
        let checkpoint = Checkpoint::open(&folder, false)?;
        Ok(Self { config_path, config, checkpoint: Some(checkpoint), folder: Some(folder) })
    }

    /// A model from scratch, with the tokenizer of a folder: of the configuration's own unless another is named.
    ///
    /// # Errors
    /// As [`Config::from_file`].
    pub fn scratch(config: &Path, tokenizer: Option<&Path>) -> Result<Self> {
        let beside = config.parent().filter(|folder| folder.join("tokenizer.json").is_file());
        let folder = tokenizer.or(beside).map(Path::to_owned);
        Ok(Self {
            config: Config::from_file(config)?,
            config_path: config.to_owned(),
            checkpoint: None,
            folder,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The file that it was read from.
    pub fn config_path(&self) -> &Path {
        &self.config_path
    }

    /// The first weights; none for a model from scratch.
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.checkpoint.as_ref()
    }

    /// A tensor's first values: the checkpoint's, or drawn.
    ///
    /// # Errors
    /// A tensor that is missing or does not fit; an embedding and a head that should be one and differ.
    pub fn values(&self, tensor: &Parameter, seed: u64) -> Result<Vec<f32>> {
        let Some(checkpoint) = &self.checkpoint else {
            let mut values = vec![0.0; tensor.elements()];
            Initializer { config: &self.config, seed }.fill(tensor, 0, &mut values);
            return Ok(values);
        };
        let names = Names::of(self.config.family);
        let file_name = |name: &str| format!("{name}.weight");
        let read = |name: &str| checkpoint.tensor(name, &tensor.shape)?.to_vec();
        let head = names.head.iter().map(|name| file_name(name)).find(|name| checkpoint.contains(name));
        let is = |names: &[&'static str]| names.iter().any(|name| file_name(name) == tensor.name);
        match head {
            // Heads have more than one name.
            Some(head) if is(names.head) => read(&head),
            Some(head) if self.config.tie_word_embeddings && is(&[names.embedding]) => {
                let values = read(&head)?;
                if checkpoint.contains(&tensor.name) && read(&tensor.name)? != values {
                    let reason =
                        format!("differs from `{}`, which the configuration ties it to", tensor.name);
                    return Err(Error::Tensor { path: self.config_path.clone(), tensor: head, reason });
                }
                Ok(values)
            }
            _ => read(&tensor.name),
        }
    }

    /// The folder with the tokenizer.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }
}
