//! Where a model lies: a folder, or a model id in the local Hugging Face cache. No network.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use crate::{Error, Result};

/// The weights' file in a folder that has only one.
pub const WEIGHTS: &str = "model.safetensors";
/// The list of the weights' files in a folder that has several.
pub const INDEX: &str = "model.safetensors.index.json";
/// The configuration's file.
pub const CONFIG: &str = "config.json";

/// Endings of weights that are serialised Python objects.
const PICKLES: [&str; 5] = ["bin", "pt", "pth", "ckpt", "pkl"];

/// The folder of `model`: a folder's path, or a model id (`org/name`) in the Hugging Face cache, which the environment
/// locates: `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE`, `HF_HOME`, `XDG_CACHE_HOME`, else below the home folder.
///
/// # Errors
/// Says what was looked for and where.
pub fn resolve(model: &str) -> Result<PathBuf> {
    resolve_with(model, |name| env::var_os(name))
}

/// As [`resolve`], in the environment that `variable` reads.
pub fn resolve_with(model: &str, variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf> {
    let path = Path::new(model);
    if path.is_dir() {
        return Ok(path.to_owned());
    }
    if path.exists() {
        return Err(Error::file(path, "a file, expected the model's folder"));
    }
    if !is_model_id(model) {
        return Err(Error::file(path, "no such folder, and not the id of a model (`org/name`)"));
    }
    let hub = hub_cache(variable).ok_or_else(|| {
        Error::file(path, "no such folder, and no Hugging Face cache: set HF_HUB_CACHE, HF_HOME or HOME")
    })?;
    snapshot(model, &hub)
}

/// Names as the hub allows them: one or two parts of letters, digits, `-`, `_`, `.`.
fn is_model_id(model: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    model.split('/').count() <= 2 && model.split('/').all(plain) && !model.contains("..")
}

/// The hub's cache folder; variables in the order in which the Python library reads them, empty ones ignored.
fn hub_cache(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let folder = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    folder("HF_HUB_CACHE")
        .or_else(|| folder("HUGGINGFACE_HUB_CACHE"))
        .or_else(|| Some(folder("HF_HOME")?.join("hub")))
        .or_else(|| Some(folder("XDG_CACHE_HOME")?.join("huggingface/hub")))
        .or_else(|| Some(folder("HOME")?.join(".cache/huggingface/hub")))
}

/// The snapshot of the branch `main` of a cached model.
fn snapshot(model: &str, hub: &Path) -> Result<PathBuf> {
    let cached = hub.join(format!("models--{}", model.replace('/', "--")));
    if !cached.is_dir() {
        return Err(Error::file(
            model,
            format!(
                "no such folder, and not in the Hugging Face cache: no {}; download it first (`hf download {model}`)",
                cached.display()
            ),
        ));
    }
    let reference = cached.join("refs/main");
    let revision = read_small(&reference, 1024)?;
    let revision = String::from_utf8_lossy(&revision);
    let revision = revision.trim();
    if !is_plain_name(revision) {
        return Err(Error::file(reference, format!("found {revision:?}, expected the name of a snapshot")));
    }
    let snapshot = cached.join("snapshots").join(revision);
    if !snapshot.is_dir() {
        return Err(Error::file(snapshot, format!("no such snapshot of {model}; download it again")));
    }
    Ok(snapshot)
}

/// Whether `name` is a plain file name, the same on every system.
pub(super) fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && !name.starts_with('.')
        && !name.contains(|c: char| c.is_control() || "/\\:".contains(c))
}

/// Opens a regular file (links are followed) and tells its length. Anything else is refused before it is opened: a
/// pipe would hang.
pub(crate) fn open_regular(path: &Path) -> Result<(File, u64)> {
    let metadata = fs::metadata(path).map_err(|source| Error::io(path, source))?;
    if !metadata.is_file() {
        let found = if metadata.is_dir() { "a folder" } else { "not a regular file" };
        return Err(Error::file(path, format!("{found}, expected a file")));
    }
    let file = File::open(path).map_err(|source| Error::io(path, source))?;
    Ok((file, metadata.len()))
}

/// Reads a regular file of at most `limit` bytes.
pub(crate) fn read_small(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let (file, len) = open_regular(path)?;
    if len > limit {
        return Err(Error::file(path, format!("{len} bytes, expected at most {limit}")));
    }
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).map_err(|source| Error::io(path, source))?;
    Ok(bytes)
}

/// What holds a folder's weights.
pub(super) enum WeightFiles {
    /// One file.
    Single(PathBuf),
    /// Several, listed in this one.
    Indexed(PathBuf),
}

/// Finds a folder's weights; a single file goes before an index, as in transformers.
pub(super) fn weight_files(folder: &Path) -> Result<WeightFiles> {
    let present = |name: &str| fs::symlink_metadata(folder.join(name)).is_ok();
    if present(WEIGHTS) {
        return Ok(WeightFiles::Single(folder.join(WEIGHTS)));
    }
    if present(INDEX) {
        return Ok(WeightFiles::Indexed(folder.join(INDEX)));
    }
    let entries = fs::read_dir(folder).map_err(|source| Error::io(folder, source))?;
    let is_pickle =
        |name: &PathBuf| name.extension().is_some_and(|end| PICKLES.iter().any(|pickle| end == *pickle));
    let pickle = entries.flatten().map(|entry| PathBuf::from(entry.file_name())).filter(is_pickle).min();
    Err(Error::file(
        folder,
        match pickle {
            Some(pickle) => format!(
                "only pickled weights ({}), which can run code when read; convert them where you trust them: \
                 `AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder, safe_serialization=True)`",
                pickle.display()
            ),
            None => format!("no weights: neither {WEIGHTS} nor {INDEX}"),
        },
    ))
}
