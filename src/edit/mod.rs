//! Editing: which tokens are resampled or dropped, by what sampler, and what becomes of the text.

pub mod config;
pub mod provenance;
pub mod rules;
pub mod splice;

pub use config::{EditConfig, Sampler};
pub use provenance::{Counts, Metadata, TokenEdit};
pub use rules::{Action, Condition, Rule, Strategy};
