#!/usr/bin/env bash
# The kernels' tests on the emulator under AddressSanitizer: a kernel that reads or writes past a buffer fails.
# usage: sanitize.sh [arguments of cargo test]
set -euo pipefail
cd "$(dirname "$0")/.."

export TOEDIT_EMULATOR_SANITIZE=address
# Rust's own code is not instrumented, so the run-time library comes in front of the program.
library=$(${CXX:-g++} -print-file-name=libasan.so)
# LD_PRELOAD cannot hold a path with a blank; the search path can.
search="LD_LIBRARY_PATH=$(dirname "$library")" preload="LD_PRELOAD=$(basename "$library")"
host=$(rustc -vV | sed -n 's/^host: //p')
runner="target.$host.runner = ['env', '$search', '$preload', 'ASAN_OPTIONS=detect_leaks=0']"
cargo test --config "$runner" --features emulator --test ops "$@"
