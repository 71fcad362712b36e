//! NVIDIA's libraries as a process finds them.

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// The names that the driver and the library of products are looked for by.
const NAMES: [&str; 4] = ["libcuda.so", "libcuda.so.1", "libcublasLt.so", "libcublasLt.so.13"];

/// What takes the place of this machine's own libraries.
#[derive(Clone, Copy)]
pub enum Libraries {
    /// Nothing that can be loaded.
    None,
    /// The stub.
    Stub,
}

impl Libraries {
    /// Lets a command find these and no others.
    pub fn given_to(self, command: &mut Command) -> &mut Command {
        static NONE: LazyLock<PathBuf> = LazyLock::new(|| folder("none", |path| fs::write(path, "")));
        static STUB: LazyLock<PathBuf> = LazyLock::new(|| {
            let library = build();
            folder("stub", |path| symlink(&library, path))
        });
        let folder = match self {
            Self::None => &*NONE,
            Self::Stub => &*STUB,
        };
        command.env("LD_LIBRARY_PATH", folder).env_remove("CUDA_VISIBLE_DEVICES")
    }
}

/// A folder with a file of each name, put there once.
fn folder(name: &str, put: impl Fn(&Path) -> io::Result<()>) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).unwrap();
    for path in NAMES.map(|name| folder.join(name)) {
        // Another process may have been faster.
        put(&path).or_else(|error| if path.exists() { Ok(()) } else { Err(error) }).unwrap();
    }
    folder
}

/// Compiles the stub against the emulated kernels of this build.
fn build() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Test processes may run side by side: each writes a file of its own, and the last one's name stays.
    let built = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("stub-{}.so", std::process::id()));
    let mut compiler = Command::new(env::var_os("CXX").unwrap_or("c++".into()));
    compiler.args(["-std=c++20", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-Wl,-Bsymbolic"]);
    compiler.arg("-I").arg(root.join("kernels")).arg("-o").arg(&built);
    compiler.args(["driver.cpp", "cublaslt.cpp"].map(|name| root.join("tests/cuda/stub").join(name)));
    compiler.arg("-Wl,--whole-archive").arg(Path::new(env!("OUT_DIR")).join("libtoedit_emulator.a"));
    let output = compiler.args(["-Wl,--no-whole-archive", "-ldl"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let library = built.with_file_name("stub.so");
    fs::rename(&built, &library).unwrap();
    library
}
