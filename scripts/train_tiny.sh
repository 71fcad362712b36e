#!/usr/bin/env bash
# Trains the model of assets/tiny from scratch: train_tiny.sh DATA DEST [STEPS]
#
# DATA is a folder of JSON lines (or one file), DEST gets the data split in two and the model. Of each file, every 50th
# document is held out, whole. Long documents are cut into pieces of about 8,000 characters at paragraphs.
set -euo pipefail
cd "$(dirname "$0")/.."

data=${1:?usage: train_tiny.sh DATA DEST [STEPS]}
dest=${2:?usage: train_tiny.sh DATA DEST [STEPS]}
toedit=${TOEDIT:-target/release/toedit}
mkdir -p "$dest"

# Once: a run that is resumed goes on with the same files.
[ -e "$dest/train.jsonl" ] || python3 - "$data" "$dest" <<'PYTHON'
import gzip, json, sys
from pathlib import Path

PIECE, HELD_OUT, FIRST = 8000, 50, 10


def pieces(text):
    """The text, cut at the first paragraph that ends behind PIECE characters, again and again."""
    while len(text) > PIECE and (end := text.find("\n\n", PIECE)) >= 0:
        yield text[:end]
        text = text[end + 2 :]
    yield text


data, dest = map(Path, sys.argv[1:])
files = sorted(data.glob("*.jsonl*")) if data.is_dir() else [data]
with open(dest / "train.partial", "w", encoding="utf-8") as train, open(dest / "held-out.jsonl", "w", encoding="utf-8") as held_out:
    for path in files:
        opened = gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else open(path, encoding="utf-8")
        with opened as file:
            for number, line in enumerate(file):
                out = held_out if number % HELD_OUT == FIRST else train
                for piece in pieces(json.loads(line)["text"]):
                    out.write(json.dumps({"text": piece}) + "\n")
(dest / "train.partial").rename(dest / "train.jsonl")
PYTHON

steps=${3:-5200}
"$toedit" train --config-json assets/tiny/config.json --data "$dest/train.jsonl" --eval-data "$dest/held-out.jsonl" \
  --output "$dest/model" --batch-size 8 --sequence-length 512 --steps "$steps" --learning-rate 3e-3 \
  --min-learning-rate 1e-4 --schedule cosine --warmup $((steps / 100)) --weight-decay 0.1 --dtype bf16 --resume --save-every 500
