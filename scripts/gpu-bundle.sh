#!/usr/bin/env bash
# Packs all that tests and measures the kernels on a GPU into one archive, built where there is nvcc but no GPU. Unpack it on an
# x86-64 Linux machine with an NVIDIA driver and the C library that this script names at its end (GLIBC), and run `./run.sh`
# as any user: it needs no compiler and no network, and writes in its own folder alone. With python3 it measures whole models,
# with torch and transformers it measures them beside ours, scoring and training. It prints one table at the end.
#
# usage: gpu-bundle.sh [ARCHIVE]      default target/gpu-bundle.tar.xz; $PROFILE names another profile than release;
#                                     the tests of training need $TOEDIT_SHARED/golden
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
archive=$(realpath -m "${1:-$root/target/gpu-bundle.tar.xz}")
profile=${PROFILE:-release}
limit=$((64 << 20))
# Tests of kernels and of whole models; a program under test is found by its path at build time, so the command's are not here.
tests=(ops golden editing training)

mkdir -p "$root/target" "$(dirname "$archive")"
stage=$(mktemp -d -p "$root/target")
trap 'rm -rf "$stage"' EXIT
bundle=$stage/toedit-gpu
mkdir -p "$bundle/bin"

cd "$root"
# Not the emulator: there its tests run without a GPU.
features=(--features cuda --profile "$profile")
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
if [ -n "${TOEDIT_SHARED:-}" ]; then
    for expected in "$TOEDIT_SHARED"/golden/*/expect.safetensors; do
        family=$(dirname "$expected")
        mkdir -p "$bundle/shared/golden"
        cp -r "$family" "$bundle/shared/golden/"
    done
else
    echo "TOEDIT_SHARED is not set: training will not be tested" >&2
fi
git describe --always --dirty >"$bundle/VERSION"
install -m 755 scripts/gpu-run.sh "$bundle/run.sh"

tar -C "$stage" -cJf "$archive" toedit-gpu
size=$(stat -c %s "$archive")
# The newest version of each library's symbols that the binaries ask for.
versions=$(objdump -T "$bundle"/bin/* | grep -oE '\b(GLIBC|GLIBCXX|CXXABI|GCC)_[0-9.]+' | sort -uV)
needs=$(awk -F_ '{ last[$1] = $0 } END { for (name in last) printf "%s ", last[name] }' <<<"$versions")
echo "$archive: $size bytes; needs $needs"
if [ "$size" -gt "$limit" ]; then
    echo "larger than $limit bytes" >&2
    exit 1
fi
