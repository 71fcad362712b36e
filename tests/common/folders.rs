//! Test data outside the repository, found through the environment.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file of the shared test data; `None`, with a note, where there is none.
pub fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("TOEDIT_SHARED");
    if root.is_none() {
        eprintln!("TOEDIT_SHARED is not set: skipping {path}");
    }
    Some(Path::new(&root?).join(path))
}

/// The folder of SmolLM2-135M-Instruct: `TOEDIT_SMOLLM2`, or made once below `target`.
pub fn smollm2() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("TOEDIT_SMOLLM2") {
        return Some(folder.into());
    }
    shared("models")?;
    let root = super::root();
    let target = root.join("target");
    fs::create_dir_all(&target).unwrap();
    // Test binaries run side by side: one makes the folder, the others wait.
    let lock = File::create(target.join("smollm2.lock")).unwrap();
    lock.lock().unwrap();
    let folder = target.join("smollm2");
    let script = root.join("scripts/smollm2.sh");
    assert!(Command::new("bash").arg(script).arg(&folder).status().unwrap().success());
    Some(folder)
}
