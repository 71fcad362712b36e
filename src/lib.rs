#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod analysis;
#[cfg(feature = "cli")]
pub mod cli;
pub mod collapse;
pub mod compose;
pub mod data;
pub mod device;
pub mod edit;
mod error;
pub mod evaluate;
pub mod generate;
mod map;
pub mod mix;
pub mod model;
pub mod ops;
#[cfg(feature = "cli")]
mod plot;
pub mod random;
pub mod score;
pub mod select;
pub mod tensor;
pub mod theory;
pub mod tokenizer;
pub mod train;

pub use data::Document;
pub use device::Device;
pub use edit::{EditConfig, Editor, Rule, Sampler};
pub use error::{Error, Result};
pub use generate::{GenerateConfig, Generator, Sampling};
pub use model::{Dtype, Model};
pub use score::{ScoreConfig, Scorer, Scores};
pub use tokenizer::Tokenizer;
