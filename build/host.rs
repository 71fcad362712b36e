//! The kernels as host code, for the emulator.

use std::env;
use std::fmt::Write;
use std::path::Path;

use crate::{FOLDER, Module, Result, files, write};

/// Set to `address`, kernels are built for AddressSanitizer.
const SANITIZE: &str = "TOEDIT_EMULATOR_SANITIZE";

/// Compiles each kernel file, with an entry point for each kernel, and the emulator itself into one static library.
pub fn compile(modules: &[Module], out: &Path) -> Result<()> {
    let mut build = cc::Build::new();
    build.cpp(true).std("c++20").include(FOLDER).opt_level(3).warnings(true).extra_warnings(true);
    build.flag("-Wno-unknown-pragmas"); // unroll
    // A multiply-add is one instruction where a kernel says so, and nowhere else: the same bits on every machine.
    build.flag("-ffp-contract=off");
    if env::var("CARGO_CFG_TARGET_ARCH").as_deref() == Ok("x86_64") {
        build.flag("-mavx2").flag("-mfma");
    }
    println!("cargo::rerun-if-env-changed={SANITIZE}");
    match env::var(SANITIZE).as_deref() {
        Ok("address") => {
            build.flag("-fsanitize=address").flag("-fno-omit-frame-pointer");
            build.opt_level(1); // compiled once and run once
            println!("cargo::rustc-link-lib=dylib=asan");
        }
        Ok(other) => return Err(format!("{SANITIZE}: `{other}`: expected `address`, or nothing set")),
        Err(_) => {}
    }
    for path in files(&Path::new(FOLDER).join("emu"))? {
        if path.extension().is_some_and(|ending| ending == "cpp") {
            build.file(path);
        }
    }
    for module in modules {
        let path = out.join(format!("{}.cpp", module.name));
        write(&path, &entries(module))?;
        build.file(path);
    }
    build
        .try_compile("toedit_emulator")
        .map_err(|error| format!("feature `emulator` needs a C++20 compiler: {error}"))
}

/// A source that includes the kernel file and exports one entry point per kernel. A namespace of its own keeps helpers
/// of the same name in different files apart.
fn entries(module: &Module) -> String {
    let folder = env::current_dir().unwrap_or_default();
    let path = folder.join(&module.path);
    let mut text = format!("#include \"emu/entry.h\"\nnamespace {{\n#include \"{}\"\n}}\n", path.display());
    for kernel in &module.kernels {
        let name = &kernel.name;
        let _ = writeln!(
            text,
            "extern \"C\" void toedit_entry_{name}(void** arguments) {{ emu::call({name}, arguments); }}"
        );
    }
    text
}
