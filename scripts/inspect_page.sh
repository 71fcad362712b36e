#!/usr/bin/env bash
# Looks at the page of `toedit inspect --html` in a real browser: edits the sample with the model that the repository carries, makes
# the page, checks by Chromium's own account of it that the documents and edits are there, that its script runs and that a
# hostile text does not, uses it with keys, mouse and finger, and takes screenshots. Run by hand. Where there is no `chromium`, Debian's is unpacked into a folder
# that goes at the end; nothing is installed (needs apt's lists: `apt-get update`).
#
# usage: inspect_page.sh DIR      the page and the screenshots go there; $TOEDIT names the binary, else it is built
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
out=${1:?usage: inspect_page.sh DIR}
mkdir -p "$out"
out=$(cd "$out" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
    echo "inspect_page.sh: $*" >&2
    exit 1
}

toedit=${TOEDIT:-}
if [ -z "$toedit" ]; then
    cargo build --release --quiet --manifest-path "$root/Cargo.toml"
    toedit=${CARGO_TARGET_DIR:-$root/target}/release/toedit
fi

# Debian's browser with the libraries and fonts that are missing here, in a folder.
unpack_chromium() {
    local options=(-o Dir::Cache::archives="$work/archives" -o Debug::NoLocking=1 -o APT::Sandbox::User="$(id -un)")
    mkdir -p "$work/archives/partial" "$work/chromium"
    apt-get install --yes --quiet=2 --no-install-recommends --download-only "${options[@]}" \
        chromium fonts-dejavu-core fonts-noto-core fonts-noto-color-emoji >"$work/apt.log" 2>&1 || {
        cat "$work/apt.log" >&2
        return 1
    }
    local package
    for package in "$work"/archives/*.deb; do
        dpkg-deb --extract "$package" "$work/chromium"
    done
    local library=$work/chromium/usr/lib/$(dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || gcc -print-multiarch)
    export LD_LIBRARY_PATH=$library:$library/pulseaudio${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    cat >"$work/fonts.conf" <<XML
<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>/usr/share/fonts</dir><dir>$work/chromium/usr/share/fonts</dir><cachedir>$work/fonts</cachedir>
<alias><family>monospace</family><prefer><family>DejaVu Sans Mono</family></prefer></alias>
<match><edit name="family" mode="append_last"><string>DejaVu Sans</string></edit></match></fontconfig>
XML
    export FONTCONFIG_FILE=$work/fonts.conf
    chromium=$work/chromium/usr/lib/chromium/chromium
}

chromium=$(command -v chromium || true)
[ -n "$chromium" ] || unpack_chromium

browse() {
    "$chromium" --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --hide-scrollbars --no-first-run \
        --user-data-dir="$work/profile" --virtual-time-budget=3000 "$@" 2>>"$out/chromium.log" ||
        fail "the browser failed: see $out/chromium.log"
}

# As the page has it after its script has run: `output` counts the documents.
check() {
    local name=$1 documents=$2 edits=$3 dom
    dom=$out/$name.dom.html
    browse --dump-dom "file://$out/$name.html" >"$dom"
    [ "$(grep -c '<article id="d' "$dom")" = "$documents" ] || fail "$name: expected $documents documents"
    [ "$(grep -c '<tr id="d[0-9]*e[0-9]*">' "$dom")" = "$edits" ] || fail "$name: expected $edits edits"
    grep -q "<output id=\"at\">[–0-9]* / $documents</output>" "$dom" || fail "$name: its script did not run"
    echo "$name: $documents documents, $edits edits"
}

: >"$out/chromium.log"
"$toedit" edit --quiet --overwrite --model "$root/assets/tiny" --input "$root/assets/sample.jsonl" --resample-above 0.5 \
    --provenance --output "$out/edited.jsonl"
"$toedit" inspect --quiet --overwrite --html "$out/page.html" "$out/edited.jsonl"
check page "$(wc -l <"$out/edited.jsonl")" "$(grep -o '"position":' "$out/edited.jsonl" | wc -l)"

# A text that does all it can to be more than text.
cat >"$out/hostile.jsonl" <<'JSON'
{"id":"<script>document.title='broken'</script>","text":"</div></article><img src=x onerror=\"document.title='broken'\"><script>document.title='broken'</script>"}
{"id":"\"><svg onload=document.title='broken'>","text":"<style>*{display:none}</style>'\"&lt;\u202e\u0000"}
JSON
"$toedit" inspect --quiet --overwrite --html "$out/hostile.html" "$out/hostile.jsonl"
check hostile 2 0
! grep -q '<title>broken' "$out/hostile.dom.html" || fail "a text became a script"

python3 "$root/scripts/inspect_page.py" "$chromium" "$work/profile" "$out/page.html" "$out"

# Some thousand documents.
for _ in $(seq 100); do cat "$out/edited.jsonl"; done >"$work/large.jsonl"
"$toedit" inspect --quiet --overwrite --limit 3600 --html "$out/large.html" "$work/large.jsonl"
mkdir -p "$work/large"
python3 "$root/scripts/inspect_page.py" "$chromium" "$work/profile" "$out/large.html" "$work/large" >"$work/large.log"
grep loaded "$work/large.log"
