//! The files that belong to an output: `NAME.manifest` and `NAME.rejects` beside it, and hidden ones while it is made.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, TryLockError};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::storage::Storage;
use crate::{Error, Result};

/// How often a lock is tried whose file is just being removed.
const LOCK_ATTEMPTS: usize = 100;
/// Hexadecimal digits of a token.
const TOKEN: usize = 16;

/// One of the hidden files `.NAME.TOKEN.KIND` of a process that makes an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The output as far as it has come.
    Partial,
    /// The output, made of the frames in the other.
    Assembled,
    /// The reject file as far as it has come.
    Rejects,
    /// What of both is valid.
    Journal,
    /// The manifest before it has its name, or another file that is written whole.
    Whole,
}

impl Kind {
    pub const ALL: [Self; 5] = [Self::Partial, Self::Assembled, Self::Rejects, Self::Journal, Self::Whole];

    fn name(self) -> &'static str {
        match self {
            Self::Partial => "partial",
            Self::Assembled => "assembled",
            Self::Rejects => "rejects",
            Self::Journal => "journal",
            Self::Whole => "whole",
        }
    }
}

/// `NAME.manifest`: what the output is and came from.
pub fn manifest_path(output: &Path) -> PathBuf {
    with_suffix(output, ".manifest")
}

/// `NAME.rejects`: records that were set aside.
pub fn rejects_path(output: &Path) -> PathBuf {
    with_suffix(output, ".rejects")
}

fn with_suffix(output: &Path, suffix: &str) -> PathBuf {
    let mut name = output.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    output.with_file_name(name)
}

/// The folder of a file; never empty.
pub(super) fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// `.NAME.` and so on beside `output`.
fn hidden(output: &Path, rest: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(output.file_name().unwrap_or_default());
    name.push(".");
    name.push(rest);
    output.with_file_name(name)
}

/// The hidden file of a process.
pub(super) fn working_path(output: &Path, token: &str, kind: Kind) -> PathBuf {
    hidden(output, &format!("{token}.{}", kind.name()))
}

/// A word that no other process has.
pub(super) fn new_token() -> String {
    // Its keys come from the system's random numbers.
    format!("{:0TOKEN$x}", RandomState::new().build_hasher().finish())
}

/// The output's name, the token and the kind that a hidden file's name consists of; none for other files.
fn parse_working(name: &OsStr) -> Option<(&[u8], &str, Kind)> {
    let (rest, kind) = split_last(name.as_bytes().strip_prefix(b".")?)?;
    let (output, token) = split_last(rest)?;
    let is_token = token.len() == TOKEN && token.bytes().all(|byte| byte.is_ascii_hexdigit());
    let kind = Kind::ALL.into_iter().find(|known| known.name() == kind)?;
    is_token.then_some((output, token, kind))
}

/// What stands before and after the last point.
fn split_last(name: &[u8]) -> Option<(&[u8], &str)> {
    let point = name.iter().rposition(|&byte| byte == b'.')?;
    Some((&name[..point], str::from_utf8(&name[point + 1..]).ok()?))
}

/// The output that a journal belongs to, from the journal's path.
pub fn output_of_journal(path: &Path) -> Option<PathBuf> {
    match parse_working(path.file_name()?)? {
        (output, _, Kind::Journal) => Some(path.with_file_name(OsStr::from_bytes(output))),
        _ => None,
    }
}

/// Tokens and kinds of the hidden files that stand beside `output`, in the order of their names.
pub(super) fn working_files(output: &Path) -> io::Result<Vec<(String, Kind)>> {
    let wanted = output.file_name().unwrap_or_default().as_bytes();
    let mut found = Vec::new();
    for entry in fs::read_dir(parent(output))? {
        let name = entry?.file_name();
        if let Some((_, token, kind)) = parse_working(&name).filter(|(output, ..)| *output == wanted) {
            found.push((token.to_owned(), kind));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

/// Removes a file; one that is gone already is fine.
pub(super) fn remove(storage: &dyn Storage, path: &Path) -> Result<()> {
    match storage.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io(path, error)),
        _ => Ok(()),
    }
}

/// Holds an output against other processes, where the file system knows locks.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Whether a process holds `output`, or was killed while it did.
    pub fn is_there(output: &Path) -> bool {
        hidden(output, "lock").exists()
    }

    /// Takes hold of `output`.
    ///
    /// # Errors
    /// [`Error::Busy`] where another process has it; the system's.
    pub fn take(storage: &dyn Storage, output: &Path) -> Result<Self> {
        let path = hidden(output, "lock");
        let busy = || Error::Busy { path: output.to_owned() };
        for _ in 0..LOCK_ATTEMPTS {
            let mut options = File::options();
            let opened = options.write(true).create(true).truncate(false).open(&path);
            let file = opened.map_err(|e| Error::io(&path, e))?;
            match storage.lock(&file) {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(busy()),
                // Some network file systems know no locks.
                Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
                Err(TryLockError::Error(error)) => return Err(Error::io(&path, error)),
            }
            // Between opening and locking, its last owner may have removed it.
            let held = file.metadata().map_err(|e| Error::io(&path, e))?;
            let named = fs::symlink_metadata(&path);
            if named.is_ok_and(|named| (named.dev(), named.ino()) == (held.dev(), held.ino())) {
                return Ok(Self { path, _file: file });
            }
        }
        Err(busy())
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Whoever opens it from now on makes a new one. Nothing depends on it.
        let _ = fs::remove_file(&self.path);
    }
}
