//! The first values of a model that is trained from scratch, distributed as transformers does it.
//!
//! Matrices are normal with standard deviation `initializer_range`, biases 0, norms 1 and 0; GPT-2 divides the deviation
//! of products that are added to the residual stream by √(2·layers) (Radford et al., "Language models are unsupervised
//! multitask learners", 2019, section 2.3). A value is a pure function of the seed, the tensor's name and the index in it.

use std::f64::consts::TAU;

use rayon::prelude::*;

use super::config::{Config, Family};
use super::layout::{Parameter, Role};
use super::save::TensorSink;
use crate::Result;
use crate::random::{Purpose, Stream, name_stream};

/// Values that one task makes.
const TASK: usize = 1 << 13;
/// Values made at a time where they are written to a file.
const PIECE: usize = 1 << 20;

/// A distribution of first values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Normal around 0.
    Normal {
        /// The standard deviation.
        std: f64,
    },
    /// All 1.
    Ones,
    /// All 0.
    Zeros,
}

/// How transformers initialises a tensor of this role.
pub fn initial(config: &Config, role: Role) -> Init {
    let std = f64::from(config.initializer_range);
    match role {
        Role::NormWeight => Init::Ones,
        Role::Bias => Init::Zeros,
        Role::Residual if config.family == Family::Gpt2 => {
            Init::Normal { std: std / (2.0 * config.num_hidden_layers as f64).sqrt() }
        }
        Role::Embedding | Role::Positions | Role::Linear | Role::Residual | Role::Head => {
            Init::Normal { std }
        }
    }
}

/// Fills `out` with the values from index `first` on of the tensor `name`.
///
/// ```
/// use toedit::model::init::{Init, fill};
/// let mut whole = [0.0; 10];
/// fill(Init::Normal { std: 0.02 }, 7, "lm_head.weight", 0, &mut whole);
/// let mut part = [0.0; 4];
/// fill(Init::Normal { std: 0.02 }, 7, "lm_head.weight", 3, &mut part);
/// assert_eq!(part, whole[3..7]);
/// ```
pub fn fill(init: Init, seed: u64, name: &str, first: usize, out: &mut [f32]) {
    match init {
        Init::Ones => out.fill(1.0),
        Init::Zeros => out.fill(0.0),
        Init::Normal { std } => {
            let normal = Normal { seed, stream: name_stream(name), std };
            out.par_chunks_mut(TASK)
                .enumerate()
                .for_each(|(task, out)| normal.fill((first + task * TASK) as u64, out));
        }
    }
}

/// Normal numbers of one tensor.
struct Normal {
    seed: u64,
    stream: u64,
    std: f64,
}

impl Normal {
    fn fill(&self, first: u64, out: &mut [f32]) {
        let mut pair = self.pair(first / 2);
        for (index, value) in (first..).zip(out) {
            if index % 2 == 0 {
                pair = self.pair(index / 2);
            }
            *value = pair[(index % 2) as usize];
        }
    }

    /// The values 2·`index` and 2·`index` + 1, by Box and Muller's transform (1958) in f64.
    fn pair(&self, index: u64) -> [f32; 2] {
        let stream = Stream::new(self.seed, self.stream, Purpose::Initialize, (index >> 32) as u32)
            .expect("no tensor has 2⁵³ elements");
        let uniform = stream.draw(index as u32, 0);
        let radius = self.std * (-2.0 * uniform.first.ln()).sqrt();
        let (sin, cos) = (TAU * uniform.second).sin_cos();
        [(radius * cos) as f32, (radius * sin) as f32]
    }
}

/// The first values of a whole model.
#[derive(Clone, Copy, Debug)]
pub struct Initializer<'a> {
    /// The model.
    pub config: &'a Config,
    /// The seed of all that is random.
    pub seed: u64,
}

impl Initializer<'_> {
    /// Fills `out` with the values from index `first` on of a tensor, as its file holds them: [`fill`] by its role, and 0
    /// in the embedding's row of the padding token where the family has such a row.
    pub fn fill(&self, parameter: &Parameter, first: usize, out: &mut [f32]) {
        fill(initial(self.config, parameter.role), self.seed, &parameter.name, first, out);
        if let (Role::Embedding, Some(row)) = (parameter.role, self.config.padding_row) {
            let start = row as usize * self.config.hidden_size;
            let inside = |index: usize| index.clamp(first, first + out.len()) - first;
            let row = inside(start)..inside(start + self.config.hidden_size);
            out[row].fill(0.0);
        }
    }

    /// Gives a sink all values of a tensor.
    ///
    /// # Errors
    /// As [`TensorSink::write`].
    pub fn write(&self, parameter: &Parameter, sink: &mut TensorSink) -> Result<()> {
        let elements = parameter.elements();
        let mut values = vec![0.0; elements.min(PIECE)];
        for first in (0..elements).step_by(PIECE) {
            let values = &mut values[..PIECE.min(elements - first)];
            self.fill(parameter, first, values);
            sink.write(values)?;
        }
        Ok(())
    }
}
