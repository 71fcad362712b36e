//! `toedit verify`: outputs against their manifests.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::args::VerifyArgs;
use super::print;
use super::summary::counted;
use crate::data::{Format, Manifest, output_of_journal};
use crate::{Error, Result};

/// Runs the command: a line for each output; the exit status is 1 where one of them is not what it should be.
///
/// # Errors
/// A folder that cannot be read, or holds no output.
pub fn run(args: &VerifyArgs) -> Result<u8> {
    let mut status = 0;
    for path in &args.outputs {
        let outputs = if path.is_dir() { outputs_in(path)? } else { BTreeSet::from([path.clone()]) };
        if outputs.is_empty() {
            return Err(Error::file(path, "no outputs in this folder"));
        }
        for output in outputs {
            let line = match Manifest::verify(&output) {
                Ok(manifest) => format!("ok: {}: {}\n", output.display(), describe(&manifest)),
                Err(error) => {
                    status = 1;
                    format!("failed: {}\n", reason(&output, &error))
                }
            };
            print(line.as_bytes())?;
        }
    }
    Ok(status)
}

fn describe(manifest: &Manifest) -> String {
    let mut text = counted(manifest.records.written, "record");
    if manifest.records.set_aside > 0 {
        text += &format!(", {} set aside", manifest.records.set_aside);
    }
    match &manifest.output {
        Some(output) => text + &format!(", {}", counted(output.bytes, "byte")),
        None => text,
    }
}

/// An output without a manifest may be one that is not finished.
fn reason(output: &Path, error: &Error) -> String {
    let is_journal = |path: PathBuf| output_of_journal(&path).is_some_and(|made| made == output);
    let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut files = fs::read_dir(folder).into_iter().flatten().filter_map(std::result::Result::ok);
    if files.any(|entry| is_journal(output.with_file_name(entry.file_name()))) {
        return format!("{}: not finished (--resume goes on with it)", output.display());
    }
    error.to_string()
}

/// All that is an output in a folder and those below it, or should be one.
fn outputs_in(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
        let path = entry.map_err(|e| Error::io(folder, e))?.path();
        // More likely a summary than an output.
        let is_json = path.extension().is_some_and(|extension| extension == "json");
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if let Some(output) = output_of_journal(&path) {
            found.insert(output);
        } else if is_hidden {
            continue;
        } else if path.is_dir() && !path.is_symlink() {
            found.extend(outputs_in(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "manifest" || extension == "rejects")
        {
            found.insert(path.with_extension(""));
        } else if Format::from_name(&path).is_some() && !is_json {
            found.insert(path);
        }
    }
    Ok(found)
}
