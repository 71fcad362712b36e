//! The emulator itself: it finds each planted fault, and its instructions are those of the PTX ISA.
//!
//! The kernels and the programs that launch them are C++, compiled here, once as they are and once under
//! AddressSanitizer.
#![cfg(feature = "emulator")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

mod faults;
mod isa;

/// A compiled program, which runs one case.
struct Program(PathBuf);

static FAULTS: LazyLock<Program> = LazyLock::new(|| Program::compile("faults", &[]));
static FAULTS_SANITIZED: LazyLock<Program> =
    LazyLock::new(|| Program::compile("faults", &["-fsanitize=address"]));
static ISA: LazyLock<Program> = LazyLock::new(|| Program::compile("isa", &[]));
static ISA_SANITIZED: LazyLock<Program> = LazyLock::new(|| Program::compile("isa", &["-fsanitize=address"]));

impl Program {
    /// Compiles `tests/emulator/NAME.cpp` with the emulator; warnings are errors.
    fn compile(name: &str, flags: &[&str]) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}{}", flags.concat()));
        let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
        let output = Command::new(&compiler)
            .args(["-std=c++20", "-O2", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-pthread"])
            .args(flags)
            .arg("-I")
            .arg(root.join("kernels"))
            .arg(root.join("tests/emulator").join(name).with_extension("cpp"))
            .arg(root.join("kernels/emu/launch.cpp"))
            .arg("-o")
            .arg(&program)
            .output()
            .unwrap_or_else(|error| panic!("{compiler}: {error}"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self(program)
    }

    fn output(&self, case: &str) -> Output {
        let mut command = Command::new(&self.0);
        // A run of these tests under AddressSanitizer puts its library in front of programs.
        command.arg(case).env_remove("LD_PRELOAD").env("ASAN_OPTIONS", "detect_leaks=0");
        command.output().unwrap()
    }

    /// The lines that a case prints.
    fn run(&self, case: &str) -> Vec<String> {
        let output = self.output(case);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{case}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text.lines().map(String::from).collect()
    }

    /// What AddressSanitizer says as it stops a case.
    fn report(&self, case: &str) -> String {
        let output = self.output(case);
        assert!(!output.status.success(), "{case} was not stopped");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}
