#!/usr/bin/env bash
# Kills a run with SIGKILL at random moments, goes on with --resume until it has finished, compares with a run that nothing
# happened to, and begins again: at least N kills, over plain, gzip and zstd outputs of `edit` and `score`.
#   scripts/kills.sh [N [TOEDIT]]     800 kills of target/release/toedit
set -euo pipefail
cd "$(dirname "$0")/.."
wanted=${1:-800}
toedit=$(realpath "${2:-target/release/toedit}")
model=$PWD/assets/tiny sample=$PWD/assets/sample.jsonl
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"

# Records that cannot be used lie between good ones.
awk 'NR % 9 == 4 { print "{\"text\":5}" } { print }' "$sample" > in.jsonl
flags="--model $model --input in.jsonl --on-error skip --frame-bytes 1500 --batch-tokens 256 --threads 1 --quiet"

kills=0 runs=0
while [ "$kills" -lt "$wanted" ]; do
    for kind in "edit out.jsonl" "edit out.jsonl.gz" "edit out.jsonl.zst" "score out.jsonl.gz"; do
        read -r command output <<< "$kind"
        begun=$(date +%s%N)
        [ -d "whole-$command" ] || mkdir "whole-$command"
        if [ ! -f "whole-$command/$output" ]; then
            "$toedit" "$command" $flags --output "whole-$command/$output" || [ $? = 3 ]
            echo $(( $(date +%s%N) - begun )) > "whole-$command/$output.time"
        fi
        longest=$(cat "whole-$command/$output.time")
        while true; do
            "$toedit" "$command" $flags --output "$output" --resume & pid=$!
            # Anywhere in the time of a whole run, loading included.
            sleep "$(awk -v n="$longest" -v r="$RANDOM" 'BEGIN { printf "%.4f", n / 1e9 * r / 32768 }')"
            kill -KILL "$pid" 2> /dev/null || true
            status=0; wait "$pid" 2> /dev/null || status=$?
            case $status in
                137) kills=$((kills + 1)) ;;
                0 | 3) break ;;
                *) echo "status $status after $kills kills" >&2; ls -lA >&2; exit 1 ;;
            esac
        done
        for file in "$output" "$output.rejects"; do
            cmp "$file" "whole-$command/$file" || { echo "other bytes after $kills kills" >&2; exit 1; }
        done
        "$toedit" verify "$output" > /dev/null
        left=$(ls -A | grep -c '^\.' || true)
        [ "$left" = 0 ] || { echo "left behind: $(ls -A)" >&2; exit 1; }
        rm "$output" "$output.rejects" "$output.manifest"
        runs=$((runs + 1))
    done
done
echo "$kills kills in $runs runs: every output, reject file and manifest as if there had been none"
