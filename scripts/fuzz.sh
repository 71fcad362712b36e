#!/usr/bin/env bash
# Fuzzes everything that parses files, on the stable toolchain; two targets at a time. Starts from fuzz/seeds, keeps what it
# finds in target/fuzz, and fails where a case panics, hangs or takes more than 1 GiB: the case is then in target/fuzz/found.
#
# PROPTEST_RNG_SEED makes the search the same in every run, as it does for generated tests.
#
# usage: fuzz.sh [SECONDS for each target, 60 by default] [TARGET...]
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || for file in fuzz/targets/*.rs; do targets+=("$(basename "$file" .rs)"); done

RUSTC_WORKSPACE_WRAPPER=scripts/sancov.sh cargo build -p toedit-fuzz
mkdir -p target/fuzz/found

fuzz() {
    mkdir -p "target/fuzz/$1"
    if "target/debug/fuzz-$1" "target/fuzz/$1" "fuzz/seeds/$1" -max_total_time="$seconds" -timeout=10 -seed="${PROPTEST_RNG_SEED:-0}" -rss_limit_mb=1024 \
        -artifact_prefix="target/fuzz/found/$1-" -print_final_stats=1 >"target/fuzz/$1.log" 2>&1; then
        echo "$1: $(grep -o 'number_of_executed_units: *[0-9]*' "target/fuzz/$1.log" | grep -o '[0-9]*$') cases," \
            "$(grep -o 'cov: [0-9]*' "target/fuzz/$1.log" | tail -1 | grep -o '[0-9]*') edges"
    else
        tail -40 "target/fuzz/$1.log"
        return 1
    fi
}
export -f fuzz
export seconds
printf '%s\0' "${targets[@]}" | xargs -0 -P 2 -I{} bash -euo pipefail -c 'fuzz {}'
