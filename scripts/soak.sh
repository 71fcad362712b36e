#!/usr/bin/env bash
# Edits corpora over and over, through standard input, and watches the memory of the process: it has to be flat once every
# buffer has been used. Prints the figures; fails where the last third needs more than the middle one.
#   scripts/soak.sh [MINUTES [FILE...]]     30 minutes of assets/sample.jsonl; FILEs are JSON lines, plain or compressed
set -euo pipefail
cd "$(dirname "$0")/.."
minutes=${1:-30}
shift || true
files=("$@")
[ ${#files[@]} -gt 0 ] || files=(assets/sample.jsonl)
toedit=${TOEDIT:-target/release/toedit}
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

# Now and then a record that cannot be used.
corpus() {
    for file in "${files[@]}"; do
        case $file in
            *.gz) gzip -dc "$file" ;;
            *.zst) zstd -dcq "$file" ;;
            *) cat "$file" ;;
        esac
    done
    echo '{"text":5}'
}
feed() {
    local end=$((SECONDS + minutes * 60))
    while [ $SECONDS -lt $end ]; do corpus; done
}

mkfifo "$place/in"
feed > "$place/in" 2> /dev/null & feeder=$!
"$toedit" edit --model assets/tiny --input - --output "$place/out.jsonl.zst" --provenance --on-error skip \
    --summary "$place/summary.json" --quiet < "$place/in" & pid=$!
while kill -0 $pid 2> /dev/null; do
    sed -n 's/^VmRSS:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/$pid/status" >> "$place/memory" 2> /dev/null || true
    sleep 1
done
status=0; wait $pid || status=$?
wait $feeder || true
[ $status = 3 ] || { echo "exit status $status" >&2; exit 1; }
"$toedit" verify "$place/out.jsonl.zst"

python3 - "$place" <<'PYTHON'
import json, sys
place = sys.argv[1]
memory = [int(line) / 1024 for line in open(f"{place}/memory")]
summary = json.load(open(f"{place}/summary.json"))
third = len(memory) // 3
first, middle, last = (max(part) for part in (memory[:third], memory[third:-third], memory[-third:]))
print(f"{len(memory) / 60:.1f} minutes, {summary['documents']} documents, {summary['tokens']} tokens, "
      f"{summary['tokens_per_second']:.0f} tokens/s")
print(f"resident MiB, largest of each third: {first:.1f}, {middle:.1f}, {last:.1f}")
if not last <= middle * 1.01 + 1:
    sys.exit("memory grows")
PYTHON
