//! Documents in, documents out: streaming, in bounded memory, losing nothing.
//!
//! [`Inputs`] expands files, folders and standard input; [`Documents`] reads them one record at a time; a
//! [`Patch`] says what to change in a record, and everything else of it comes out byte for byte; [`Outputs`]
//! decides where each document goes and [`OutputWriter`] writes it there, each file appearing under its name
//! only when it is complete.
//!
//! ```
//! use toedit::data::{Document, Format, Member, Patch, TextEdit};
//!
//! let document = Document::from_json(r#"{"text": "caf\u00e9 noir", "n": 1.0e2}"#, "text")?;
//! assert_eq!(document.text(), Some("café noir"));
//! let edits = [TextEdit { start: 6, end: 10, new: "au lait".into() }];
//! let metadata = r#"{"changed":1}"#;
//! let patch = Patch { text: Member::Set(&edits), metadata: Member::Set(metadata), ..Patch::default() };
//! let line = document.render(&patch, Format::JsonLines)?;
//! assert_eq!(line, br#"{"text": "caf\u00e9 au lait", "n": 1.0e2,"toedit":{"changed":1}}"#);
//! # Ok::<(), toedit::Error>(())
//! ```

mod compress;
mod document;
mod format;
mod jsonl;
mod output;
#[cfg(feature = "parquet")]
mod parquet;
mod patch;
mod reader;
mod shard;
mod sink;
mod source;
pub mod tokens;

/// The member that holds token ids.
const IDS: &str = "input_ids";
/// The member that holds what an edit did.
const METADATA: &str = "toedit";

pub use compress::{Encoder, Reader};
pub use document::{Content, Document, stream_key};
pub use format::{Compression, Format};
pub use output::{OutputWriter, Outputs, Payload};
pub use patch::{Member, Patch, TextEdit, splice};
pub use reader::{DEFAULT_MAX_DOCUMENT_BYTES, Documents, ReadOptions};
pub use shard::Shard;
pub use sink::{STANDARD_OUTPUT, Sink};
#[cfg(feature = "cli")]
pub(crate) use source::is_dash;
pub use source::{InputFile, Inputs, Progress};
