//! The one error type: each variant is something that a user can act on.

use std::path::{Path, PathBuf};

/// What every fallible function of the crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, where, and what to do. Messages are lower case and end without a period.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Settings that contradict each other or lie outside their range.
    #[error("{0}")]
    Usage(String),
    /// The operating system refused to read or write.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A model folder or its `config.json` that cannot be used as it stands.
    #[error("{}: field `{field}`: {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The field's name, dotted where nested.
        field: String,
        /// What was found and what is expected.
        reason: String,
    },
    /// A checkpoint's file or tensor that cannot be used.
    #[error("{}: tensor `{tensor}`: {reason}", path.display())]
    Tensor {
        /// The safetensors file.
        path: PathBuf,
        /// The tensor's name in the file.
        tensor: String,
        /// What was found and what is expected.
        reason: String,
    },
    /// A file of a model folder, an input or an output that is malformed or in the way as a whole.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was found and what is expected.
        reason: String,
    },
    /// One record of an input.
    #[error("{}:{line}: {reason}", path.display())]
    Record {
        /// The input file.
        path: PathBuf,
        /// Line number from 1 in the decompressed file.
        line: u64,
        /// What was found and what is expected.
        reason: String,
    },
    /// A document that the model cannot score: an id outside the vocabulary, a logit that is not finite.
    #[error("document {index}: {reason}")]
    Document {
        /// Position of the document in the call, from 0.
        index: usize,
        /// What was found and what is expected.
        reason: String,
    },
    /// A device that is missing, too old, or not built in.
    #[error("device `{device}`: {reason}")]
    Device {
        /// The device as the user named it.
        device: String,
        /// What is missing and what to do.
        reason: String,
    },
    /// A device has no room.
    #[error(
        "the device has no room for {bytes} bytes more: lower --batch-tokens or --max-length (--batch-size, or give \
         --recompute, where a model is trained), or choose another device"
    )]
    OutOfMemory {
        /// What was asked for.
        bytes: usize,
    },
    /// A device on which nothing runs any more in this process.
    #[error("device `{device}`: lost: {reason}")]
    DeviceLost {
        /// The device as the user named it.
        device: String,
        /// What happened first and what to do.
        reason: String,
    },
    /// Training came to a loss or a gradient that is not finite; the weights are those of the step before.
    #[error(
        "step {step}: loss {loss}, gradient norm {gradient_norm}: lower --learning-rate or --clip, or look at the data{}",
        checkpoint.as_ref().map_or(String::new(), |path| format!("; the last good checkpoint is {}", path.display()))
    )]
    Diverged {
        /// The step, from 1.
        step: u64,
        /// Mean loss of the step's targets.
        loss: f64,
        /// Global norm of its gradient.
        gradient_norm: f64,
        /// The last checkpoint, where there is one.
        checkpoint: Option<PathBuf>,
    },
    /// The run's own check failed: documents read and written differ in number.
    #[error(
        "{read} documents read but {written} written: this is a fault of the program; the output is not complete"
    )]
    Lost {
        /// Documents read.
        read: u64,
        /// Documents written.
        written: u64,
    },
    /// An output that another process is writing.
    #[error("{}: another process is writing this output: wait for it, or choose another name", path.display())]
    Busy {
        /// The partial file, which the other process holds locked.
        path: PathBuf,
    },
    /// The run was asked to stop by a signal.
    #[error("stopped by signal {0}")]
    Stopped(i32),
}

impl Error {
    /// An I/O error at `path`.
    pub fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }

    /// A file that is malformed as a whole.
    pub fn file(path: impl AsRef<Path>, reason: impl ToString) -> Self {
        Self::File { path: path.as_ref().to_owned(), reason: reason.to_string() }
    }

    /// The command's exit status: 2 wrong usage, 75 worth retrying later, 128 + n stopped by signal n, else 1.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Busy { .. } | Self::DeviceLost { .. } => 75,
            Self::Stopped(signal) => 128u8.saturating_add(*signal as u8),
            _ => 1,
        }
    }
}
