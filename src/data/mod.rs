//! Documents in, documents out: streaming, in bounded memory, losing nothing.
//!
//! [`Inputs`] expands files, folders and standard input; [`Documents`] reads them one record at a time; a
//! [`Patch`] says what to change in a record, and everything else of it comes out byte for byte; [`Outputs`]
//! decides where each document goes and [`OutputWriter`] writes it there, a frame at a time, each of them durable
//! before the next is begun: whatever ends the process, the next one goes on behind the last. A file appears under
//! its name only when it is complete, with a [`Manifest`] beside it.
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

mod carried;
mod compress;
mod current;
mod digest;
mod document;
mod folder;
mod format;
mod frames;
mod journal;
mod jsonl;
mod lines;
mod manifest;
pub mod messages;
mod names;
mod output;
#[cfg(feature = "parquet")]
mod parquet;
mod partial;
mod patch;
mod plain_lines;
mod reader;
mod refused;
mod resume;
mod settings;
mod shard;
mod sink;
mod source;
#[doc(hidden)]
pub mod storage;
pub mod tokens;
mod writer;

pub use carried::Carried;
pub use compress::{Encoder, Reader};
pub use digest::Digest;
pub use document::{Content, Document, stream_key};
pub(crate) use folder::{hold, names};
pub use format::{Compression, Format};
pub use frames::DEFAULT_FRAME_BYTES;
pub use manifest::{InputRecord, Manifest, RecordCounts, peak_memory};
pub use messages::{Message, MessageEdits};
pub use names::{manifest_path, output_of_journal, rejects_path};
pub use output::{Outputs, Payload};
pub use patch::{Member, Patch, TextEdit, splice};
pub use plain_lines::{Line, Lines};
pub use reader::{DEFAULT_MAX_DOCUMENT_BYTES, Documents, ReadOptions, ReadPlan};
pub use refused::{Arrival, Mark, Refused};
pub use settings::Settings;
pub(crate) use settings::difference;
#[cfg(feature = "cli")]
pub(crate) use settings::{MAX_DOCUMENT_BYTES, ON_ERROR};
pub use shard::Shard;
pub use sink::{STANDARD_OUTPUT, Sink};
#[cfg(feature = "cli")]
pub(crate) use source::is_dash;
pub use source::{InputFile, Inputs, Progress};
pub use writer::{Begin, Counts, OutputColumns, OutputWriter, WriteConfig, Written};
