//! From documents to training rows.
//!
//! [`Vocabulary`] turns documents into ids and [`tokenize_into`] those into token shards, once; a [`Loader`] cuts rows out
//! of the shards. A row is a pure function of the shards, the settings and its number: whoever resumes needs only the
//! number of the next one.

mod encode;
mod loader;
mod marks;
mod mixture;
mod rows;
mod tokenize;
mod vocabulary;

pub use crate::compose::Bos;
pub use crate::ops::cross_entropy::IGNORE;
pub use encode::{Encoded, Encoder};
pub use loader::{DataConfig, LeftOut, Loader, Packing, Source};
pub use rows::Row;
pub use tokenize::{TokenizeConfig, Tokenized, tokenize, tokenize_into};
pub use vocabulary::Vocabulary;
