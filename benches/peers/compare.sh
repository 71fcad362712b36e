#!/usr/bin/env bash
# Scores the same 4 x 1024 tokens with toedit and with transformers, in turn, and prints the ratio of their rates.
# Only the ratio means something: it is taken within one run on one machine. Builds the release binary; makes a Python
# environment with torch, transformers and safetensors in target/peers where there is none ($TOEDIT_PEERS_VENV names another).
#
# usage: compare.sh MODEL [CORPUS.jsonl[.gz]] [--threads N] [--rounds N]      CORPUS defaults to assets/sample.jsonl, repeated
set -euo pipefail

: "${1:?usage: compare.sh MODEL [CORPUS.jsonl[.gz]] [--threads N] [--rounds N]}"
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
venv=${TOEDIT_PEERS_VENV:-$target/peers}

cargo build --release --manifest-path "$root/Cargo.toml"
if ! [ -x "$venv/bin/python" ]; then
    python3 -m venv "$venv"
fi
if ! "$venv/bin/python" -c "import torch, transformers, safetensors" 2>/dev/null; then
    "$venv/bin/pip" install -q torch transformers safetensors
fi
exec "$venv/bin/python" "$here/compare.py" --binary "$target/release/toedit" --sample "$root/assets/sample.jsonl" "$@"
