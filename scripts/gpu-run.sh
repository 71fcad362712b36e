#!/usr/bin/env bash
# Tests and measures toedit on this machine's GPU: the archive of gpu-bundle.sh, unpacked, starts this as run.sh.
#
# usage: run.sh [tests|benches]      default both; $OUT names the folder for logs and results, default ./out
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

echo "toedit $(cat VERSION)"
# Without one the tests would pass on the CPU alone.
if ! nvidia-smi --query-gpu=name,driver_version,compute_cap,memory.total --format=csv,noheader; then
    echo "no GPU: nvidia-smi finds none on this machine, so there is nothing to test or to measure" >&2
    exit 1
fi
if [ "$what" != benches ]; then
    for test in ops golden editing; do
        step "$test" "./bin/$test"
        TOEDIT_CUBLAS=0 step "$test-own-products" "./bin/$test"
    done
    step same-edits same_edits
fi
if [ "$what" != tests ]; then
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
exit "$failed"
