//! Compiles the kernels: to machine code with nvcc for feature `cuda`, to host code with the C++ compiler for feature
//! `emulator`; and generates their typed launchers. Without either feature it does nothing.

#![cfg_attr(not(any(feature = "cuda", feature = "emulator")), allow(dead_code))]

#[cfg(feature = "emulator")]
#[path = "build/host.rs"]
mod host;
#[path = "build/launchers.rs"]
mod launchers;
#[cfg(feature = "cuda")]
#[path = "build/nvcc.rs"]
mod nvcc;
#[path = "build/signatures.rs"]
mod signatures;

use std::path::{Path, PathBuf};
use std::{env, fs};

/// Where the kernels lie.
const FOLDER: &str = "kernels";

type Result<T, E = String> = std::result::Result<T, E>;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(kernels)");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed={FOLDER}");
    if let Err(message) = run() {
        println!("cargo::error={message}");
    }
}

fn run() -> Result<()> {
    if !cfg!(any(feature = "cuda", feature = "emulator")) {
        return Ok(());
    }
    println!("cargo::rustc-cfg=kernels");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let modules = modules()?;
    #[cfg(feature = "cuda")]
    let fatbins = nvcc::compile(&modules, &out)?;
    #[cfg(not(feature = "cuda"))]
    let fatbins = Vec::new();
    #[cfg(feature = "emulator")]
    host::compile(&modules, &out)?;
    write(&out.join("kernels.rs"), &launchers::generate(&modules, &fatbins, cfg!(feature = "emulator")))
}

/// A kernel file.
struct Module {
    /// Its name without the ending.
    name: String,
    path: PathBuf,
    kernels: Vec<signatures::Kernel>,
}

/// All kernel files, in order of their names.
fn modules() -> Result<Vec<Module>> {
    let mut paths = files(Path::new(FOLDER))?;
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "cu"));
    let module = |path: PathBuf| {
        let kernels = signatures::parse(&read(&path)?).map_err(|e| format!("{}: {e}", path.display()))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Module { name, path, kernels })
    };
    paths.into_iter().map(module).collect()
}

/// The files of a folder and its subfolders, in order of their names.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| format!("{}: {e}", folder.display()))?.path();
        if path.is_dir() {
            files.extend(self::files(&path)?);
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

/// Writes a file unless it holds that text already, so that nothing downstream is rebuilt.
fn write(path: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}
