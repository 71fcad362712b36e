//! Checkpoints: a model folder as transformers reads it, and beside it what a run needs to go on bit for bit.
//!
//! `optimizer.safetensors` holds the flat buffers of [`Learn::state`] in f32, `trainer.json` the step, the settings and
//! fingerprints of what the run was made from.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::learner::Learn;
use super::trainer::Trainer;
use crate::data::difference;
use crate::device::View;
use crate::model::checkpoint::Checkpoint;
use crate::model::layout::{Parameter, Role};
use crate::model::save::{SaveFolder, config_json};
use crate::model::{Dtype, folder::read_small};
use crate::{Error, Result};

/// The file with weights and moments.
pub const OPTIMIZER: &str = "optimizer.safetensors";
/// The file with everything else.
pub const TRAINER: &str = "trainer.json";
/// The version of these files' meaning.
const FORMAT: u32 = 1;
/// The largest `trainer.json`, bytes.
const LIMIT: u64 = 1 << 20;
/// Values that are moved between device and file at a time.
const CHUNK: usize = 1 << 22;

/// What `trainer.json` holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The version of the checkpoint's files.
    pub format: u32,
    /// The version of the program that wrote it.
    pub version: String,
    /// Steps taken.
    pub step: u64,
    /// Held-out loss at this step, where it was evaluated.
    pub evaluation: Option<f64>,
    /// All that the run's bytes depend on.
    pub settings: Map<String, Value>,
}

impl State {
    /// Reads a checkpoint's.
    ///
    /// # Errors
    /// A file that is missing, malformed, or of another version.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(TRAINER);
        let malformed = |error| Error::file(&path, format!("not a trainer's state: {error}"));
        let value: Value = serde_json::from_slice(&read_small(&path, LIMIT)?).map_err(malformed)?;
        match value.get("format").and_then(Value::as_u64) {
            Some(format) if format == u64::from(FORMAT) => serde_json::from_value(value).map_err(malformed),
            format => {
                let found = format.map_or("none".to_owned(), |format| format.to_string());
                Err(Error::file(&path, format!("format {found}, this version reads format {FORMAT}")))
            }
        }
    }

    /// Refuses to go on with other settings than the checkpoint's.
    ///
    /// # Errors
    /// [`Error::File`] naming what differs.
    pub fn check(&self, folder: &Path, settings: &Map<String, Value>) -> Result<()> {
        let Some(difference) = difference(&self.settings, settings) else { return Ok(()) };
        let reason = format!("{difference}: go on with the same settings, or use --overwrite");
        Err(Error::file(folder.join(TRAINER), reason))
    }
}

impl Trainer {
    /// Writes a checkpoint to `folder`, whole or not at all.
    ///
    /// # Errors
    /// What the device or the system reports.
    pub fn save(&self, folder: &Path, evaluation: Option<f64>, settings: &Map<String, Value>) -> Result<()> {
        let save = SaveFolder::create(folder)?;
        let (learner, origin) = (self.learner(), self.origin());
        if let Some(source) = origin.folder() {
            save.companions(source)?;
        }
        let config = read_small(origin.config_path(), crate::model::config::FILE_LIMIT)?;
        save.file("config.json", config_json(&config, origin.config_path(), self.dtype())?.as_bytes())?;
        let tensors = &learner.layout().tensors;
        let parameters: Vec<_> = learner.layout().parameters().cloned().collect();
        save.model(self.dtype(), &parameters, |index, sink| sink.write(&learner.read(&tensors[index])?))?;
        write_state(&save, learner)?;
        let state = State {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            step: self.steps(),
            evaluation,
            settings: settings.clone(),
        };
        let json = serde_json::to_string_pretty(&state).expect("a state is plain data");
        save.file(TRAINER, json.as_bytes())?;
        save.commit()
    }

    /// Goes on from the checkpoint in `folder`, whose state is `state`.
    ///
    /// # Errors
    /// Files that are missing or do not fit the model.
    pub fn resume(&mut self, folder: &Path, state: &State) -> Result<()> {
        let learner = self.restore(state.step);
        let file = Checkpoint::open_file(&folder.join(OPTIMIZER))?;
        let whole = learner.state().iter().any(|(name, _)| ["weight", "adapters"].contains(name));
        if !whole {
            let weights = Checkpoint::open(folder, false)?;
            for tensor in learner.layout().tensors.clone() {
                let Parameter { name, shape, .. } = &tensor.parameter;
                learner.write(&tensor, &weights.tensor(name, shape)?.to_vec()?)?;
            }
        }
        for (name, view) in learner.state() {
            let tensor = file.tensor(name, &[view.len()])?;
            each_chunk(view, |first, view| {
                let mut values = vec![0.0; view.len()];
                tensor.read(first..first + values.len(), &mut values)?;
                learner.queue().write(view, &values)
            })?;
        }
        learner.ready()
    }
}

fn write_state(save: &SaveFolder, learner: &dyn Learn) -> Result<()> {
    let state = learner.state();
    let parameter = |(name, view): &(&str, View<'_, f32>)| Parameter {
        name: (*name).to_owned(),
        shape: vec![view.len()],
        role: Role::Linear,
    };
    let parameters: Vec<_> = state.iter().map(parameter).collect();
    save.tensors(OPTIMIZER, Dtype::F32, &parameters, |index, sink| {
        each_chunk(state[index].1, |_, view| sink.write(&learner.queue().download(view)?))
    })
}

/// Calls `run` with each part of a view, and where it starts.
fn each_chunk<'a>(
    view: View<'a, f32>,
    mut run: impl FnMut(usize, View<'a, f32>) -> Result<()>,
) -> Result<()> {
    (0..view.len())
        .step_by(CHUNK)
        .try_for_each(|first| run(first, view.slice(first..view.len().min(first + CHUNK))))
}
