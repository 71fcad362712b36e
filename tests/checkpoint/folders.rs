//! Where `--model` leads: folders, and ids in the Hugging Face cache.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use toedit::{
    Result,
    model::{
        Checkpoint, Config,
        folder::{resolve, resolve_with},
    },
};

use crate::common::{assert_error, llama_config, llama_tensors, safetensors};

const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

/// A cache below `hub` with one model, laid out as the hub's library does: blobs, and links to them.
fn cache(hub: &Path, model: &str) -> PathBuf {
    let root = hub.join(model);
    let snapshot = root.join("snapshots").join(SHA);
    for folder in [root.join("refs"), root.join("blobs"), snapshot.clone()] {
        fs::create_dir_all(folder).unwrap();
    }
    fs::write(root.join("refs/main"), SHA).unwrap();
    fs::write(root.join("blobs/c0"), llama_config().to_string()).unwrap();
    fs::write(root.join("blobs/d1"), safetensors(&llama_tensors())).unwrap();
    symlink("../../blobs/c0", snapshot.join("config.json")).unwrap();
    symlink("../../blobs/d1", snapshot.join("model.safetensors")).unwrap();
    snapshot
}

/// Resolves in an environment of these variables alone.
fn resolve_in(model: &str, variables: &[(&str, &Path)]) -> Result<PathBuf> {
    resolve_with(model, |name| {
        variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
    })
}

#[test]
fn a_folder_is_itself() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(resolve(folder.path().to_str().unwrap()).unwrap(), folder.path());
}

#[test]
fn the_variables_are_read_in_order() {
    let folders: Vec<TempDir> = (0..5).map(|_| tempfile::tempdir().unwrap()).collect();
    let at = |i: usize, below: &str| {
        (folders[i].path(), cache(&folders[i].path().join(below), "models--org--name"))
    };
    let cases = [
        ("HF_HUB_CACHE", at(0, "")),
        ("HUGGINGFACE_HUB_CACHE", at(1, "")),
        ("HF_HOME", at(2, "hub")),
        ("XDG_CACHE_HOME", at(3, "huggingface/hub")),
        ("HOME", at(4, ".cache/huggingface/hub")),
    ];
    for first in 0..cases.len() {
        let variables: Vec<_> = cases[first..].iter().map(|(name, (folder, _))| (*name, *folder)).collect();
        assert_eq!(resolve_in("org/name", &variables).unwrap(), cases[first].1.1, "{}", cases[first].0);
    }
    let mut with_empty = vec![("HF_HUB_CACHE", Path::new(""))];
    with_empty.push(("HOME", cases[4].1.0));
    assert_eq!(resolve_in("org/name", &with_empty).unwrap(), cases[4].1.1);
}

#[test]
fn a_cached_model_loads_through_its_links() {
    let hub = tempfile::tempdir().unwrap();
    let snapshot = cache(hub.path(), "models--gpt2");
    let found = resolve_in("gpt2", &[("HF_HUB_CACHE", hub.path())]).unwrap();
    assert_eq!(found, snapshot);
    assert!(Config::from_file(&found.join("config.json")).is_ok());
    assert!(Checkpoint::open(&found, false).unwrap().contains("model.norm.weight"));
}

#[test]
fn a_reference_may_end_in_a_newline() {
    let hub = tempfile::tempdir().unwrap();
    let snapshot = cache(hub.path(), "models--org--name");
    fs::write(hub.path().join("models--org--name/refs/main"), format!("{SHA}\n")).unwrap();
    assert_eq!(resolve_in("org/name", &[("HF_HUB_CACHE", hub.path())]).unwrap(), snapshot);
}

#[test]
fn what_is_missing_is_said() {
    let hub = tempfile::tempdir().unwrap();
    let variables = [("HF_HUB_CACHE", hub.path())];
    let hub_path = hub.path().to_str().unwrap();
    assert_error(
        resolve_in("org/name", &variables),
        &["org/name", hub_path, "models--org--name", "download"],
    );

    let snapshot = cache(hub.path(), "models--org--name");
    fs::rename(&snapshot, snapshot.with_file_name("other")).unwrap();
    assert_error(resolve_in("org/name", &variables), &[SHA, "no such snapshot of org/name"]);
    fs::remove_file(hub.path().join("models--org--name/refs/main")).unwrap();
    assert_error(resolve_in("org/name", &variables), &["refs/main"]);
    assert_error(resolve_in("org/name", &[]), &["org/name", "HF_HOME"]);
}

#[test]
fn a_reference_cannot_lead_outside() {
    let hub = tempfile::tempdir().unwrap();
    cache(hub.path(), "models--org--name");
    for reference in ["../../..", "/etc", "", "..", "a/b", "a\0b"] {
        fs::write(hub.path().join("models--org--name/refs/main"), reference).unwrap();
        assert_error(
            resolve_in("org/name", &[("HF_HUB_CACHE", hub.path())]),
            &["refs/main", "name of a snapshot"],
        );
    }
}

#[test]
fn what_is_neither_folder_nor_id_is_refused() {
    let hub = tempfile::tempdir().unwrap();
    let file = hub.path().join("config.json");
    fs::write(&file, "{}").unwrap();
    assert_error(resolve(file.to_str().unwrap()), &["expected the model's folder"]);
    for model in
        ["", "./missing", "/missing/model", "a/b/c", "../x", "org/", "/name", "a b", "org/..", "naïve"]
    {
        assert_error(resolve_in(model, &[("HF_HUB_CACHE", hub.path())]), &[model, "no such folder"]);
    }
}
