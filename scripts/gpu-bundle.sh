#!/usr/bin/env bash
# Packs all that tests and measures the kernels on a GPU into one archive, built where there is nvcc but no GPU. On any x86-64
# Linux machine with an NVIDIA driver, unpack it and run `./run.sh`: it needs no compiler, no network and no root; with python3 it
# measures whole models, with torch and transformers it measures them beside ours. It prints one table at the end.
#
# usage: gpu-bundle.sh [ARCHIVE]      default target/gpu-bundle.tar.xz; $PROFILE names another profile than release
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
archive=${1:-$root/target/gpu-bundle.tar.xz}
profile=${PROFILE:-release}
limit=$((48 << 20))
# Tests of kernels and of whole models; a program under test is found by its path at build time, so the command's are not here.
tests=(ops golden editing)

mkdir -p "$root/target"
stage=$(mktemp -d -p "$root/target")
trap 'rm -rf "$stage"' EXIT
bundle=$stage/toedit-gpu
mkdir -p "$bundle/bin"

cd "$root"
features=(--features cuda,emulator --profile "$profile")
cargo build "${features[@]}" --message-format=json-render-diagnostics --bin toedit >"$stage/built"
cargo test "${features[@]}" --no-run --message-format=json-render-diagnostics "${tests[@]/#/--test=}" >>"$stage/built"
cargo bench "${features[@]}" --no-run --message-format=json-render-diagnostics --bench kernels >>"$stage/built"
python3 - "$stage/built" "$bundle/bin" toedit kernels "${tests[@]}" <<'PYTHON'
import json, shutil, sys
built, to, *names = sys.argv[1:]
for line in open(built):
    message = json.loads(line)
    if message["reason"] == "compiler-artifact" and message.get("executable") and message["target"]["name"] in names:
        shutil.copy(message["executable"], f"{to}/{message['target']['name']}")
PYTHON
strip "$bundle"/bin/*

mkdir -p "$bundle/benches" "$bundle/tests/data"
cp -r assets "$bundle/"
cp -r tests/data/golden "$bundle/tests/data/"
cp -r benches/peers "$bundle/benches/"
git describe --always --dirty >"$bundle/VERSION"
# Where the tests look for their files.
echo "$root" >"$bundle/ROOT"
install -m 755 scripts/gpu-run.sh "$bundle/run.sh"

tar -C "$stage" -cJf "$archive" toedit-gpu
size=$(stat -c %s "$archive")
echo "$archive: $size bytes"
if [ "$size" -gt "$limit" ]; then
    echo "larger than $limit bytes" >&2
    exit 1
fi
