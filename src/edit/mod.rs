//! Editing: which tokens are resampled or dropped, by what sampler, and what becomes of the text.

pub mod config;
pub mod constraint;
pub mod editor;
pub mod provenance;
pub mod rules;
pub mod splice;
pub mod text;

pub use config::{EditConfig, Sampler};
pub use constraint::{Constraint, IdConstraint, TextConstraint, Vocabulary};
pub use editor::{Change, EditInput, Edited, Editor, Outcome};
pub use provenance::{Counts, Metadata, TokenEdit};
pub use rules::{Action, Condition, Rule, Strategy};
