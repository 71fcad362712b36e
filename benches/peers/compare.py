#!/usr/bin/env python3
"""Runs toedit and transformers in turn on the same input and prints the ratio of their rates (see compare.sh)."""

import argparse
import gzip
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tokenizers import Tokenizer

DOCUMENTS = 4
TOKENS = 1024


def make_input(path, model, corpus):
    """Writes DOCUMENTS records of TOKENS ids (fewer where the model's window is smaller), the corpus repeated as needed."""
    config = json.loads((model / "config.json").read_text())
    length = min(TOKENS, config.get("max_position_embeddings") or config.get("n_positions") or TOKENS)
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    opener = gzip.open if corpus.suffix == ".gz" else open
    ids = []
    with opener(corpus, "rt", encoding="utf-8", newline="\n") as file:
        for line in file:
            ids += tokenizer.encode(json.loads(line)["text"], add_special_tokens=False).ids
            if len(ids) >= DOCUMENTS * length:
                break
    if not ids:
        raise SystemExit(f"{corpus}: no text")
    ids *= -(-DOCUMENTS * length // len(ids))
    with open(path, "w", encoding="utf-8") as file:
        for i in range(DOCUMENTS):
            file.write(json.dumps({"id": i, "input_ids": ids[i * length : (i + 1) * length]}) + "\n")


def run(command):
    """Runs a command; its standard output and its peak memory in MB."""
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{command[0]} failed with status {process.returncode}")
    return output, usage.ru_maxrss / 1024


def run_ours(args, work, dtype):
    """Our rate in tokens per second and peak memory; the log-probabilities stay in `ours-DTYPE.jsonl`."""
    summary = work / "summary.json"
    command = [args.binary, "score", "--quiet", "--overwrite", "--per-token", "--device", "cpu", "--dtype", dtype]
    command += ["--threads", args.threads, "--model", args.model, "--input", work / "input.jsonl"]
    command += ["--output", work / f"ours-{dtype}.jsonl", "--summary", summary]
    _, memory = run(command)
    return json.loads(summary.read_text())["tokens_per_second"], memory


def run_theirs(args, work):
    """Their figures, one dictionary per setting, and peak memory."""
    script = Path(__file__).with_name("score_transformers.py")
    command = [sys.executable, script, args.model, work / "input.jsonl", "--threads", args.threads]
    output, memory = run(command + ["--against", work / "ours-f32.jsonl"])
    return [json.loads(line) for line in output.splitlines()], memory


def describe(name, ours, theirs):
    """One line: the median and the range of the ratio over the rounds."""
    ratios = [a / b for a, b in zip(ours, theirs)]
    print(
        f"{name:32} {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})   "
        f"{statistics.median(ours):.0f} against {statistics.median(theirs):.0f} tokens/s"
    )


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("corpus", type=Path, nargs="?")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--binary", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--sample", type=Path, required=True, help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    args = parse_arguments()
    ours = {"bf16": [], "f32": []}
    theirs = {"best": [], "f32": []}
    memory = {}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        make_input(work / "input.jsonl", args.model, args.corpus or args.sample)
        for _ in range(args.rounds):
            for dtype, rates in ours.items():
                rate, peak = run_ours(args, work, dtype)
                rates.append(rate)
                memory[f"toedit {dtype}"] = max(peak, memory.get(f"toedit {dtype}", 0))
            settings, peak = run_theirs(args, work)
            memory["transformers"] = max(peak, memory.get("transformers", 0))
            theirs["best"].append(max(setting["tokens_per_second"] for setting in settings))
            theirs["f32"].append(max(s["tokens_per_second"] for s in settings if s["dtype"] == "f32"))
    for setting in settings:
        print(json.dumps(setting))
    describe("bf16 / transformers' best", ours["bf16"], theirs["best"])
    describe("f32 / transformers' fp32", ours["f32"], theirs["f32"])
    for name, peak in memory.items():
        print(f"peak memory of {name}: {peak:.0f} MB")


if __name__ == "__main__":
    main()
