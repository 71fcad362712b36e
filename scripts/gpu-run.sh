#!/usr/bin/env bash
# Tests and measures toedit on this machine's GPU: the archive of gpu-bundle.sh, unpacked, starts this as run.sh.
#
# usage: run.sh [tests|benches|training]      default all; training: its rate beside PyTorch's
#                                             $OUT names the folder for logs and results, default ./out
set -uo pipefail

here=$(cd "$(dirname "$0")" && pwd)
out=${OUT:-$here/out}
what=${1:-all}
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$here"
export CRITERION_HOME=$out/criterion
# Where tests and benches find their files.
export TOEDIT_ROOT=$here
unset TOEDIT_SHARED TOEDIT_SMOLLM2
failed=0

# cuBLASLt comes with the CUDA toolkit, or with the Python packages that torch needs.
if command -v python3 >/dev/null; then
    packages=$(python3 -c "import sysconfig; print(sysconfig.get_path('purelib'))")
    for folder in "$packages"/nvidia/cu13/lib "$packages"/nvidia/cublas/lib; do
        [ -d "$folder" ] && export LD_LIBRARY_PATH=$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    done
fi

# Runs a command with its output in a log, and says how it ended.
step() {
    local name=$1 start=$SECONDS
    shift
    if "$@" >"$out/$name.log" 2>&1; then
        echo "$name: passed in $((SECONDS - start)) s"
    else
        echo "$name: FAILED with status $?, see $out/$name.log"
        tail -n 20 "$out/$name.log"
        failed=1
    fi
}

# Scores and edits the sample on the GPU and on the CPU: the same decisions in f32.
same_edits() {
    local device
    for device in cpu cuda; do
        ./bin/toedit edit --quiet --overwrite --model assets/tiny --dtype f32 --device "$device" --resample-above 0.2 \
            --input assets/sample.jsonl --output "$out/edited-$device.jsonl" || return
    done
    cmp "$out/edited-cpu.jsonl" "$out/edited-cuda.jsonl"
}

# Goes on from the sample's beginnings on the GPU and on the CPU: the same draws in f32.
same_texts() {
    local device
    for device in cpu cuda; do
        ./bin/toedit generate --quiet --overwrite --model assets/tiny --dtype f32 --device "$device" --prefix-tokens 16 \
            --max-new-tokens 32 --top-p 0.95 --input assets/sample.jsonl --output "$out/generated-$device.jsonl" || return
    done
    cmp "$out/generated-cpu.jsonl" "$out/generated-cuda.jsonl"
}

# Losses, gradients and steps against transformers' numbers.
training() {
    [ -d shared/golden ] || { echo "no numbers of transformers in this archive"; return 1; }
    TOEDIT_SHARED=$here/shared ./bin/training golden
}

# Trains the embedded model on the GPU and on the CPU: losses that differ by roundings.
same_losses() {
    local device
    for device in cpu cuda; do
        ./bin/toedit train --quiet --overwrite --model assets/tiny --dtype f32 --device "$device" --steps 20 \
            --batch-size 4 --sequence-length 128 --data assets/sample.jsonl --output "$out/trained-$device" || return
        sed -n 's/.*"loss": *\([^,}]*\).*/\1/p' "$out/trained-$device/metrics.jsonl" >"$out/losses-$device"
    done
    paste "$out/losses-cpu" "$out/losses-cuda" |
        awk '{ print; off = $1 - $2 } off > 1e-3 || off < -1e-3 || NF != 2 { bad = 1 } END { exit bad || NR != 20 }'
}

echo "toedit $(cat VERSION)"
# Without one the tests would pass on the CPU alone.
if ! nvidia-smi --query-gpu=name,driver_version,compute_cap,memory.total --format=csv,noheader; then
    echo "no GPU: nvidia-smi finds none on this machine, so there is nothing to test or to measure" >&2
    exit 1
fi
wanted() { [ "$what" = all ] || [ "$what" = "$1" ]; }
if wanted tests; then
    for test in ops golden editing; do
        step "$test" "./bin/$test"
        TOEDIT_CUBLAS=0 step "$test-own-products" "./bin/$test"
    done
    step training training
    TOEDIT_CUBLAS=0 step training-own-products training
    step same-edits same_edits
    step same-texts same_texts
    step same-losses same_losses
fi
if wanted benches; then
    # Results of an earlier run are none of this one.
    rm -rf "$CRITERION_HOME"
    step kernels ./bin/kernels --bench --warm-up-time 1 --measurement-time 3 cuda
    if command -v python3 >/dev/null; then
        step compare python3 benches/peers/gpu_compare.py --binary ./bin/toedit --criterion "$CRITERION_HOME"
        cat "$out/compare.log"
    else
        echo "no python3: whole models are not measured; the benches are in $out/kernels.log"
    fi
fi
if wanted training; then
    if python3 -c 'import torch, transformers' 2>/dev/null; then
        for shape in gpt2 qwen2.5-0.5b; do
            step "train-$shape" python3 benches/peers/train_compare.py ./bin/toedit --device cuda --dtype bf16 --shape "$shape"
            cat "$out/train-$shape.log"
        done
    else
        echo "no torch and transformers for python3: training is not measured beside PyTorch"
    fi
fi
exit "$failed"
