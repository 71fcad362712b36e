//! Editing: which tokens are resampled or dropped, by what sampler, and what becomes of the text.

pub mod cached;
pub mod config;
pub mod constraint;
mod decision;
pub mod editor;
pub mod provenance;
pub mod records;
pub mod rules;
pub mod splice;
pub mod text;

pub use cached::{CachedEditor, CachingEditor};
pub use config::{EditConfig, Sampler};
pub use constraint::{Constraint, IdConstraint, RecordConstraint, TextConstraint, Vocabulary};
pub use editor::{Change, EditInput, Edited, Editor, Outcome};
pub use provenance::{Counts, Metadata, TokenEdit};
pub use records::{EditedRecord, Prior, RecordEditor};
pub use rules::{Action, Condition, Rule, Strategy};
