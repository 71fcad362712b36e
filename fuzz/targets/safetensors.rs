//! A checkpoint's file: header, offsets, names.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use toedit::model::Checkpoint;

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(folder);
static FILE: LazyLock<PathBuf> = LazyLock::new(|| FOLDER.path().join("model.safetensors"));

fuzz_target!(|bytes: &[u8]| {
    std::fs::write(&*FILE, bytes).expect("room for a small file");
    let Ok(checkpoint) = Checkpoint::open_file(&FILE) else { return };
    if let Ok(tensor) = checkpoint.tensor("weight", &[2, 3]) {
        assert!(tensor.to_vec().is_err() || tensor.elements() == 6);
    }
});

/// In memory where the system offers that.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder")
}
