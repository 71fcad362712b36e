#!/usr/bin/env bash
# The kernels' tests on the emulator under AddressSanitizer: a kernel that reads or writes past a buffer fails.
# usage: sanitize.sh [arguments of cargo test]
set -euo pipefail
cd "$(dirname "$0")/.."

export TOEDIT_EMULATOR_SANITIZE=address
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/sanitize
# Rust's own code is not instrumented, so the run-time library comes in front of the program.
library=$(${CXX:-g++} -print-file-name=libasan.so)
host=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
export "CARGO_TARGET_${host}_RUNNER=env LD_PRELOAD=$library ASAN_OPTIONS=detect_leaks=0"
cargo test --features emulator --test ops "$@"
