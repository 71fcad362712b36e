//! The structure that the project keeps: sizes, where unsafe may stand, no left-overs.

use std::path::{Path, PathBuf};

const MAX_FILE_LINES: usize = 600;
const MAX_FUNCTION_LINES: usize = 80;
/// The only places that may lift the crate's `deny(unsafe_code)`.
const UNSAFE: [&str; 16] = [
    "src/ops/simd.rs",
    "src/ops/matmul/avx2.rs",
    "src/ops/matmul/avx512.rs",
    "src/ops/matmul/micro.rs",
    "src/map.rs",
    "src/device/cuda.rs",
    "src/device/cuda/context.rs",
    "src/device/cuda/cublaslt.rs",
    "src/device/cuda/cublaslt/algorithm.rs",
    "src/device/cuda/cublaslt/descriptors.rs",
    "src/device/cuda/modules.rs",
    "src/device/cuda/staging.rs",
    "src/device/cuda/stream.rs",
    "src/device/emulator.rs",
    "src/device/host.rs",
    "src/device/kernels.rs",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files below `folder`, with their text.
fn sources(folder: &str) -> Vec<(String, String)> {
    files(folder, &["rs"])
}

/// All kernel files and headers.
fn kernels() -> Vec<(String, String)> {
    files("kernels", &["cu", "cuh", "h", "cpp"])
}

/// All files below `folder` whose names end so, with their text.
fn files(folder: &str, endings: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| endings.iter().any(|known| ending == *known)) {
                let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
                found.push((name, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found
}

fn everything() -> Vec<(String, String)> {
    ["src", "tests", "benches", "build"].into_iter().flat_map(sources).chain(kernels()).collect()
}

#[test]
fn files_can_be_held_in_mind() {
    for (name, text) in everything() {
        let lines = text.lines().count();
        assert!(lines <= MAX_FILE_LINES, "{name} has {lines} lines");
    }
}

#[test]
fn functions_can_be_held_in_mind() {
    for (name, text) in everything() {
        let mut start = None;
        for (number, line) in text.lines().enumerate() {
            let body = line.trim_start();
            let indent = line.len() - body.len();
            if start.is_none()
                && body.split_whitespace().take(5).any(|word| word == "fn")
                && body.ends_with('{')
            {
                start = Some((number, indent));
            }
            // rustfmt puts a function's last brace where its first line began.
            if let Some((first, indented)) = start
                && indent == indented
                && body == "}"
            {
                let lines = number - first + 1;
                assert!(lines <= MAX_FUNCTION_LINES, "{name}:{}: {lines} lines", first + 1);
                start = None;
            }
        }
    }
}

#[test]
fn unsafe_code_stays_in_its_files() {
    for (name, text) in sources("src") {
        let lifted = text.contains("allow(unsafe_code)");
        assert_eq!(lifted, UNSAFE.contains(&name.as_str()), "{name}");
        if lifted {
            let blocks = text.matches("unsafe {").count();
            let reasons = text.matches("SAFETY:").count();
            assert!(blocks <= reasons, "{name}: {blocks} unsafe blocks, {reasons} SAFETY comments");
        }
    }
}

/// One op, one name, four places; ops bound by memory share a bench.
#[test]
fn every_kernel_file_is_an_op_with_a_test_and_a_bench() {
    let benches = sources("benches");
    for (name, _) in kernels() {
        let Some(op) = name.strip_prefix("kernels/").and_then(|name| name.strip_suffix(".cu")) else {
            continue;
        };
        for place in [format!("src/ops/{op}.rs"), format!("tests/ops/{op}.rs")] {
            assert!(root().join(&place).is_file(), "{name} has no {place}");
        }
        let used = benches.iter().any(|(_, text)| text.contains(&format!("ops::{op}::")));
        assert!(used, "{name} is in no bench");
    }
}

/// Everything beyond C++ that a kernel uses comes from the dialect's header.
#[test]
fn kernels_keep_to_the_dialect() {
    let forbidden =
        ["asm", "<<<", "cooperative_groups", "atomic", "__CUDACC__", "printf", "__shared__", "#include <"];
    for (name, text) in kernels() {
        let inside = name.starts_with("kernels/gpu/")
            || name.starts_with("kernels/emu/")
            || name == "kernels/device.cuh";
        let code = text.lines().map(|line| line.split("//").next().unwrap());
        for (number, line) in code.enumerate().filter(|_| !inside) {
            let found = forbidden.iter().find(|word| line.contains(**word));
            assert!(found.is_none(), "{name}:{}: {found:?}", number + 1);
        }
    }
}

#[test]
fn nothing_is_left_over() {
    let marks = ["todo", "unimplemented", "dbg"].map(|name| format!("{name}!"));
    for (name, text) in everything() {
        for mark in marks.iter().map(String::as_str).chain([concat!("#[ig", "nore]")]) {
            assert!(!text.contains(mark), "{name} contains {mark}");
        }
    }
}

/// What the table of promises names is tested under that name.
#[test]
fn promises_name_their_tests() {
    let tests: Vec<String> = sources("tests").into_iter().map(|(_, text)| text).collect();
    let words = tests.iter().flat_map(|text| text.split_whitespace()).collect::<Vec<_>>().join(" ");
    let table = std::fs::read_to_string(root().join("docs/reliability.md")).unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| ")).skip(1);
    let named = |row: &str| -> Vec<String> {
        let last = row.trim_end_matches(['|', ' ']).rsplit_once('|').unwrap().1;
        last.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    };
    for row in rows {
        let names = named(row);
        assert!(!names.is_empty(), "{row}");
        for name in names {
            assert!(words.contains(&format!("#[test] fn {name}(")), "{name}");
        }
    }
}
