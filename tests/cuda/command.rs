//! The command on a GPU: the same bytes as on the emulator, one sentence where it cannot run, and no file lost.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::libraries::Libraries;

/// Documents of the sample that are edited: a few, on an emulator.
const DOCUMENTS: usize = 3;

/// What a run left behind.
struct Outcome {
    status: i32,
    told: String,
    /// The output, where there is one.
    output: Option<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Edits a few documents with `--device device` among these libraries, without the one of products.
fn edit(device: &str, dtype: &str, libraries: Libraries, variables: &[(&str, &str)]) -> Outcome {
    let assets = root().join("assets");
    let sample = fs::read_to_string(assets.join("sample.jsonl")).unwrap();
    let input: String = sample.split_inclusive('\n').take(DOCUMENTS).collect();
    let mut command = Command::new(env!("CARGO_BIN_EXE_toedit"));
    command.args(["edit", "--resample-above", "0.2", "--dtype", dtype, "--device", device]);
    command.arg("--model").arg(assets.join("tiny")).env("TOEDIT_CUBLAS", "0");
    run(command, &input, libraries, variables)
}

/// Scores or edits more tokens than a block of products has rows, on the stub with its library of products.
fn run_packs(what: &[&str], dtype: &str, batch_tokens: &str, variables: &[(&str, &str)]) -> Outcome {
    let ids = |document: usize| {
        (0..100).map(|i| ((i * i + 31 * document) % 257).to_string()).collect::<Vec<_>>().join(",")
    };
    let input: String = (0..45).map(|document| format!("{{\"input_ids\":[{}]}}\n", ids(document))).collect();
    let mut command = Command::new(env!("CARGO_BIN_EXE_toedit"));
    command.args(what).args(["--device", "cuda", "--dtype", dtype, "--batch-tokens", batch_tokens]);
    command.arg("--model").arg(root().join("tests/data/golden/llama"));
    run(command, &input, Libraries::Stub, variables)
}

/// Runs a command on an input, which it must leave as it is.
fn run(mut command: Command, input: &str, libraries: Libraries, variables: &[(&str, &str)]) -> Outcome {
    let folder = TempDir::new().unwrap();
    let (from, to) = (folder.path().join("in.jsonl"), folder.path().join("out.jsonl"));
    fs::write(&from, input).unwrap();
    command.arg("--input").arg(&from).arg("--output").arg(&to);
    command.env_remove("RUST_LOG").envs(variables.iter().copied());
    let ran = libraries.given_to(&mut command).output().unwrap();
    assert_eq!(fs::read_to_string(&from).unwrap(), input);
    Outcome {
        status: ran.status.code().unwrap(),
        told: String::from_utf8(ran.stderr).unwrap(),
        output: fs::read_to_string(&to).ok(),
    }
}

/// A variable that asks for a fault, its value, and what the sentence about the fault says.
type Fault = (&'static str, &'static str, &'static [&'static str]);

/// Faults of a GPU that cannot be used at all.
const FAULTS: [Fault; 8] = [
    ("STUB_INIT", "100", &["finds no GPU", "CUDA_VISIBLE_DEVICES"]),
    ("STUB_INIT", "803", &["restart the machine"]),
    ("STUB_INIT", "999", &["CUDA_ERROR_UNKNOWN (999)"]),
    ("STUB_DEVICES", "0", &["finds no GPU", "--device cpu"]),
    ("STUB_CAPABILITY", "52", &["capability is 5.2", "need 8.0"]),
    ("STUB_DRIVER", "12040", &["supports CUDA 12.4", "need 13.0", "update the driver"]),
    ("STUB_CONTEXT", "46", &["another process holds the GPU"]),
    ("STUB_CONTEXT", "2", &["no room", "nvidia-smi"]),
];

/// Faults of the host that show when the GPU is opened.
const HOST_FAULTS: [Fault; 2] = [
    ("STUB_HOST_ALLOC", "2", &["cannot pin", "ulimit"]),
    ("STUB_HOST_ALLOC", "304", &["pinning host memory: CUDA_ERROR_OPERATING_SYSTEM (304)"]),
];

/// Asserts that a run failed with one sentence and left nothing behind.
fn assert_fails(outcome: &Outcome, status: i32, parts: &[&str]) {
    let Outcome { status: found, told, output } = outcome;
    assert_eq!((*found, output.as_deref()), (status, None), "{told}");
    assert!(told.starts_with("toedit: device `cuda:") && told.lines().count() == 1, "{told}");
    for part in parts {
        assert!(told.contains(part), "no `{part}` in: {told}");
    }
}

#[test]
fn a_gpu_that_cannot_be_used_is_told_in_one_sentence() {
    for (variable, value, parts) in FAULTS.into_iter().chain(HOST_FAULTS) {
        assert_fails(&edit("cuda", "f32", Libraries::Stub, &[(variable, value)]), 1, parts);
    }
    let absent = edit("cuda", "f32", Libraries::None, &[]);
    assert_fails(&absent, 1, &["no NVIDIA driver found", "--device cpu"]);
    let other = edit("cuda:2", "f32", Libraries::Stub, &[("STUB_DEVICES", "2")]);
    assert_fails(&other, 1, &["device `cuda:2`", "the last GPU that the driver shows is cuda:1"]);
}

#[test]
fn without_a_usable_gpu_auto_takes_the_cpu_and_says_why() {
    let cpu = edit("cpu", "f32", Libraries::None, &[]);
    assert!(cpu.output.is_some(), "{}", cpu.told);
    let absent = edit("auto", "f32", Libraries::None, &[]);
    assert_eq!((absent.status, &absent.output), (0, &cpu.output), "{}", absent.told);
    assert!(!absent.told.contains("cuda"), "{}", absent.told);
    for (variable, value, parts) in FAULTS {
        let outcome = edit("auto", "f32", Libraries::Stub, &[(variable, value)]);
        assert_eq!((outcome.status, &outcome.output), (0, &cpu.output), "{}", outcome.told);
        let warnings: Vec<_> = outcome.told.lines().filter(|line| line.contains("WARN")).collect();
        assert_eq!(warnings.len(), 1, "{}", outcome.told);
        assert!(parts.iter().all(|part| warnings[0].contains(part)), "{}", outcome.told);
        assert!(warnings[0].contains("running on the CPU"), "{}", outcome.told);
    }
}

#[test]
fn the_gpu_gives_the_bytes_that_the_emulator_gives() {
    for dtype in ["f32", "bf16"] {
        let emulator = edit("emulator", dtype, Libraries::None, &[]);
        assert!(emulator.output.is_some(), "{}", emulator.told);
        let gpu = edit("cuda", dtype, Libraries::Stub, &[]);
        assert_eq!((gpu.status, &gpu.output), (0, &emulator.output), "{}", gpu.told);
        let auto = edit("auto", dtype, Libraries::Stub, &[]);
        assert_eq!((auto.status, &auto.output), (0, &emulator.output), "{}", auto.told);
    }
}

#[test]
fn kernels_for_other_gpus_are_told_in_one_sentence() {
    for (code, parts) in [
        ("209", ["no kernels for the GPU", "TOEDIT_CUDA_ARCHS"]),
        ("222", ["cannot compile the kernels", "update the driver"]),
    ] {
        assert_fails(&edit("cuda", "f32", Libraries::Stub, &[("STUB_MODULE", code)]), 1, &parts);
    }
}

/// A run that loses its GPU may be tried again; its output is not there under its name.
#[test]
fn a_lost_gpu_ends_the_run_as_one_to_try_again() {
    for fault in ["1:700", "20:719", "50:716"] {
        let outcome = edit("cuda", "f32", Libraries::Stub, &[("STUB_LAUNCH", fault)]);
        assert_fails(&outcome, 75, &["lost", "a kernel failed", "CUDA_LAUNCH_BLOCKING=1"]);
    }
    let outcome = edit("cuda", "f32", Libraries::Stub, &[("STUB_COPY", "40:214")]);
    assert_fails(&outcome, 75, &["lost", "fault of its hardware"]);
}

#[test]
fn a_model_that_does_not_fit_is_told_in_one_sentence() {
    let outcome = edit("cuda", "f32", Libraries::Stub, &[("STUB_MEMORY", "100000")]);
    assert_eq!((outcome.status, &outcome.output), (1, &None), "{}", outcome.told);
    assert!(outcome.told.contains("no room") && outcome.told.lines().count() == 1, "{}", outcome.told);
}

const SCORE: [&str; 2] = ["score", "--per-token"];
const EDIT: [&str; 3] = ["edit", "--resample-above", "0.003"];

/// Packs of any size give the same bytes, also those that are smaller because the device has no room.
#[test]
fn a_rows_bits_do_not_depend_on_its_pack_nor_on_the_room() {
    for dtype in ["f32", "bf16"] {
        let whole = run_packs(&SCORE, dtype, "20000", &[]);
        assert!(whole.output.is_some() && !whole.told.contains("WARN"), "{}", whole.told);
        let halved = run_packs(&SCORE, dtype, "20000", &[("STUB_MEMORY", "50000000")]);
        assert!(halved.status == 0 && halved.told.contains("device memory is short"), "{}", halved.told);
        let small = run_packs(&SCORE, dtype, "128", &[]);
        assert!(halved.output == whole.output && small.output == whole.output, "{dtype}");
    }
    // The library was asked for every one of these products.
    let refused = run_packs(&SCORE, "f32", "20000", &[("STUB_MATMUL", "13")]);
    assert_fails(&refused, 1, &["cuBLASLt", "TOEDIT_CUBLAS=0"]);
}

#[test]
fn edits_do_not_depend_on_the_pack() {
    let [whole, small] = ["20000", "700"].map(|tokens| run_packs(&EDIT, "bf16", tokens, &[]));
    assert!(whole.status == 0 && whole.output == small.output, "{}{}", whole.told, small.told);
    assert!(whole.output.is_some_and(|output| output.lines().count() == 45));
}

/// The log says what computes the products; and the library's low bits are not the kernels', so the tests of packs would
/// see a row that once comes from the one, once from the other.
#[test]
fn what_computes_the_products_is_told() {
    let log = ("RUST_LOG", "toedit=debug");
    let library = run_packs(&SCORE, "f32", "4000", &[log]);
    assert!(library.told.contains("products by cuBLASLt 130000"), "{}", library.told);
    assert!(library.told.contains("cuBLASLt's algorithm id"), "{}", library.told);
    let kernels = run_packs(&SCORE, "f32", "4000", &[log, ("TOEDIT_CUBLAS", "0")]);
    assert!(kernels.told.contains("products by own kernels: TOEDIT_CUBLAS is 0"), "{}", kernels.told);
    assert!(library.output.is_some() && library.output != kernels.output);
    let split = run_packs(&SCORE, "f32", "4000", &[("STUB_CUBLASLT_ONLY_SPLIT", "1")]);
    assert!(
        split.told.contains("none of cuBLASLt's algorithms looks as if it kept its bits"),
        "{}",
        split.told
    );
    assert!(split.output == kernels.output);
}
