#!/usr/bin/env bash
# Scores the same 4 x 1024 tokens with toedit and with its peers, in turn, and prints the ratios of their rates, our share of the
# machine's peak, the rate of editing beside scoring, and the time to a first score.
# Only ratios mean something: they are taken within one run on one machine. Builds the release binary and the peers: a Python
# environment in target/peers ($TOEDIT_PEERS_VENV names another) with torch, transformers and, if asked for, llama.cpp's
# package built from source; candle's program in target/peers-candle.
#
# usage: compare.sh MODEL [CORPUS.jsonl[.gz]] [--threads N] [--rounds N] [--peers transformers,candle,llama.cpp]
#        compare.sh generate MODEL [--tokens N] [--threads N] [--rounds N] [--peers transformers,llama.cpp]
#        CORPUS defaults to assets/sample.jsonl, repeated; peers default to transformers. `generate` times greedy generation
#        instead, one text and 16 texts at a time.
set -euo pipefail

program=compare.py
if [ "${1:-}" = generate ]; then
    program=generate_compare.py
    shift
fi
: "${1:?usage: compare.sh [generate] MODEL [OPTION...]: see the head of this file}"
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
venv=${TOEDIT_PEERS_VENV:-$target/peers}
llama=llama_cpp_python-0.3.36
options=()

has() { "$venv/bin/python" -c "import $1" 2>/dev/null; }

cargo build --release --manifest-path "$root/Cargo.toml"
cargo bench --no-run --bench peak --manifest-path "$root/Cargo.toml"
if ! [ -x "$venv/bin/python" ]; then
    python3 -m venv "$venv"
fi
if ! has "torch, transformers, safetensors"; then
    "$venv/bin/pip" install -q torch transformers safetensors
fi
case " $* " in *candle*)
    # As candle's own build does.
    RUSTFLAGS="-C target-cpu=native" cargo build --release --locked --manifest-path "$here/candle/Cargo.toml" \
        --target-dir "$target/peers-candle"
    options+=(--candle "$target/peers-candle/release/candle-peer")
    ;;
esac
case " $* " in *llama.cpp*)
    # The source has the script that converts models, too.
    if ! [ -d "$target/$llama" ]; then
        "$venv/bin/pip" download -q --no-deps --no-binary llama-cpp-python -d "$target" "${llama/-/==}"
        tar -C "$target" -xzf "$target/$llama.tar.gz"
    fi
    if ! has "llama_cpp, sentencepiece"; then
        CMAKE_ARGS=-DLLAVA_BUILD=OFF "$venv/bin/pip" install -q "$target/$llama.tar.gz" sentencepiece
    fi
    options+=(--converter "$target/$llama/vendor/llama.cpp/convert_hf_to_gguf.py")
    ;;
esac
# The source tree stays as it was.
export PYTHONDONTWRITEBYTECODE=1
exec "$venv/bin/python" "$here/$program" --binary "$target/release/toedit" "${options[@]}" "$@"
