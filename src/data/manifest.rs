//! `NAME.manifest`: what an output is, what it was made from, and how. Where there is one, the output is complete.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use super::digest::{Digest, modified};
use super::names::{manifest_path, rejects_path};
use super::settings::Settings;
use crate::{Error, Result};

const FORMAT: &str = "toedit output";
const VERSION: u32 = 1;
/// What stands between a manifest's other members and its checksum.
const CHECKSUM: &str = ",\n  \"checksum\": \"";

/// A complete output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// What this file is.
    format: String,
    /// The version of its meaning.
    version: u32,
    /// The output; none where its only document was set aside and a file could not be without one.
    pub output: Option<Digest>,
    /// The reject file; none where nothing was set aside.
    pub rejects: Option<Digest>,
    /// What became of the records.
    pub records: RecordCounts,
    /// The command's own counts.
    pub counts: Value,
    /// All that the output's bytes depend on.
    pub settings: Settings,
    /// What it was made from, in order.
    pub inputs: Vec<InputRecord>,
    /// How often it was committed.
    pub frames: u64,
    /// What making it took, over all processes that did.
    pub seconds: f64,
    /// The largest resident memory of the process that finished it; null where the system does not say.
    pub peak_memory_bytes: Option<u64>,
}

/// What became of the records of an output's inputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordCounts {
    /// Records that came out, those that were passed through among them.
    pub written: u64,
    /// Records that could not be used and came out as they were.
    pub passed: u64,
    /// Records that could not be used and went to the reject file.
    pub set_aside: u64,
}

impl RecordCounts {
    /// Records that came in.
    pub fn read(&self) -> u64 {
        self.written + self.set_aside
    }
}

impl std::ops::AddAssign for RecordCounts {
    fn add_assign(&mut self, other: Self) {
        self.written += other.written;
        self.passed += other.passed;
        self.set_aside += other.set_aside;
    }
}

/// An input of a complete output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputRecord {
    /// Where it lay; `-` is standard input.
    pub path: PathBuf,
    /// None where it was not read to its end.
    #[serde(flatten)]
    pub digest: Option<Digest>,
    /// The bytes of it that the digest is of, first and one past the last, where a shard read a part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<[u64; 2]>,
    /// When it had last been changed, in nanoseconds since 1970; null for a stream.
    pub modified: Option<u64>,
    /// Its records, where it was read to its end.
    pub records: Option<u64>,
}

/// What only the process knows that finishes an output.
pub(super) struct Made {
    pub settings: Settings,
    pub inputs: Vec<InputRecord>,
    pub frames: u64,
    pub seconds: f64,
}

impl Manifest {
    /// A manifest of what this process has finished.
    pub(super) fn new(
        [output, rejects]: [Option<Digest>; 2],
        records: RecordCounts,
        counts: Value,
        made: Made,
    ) -> Self {
        let Made { settings, inputs, frames, seconds } = made;
        let (format, peak_memory_bytes) = (FORMAT.to_owned(), peak_memory());
        Self {
            format,
            version: VERSION,
            output,
            rejects,
            records,
            counts,
            settings,
            inputs,
            frames,
            seconds,
            peak_memory_bytes,
        }
    }

    /// Reads the manifest of `output`; none where there is none.
    ///
    /// # Errors
    /// It was damaged, is of another version, or cannot be read.
    pub fn of(output: &Path) -> Result<Option<Self>> {
        let path = manifest_path(output);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes.map_err(|e| Error::io(&path, e))?,
        };
        Self::parse(&bytes).map(Some).map_err(|reason| Error::file(&path, reason))
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let damaged = |what: &str| format!("damaged: {what} (--overwrite makes the output again)");
        let text = str::from_utf8(bytes).map_err(|_| damaged("invalid utf-8"))?;
        let (members, checksum) = text.rsplit_once(CHECKSUM).ok_or_else(|| damaged("no checksum"))?;
        if checksum != ending(members) {
            return Err(damaged("its checksum does not fit"));
        }
        let manifest: Self =
            serde_json::from_str(&format!("{members}\n}}")).map_err(|e| damaged(&e.to_string()))?;
        if manifest.format != FORMAT || manifest.version != VERSION {
            let Self { format, version, .. } = manifest;
            return Err(format!("format `{format}` version {version}: expected {FORMAT} version {VERSION}"));
        }
        Ok(manifest)
    }

    /// The file's bytes: an object whose last member is a checksum of all before it.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let text = serde_json::to_string_pretty(self).expect("a manifest is plain data");
        let members = text.strip_suffix("\n}").expect("a pretty object ends so");
        format!("{members}{CHECKSUM}{}", ending(members)).into_bytes()
    }

    /// Checks an output and its reject file, byte for byte, against its manifest, and gives that.
    ///
    /// # Errors
    /// There is no manifest, or something is not what it says.
    pub fn verify(output: &Path) -> Result<Self> {
        let manifest = Self::of(output)?.ok_or_else(|| {
            Error::file(output, "has no manifest: not a complete output of toedit, or one that was moved")
        })?;
        check(output, manifest.output.as_ref())?;
        check(&rejects_path(output), manifest.rejects.as_ref())?;
        Ok(manifest)
    }

    /// Whether the inputs are what they were, as far as they can be read again: by size and time of change, else by hash.
    pub(super) fn check_inputs(&self, output: &Path) -> Result<()> {
        for input in &self.inputs {
            let (Some(then), Some(changed)) = (&input.digest, input.modified) else { continue };
            let now = fs::metadata(&input.path).map_err(|e| Error::io(&input.path, e))?;
            // A part lies in a file whose size is among the settings.
            let untouched =
                (input.part.is_some() || now.len() == then.bytes) && modified(&now) == Some(changed);
            let [start, end] = input.part.unwrap_or([0, u64::MAX]);
            let digest = || Digest::of_part(&input.path, start..end).map_err(|e| Error::io(&input.path, e));
            if !untouched && digest()? != *then {
                let made = output.display();
                return Err(Error::file(
                    &input.path,
                    format!(
                        "`input` has changed since {made} was made of it: use --overwrite to make it again"
                    ),
                ));
            }
        }
        Ok(())
    }
}

/// Whether a file is what was recorded.
fn check(path: &Path, expected: Option<&Digest>) -> Result<()> {
    let Some(expected) = expected else {
        return if path.exists() {
            Err(Error::file(path, "is there, but the manifest says that there is none"))
        } else {
            Ok(())
        };
    };
    // Telling a wrong size takes no time.
    let bytes = fs::metadata(path).map_err(|e| Error::io(path, e))?.len();
    if bytes != expected.bytes {
        return Err(Error::file(path, format!("{bytes} bytes, its manifest says {}", expected.bytes)));
    }
    let found = Digest::of(path).map_err(|e| Error::io(path, e))?;
    if found != *expected {
        let (found, expected) = (found.sha256, &expected.sha256);
        return Err(Error::file(path, format!("sha256 {found}, its manifest says {expected}")));
    }
    Ok(())
}

/// What follows [`CHECKSUM`].
fn ending(members: &str) -> String {
    format!("{:016x}\"\n}}\n", xxh3_64(members.as_bytes()))
}

/// The process's largest resident memory in bytes, where the system says (Linux's VmHWM).
pub fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}
