#!/usr/bin/env python3
"""Runs toedit and its peers in turn on the same input and prints the ratios of their rates; then our share of the
machine's peak, the rate of editing beside scoring, and the time to a first score (see compare.sh)."""

import argparse
import gzip
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tokenizers import Tokenizer

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DOCUMENTS = 4
TOKENS = 1024
PEERS = ["transformers", "candle", "llama.cpp"]
FORMATS = ["f32", "f16", "bf16", "q8_0"]
# Mean absolute differences from our f32, in nats, above which a peer did not compute the same. llama.cpp keeps keys and
# values in f16, whatever the weights.
LIMITS = {"f32": 5e-3, "f16": 1e-2, "bf16": 5e-2, "q8_0": 1e-1}
# Tokens of the input that is edited, and bytes of the document that is scored alone.
EDITED, SHORT = 16_384, 200


def open_text(path):
    opener = gzip.open if path.suffix == ".gz" else open
    return opener(path, "rt", encoding="utf-8", newline="\n")


def make_ids(path, args):
    """Writes DOCUMENTS records of equally many ids, TOKENS or the model's window, the corpus repeated as needed."""
    tokenizer = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    ids = []
    with open_text(args.corpus) as file:
        for line in file:
            ids += tokenizer.encode(json.loads(line)["text"], add_special_tokens=False).ids
            if len(ids) >= DOCUMENTS * args.length:
                break
    if not ids:
        raise SystemExit(f"{args.corpus}: no text")
    ids *= -(-DOCUMENTS * args.length // len(ids))
    with open(path, "w", encoding="utf-8") as file:
        for i in range(DOCUMENTS):
            file.write(json.dumps({"id": i, "input_ids": ids[i * args.length : (i + 1) * args.length]}) + "\n")


def make_texts(path, short, args):
    """Writes the corpus's first records of EDITED tokens or a little more, and the beginning of the first one alone."""
    tokenizer = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    tokens = 0
    with open_text(args.corpus) as file, open(path, "w", encoding="utf-8") as out:
        for line in file:
            text = json.loads(line)["text"]
            if tokens == 0:
                short.write_text(json.dumps({"text": text[:SHORT]}) + "\n", encoding="utf-8")
            out.write(json.dumps({"text": text}) + "\n")
            tokens += len(tokenizer.encode(text, add_special_tokens=False).ids)
            if tokens >= EDITED:
                break


def run(command, **variables):
    """Runs a command; its standard output and its peak memory in MB."""
    environment = {**os.environ, **variables}
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True, env=environment)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{command[0]} failed with status {process.returncode}")
    return output, usage.ru_maxrss / 1024


def run_ours(args, work, subcommand, source, *options):
    """Our summary, with peak memory in MB; the output stays in `ours-SUBCOMMAND.jsonl`."""
    summary = work / "summary.json"
    command = [args.binary, subcommand, "--quiet", "--overwrite", "--device", "cpu", "--threads", args.threads]
    command += ["--model", args.model, "--input", source, "--output", work / f"ours-{subcommand}.jsonl"]
    _, memory = run([*command, "--summary", summary, *options])
    return {**json.loads(summary.read_text()), "memory": memory}


def run_peer(args, work, peer):
    """A peer's figures, one dictionary per setting, checked against ours, and its peak memory."""
    against, source = work / "ours-score.jsonl", work / "ids.jsonl"
    if peer == "transformers":
        command = [sys.executable, HERE / "score_transformers.py", args.model, source]
        command += ["--threads", args.threads, "--against", against]
    elif peer == "candle":
        command = [args.candle, args.model, source, against]
    else:
        command = [sys.executable, HERE / "score_llama_cpp.py", *(work / f"{name}.gguf" for name in FORMATS)]
        command += ["--input", source, "--threads", args.threads, "--against", against]
    output, memory = run(command, RAYON_NUM_THREADS=str(args.threads))
    settings = [json.loads(line) for line in output.splitlines()]
    for setting in settings:
        # Not a number is no agreement either.
        if not (setting["compared"] and setting["mean_abs_difference"] <= LIMITS[setting["dtype"]]):
            raise SystemExit(f"{peer} does not agree with us: {setting}")
    return settings, memory


def convert(args, work):
    """Writes the model in llama.cpp's formats, by its own script."""
    for name in FORMATS:
        command = [sys.executable, args.converter, args.model, "--outtype", name, "--outfile", work / f"{name}.gguf"]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise SystemExit(done.stderr)


def run_peak(args):
    """GFLOP/s of the machine in f32 and bf16 (None where it has no such instruction)."""
    command = ["cargo", "bench", "--quiet", "--bench", "peak", "--manifest-path", ROOT / "Cargo.toml"]
    output, _ = run([*command, "--", "--threads", args.threads])
    return json.loads(output)


def mflop_per_token(config, length):
    """Of the products of a Llama's forward pass, attention over half the length and head included."""
    width, heads = config["hidden_size"], config["num_attention_heads"]
    head_dim = config.get("head_dim") or width // heads
    queries, keys = heads * head_dim, (config.get("num_key_value_heads") or heads) * head_dim
    layer = 2 * width * (queries + keys) + 3 * width * config["intermediate_size"] + queries * length
    return 2 * (config["num_hidden_layers"] * layer + width * config["vocab_size"]) / 1e6


def weights_mb(model):
    """What a folder's weights take in bf16."""
    return sum(path.stat().st_size for path in model.glob("*.safetensors")) / 1024**2


def show(name, ratios, digits=2):
    """A line's beginning: the median and the range of a ratio over the rounds."""
    low, middle, high = (f"{f(ratios):.{digits}f}" for f in (min, statistics.median, max))
    return f"{name:32} {middle} ({low} to {high})"


def describe(name, ours, theirs, unit="tokens/s"):
    """One line: a ratio, and the medians of both sides."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    print(f"{show(name, ratios)}   {statistics.median(ours):.0f} against {statistics.median(theirs):.0f} {unit}")


def best(settings, dtypes):
    return max(setting["tokens_per_second"] for setting in settings if setting["dtype"] in dtypes)


def compare_scoring(args, work):
    """Ours, the machine's peak and every peer in turn; prints when all rounds are done and have agreed."""
    make_ids(work / "ids.jsonl", args)
    if "llama.cpp" in args.peers:
        convert(args, work)
    ours, peaks, theirs = {"bf16": [], "f32": []}, [], {peer: [] for peer in args.peers}
    memory = {}
    for _ in range(args.rounds):
        # f32 last: peers are compared with what it leaves.
        for dtype, rates in ours.items():
            summary = run_ours(args, work, "score", work / "ids.jsonl", "--per-token", "--dtype", dtype)
            rates.append(summary["tokens_per_second"])
            memory[f"toedit {dtype}"] = summary["memory"]
        peaks.append(run_peak(args))
        for peer, rounds in theirs.items():
            settings, memory[peer] = run_peer(args, work, peer)
            rounds.append(settings)
    for peer, rounds in theirs.items():
        for setting in rounds[-1]:
            print(json.dumps({"peer": peer, **setting}))
    print_scoring(args, ours, peaks, theirs)
    for name, peak in memory.items():
        print(f"peak memory of {name}: {peak:.0f} MB")


def print_scoring(args, ours, peaks, theirs):
    fastest = [max(rates) for rates in zip(*ours.values())]
    for peer, rounds in theirs.items():
        if peer == "transformers":
            describe("bf16 / transformers' best", ours["bf16"], [best(settings, LIMITS) for settings in rounds])
            describe("f32 / transformers' f32", ours["f32"], [best(settings, ["f32"]) for settings in rounds])
        else:
            describe(f"our best / {peer}'s best", fastest, [best(settings, LIMITS) for settings in rounds])
    config = json.loads((args.model / "config.json").read_text())
    # Other families have no gate, or other names.
    if "intermediate_size" not in config or config["model_type"] == "gpt_neox":
        return
    mflop = mflop_per_token(config, args.length)
    for dtype, rates in ours.items():
        if peaks[0][dtype]:
            reached = [rate * mflop / 1e3 for rate in rates]
            describe(f"{dtype} / peak, {mflop:.0f} MFLOP a token", reached, [peak[dtype] for peak in peaks], "GFLOP/s")


def compare_editing(args, work):
    """Editing by the default rules beside scoring the same text."""
    rates, memory = {"edit": [], "score": []}, 0
    for _ in range(args.rounds):
        for subcommand in rates:
            summary = run_ours(args, work, subcommand, work / "texts.jsonl")
            rates[subcommand].append(summary["tokens_per_second"])
            memory = max(memory, summary["memory"])
            if subcommand == "edit":
                edited = summary
    share, changed = edited["eligible"] / edited["scored"], edited["changed"]
    print(f"{edited['tokens']} tokens of text, {share:.0%} eligible, {changed} changed, windows of {edited['max_length']}")
    describe("edit / score", rates["edit"], rates["score"])
    above = memory - weights_mb(args.model) * (2 if edited["dtype"] == "f32" else 1)
    print(f"peak memory of either: {memory:.0f} MB, {above:.0f} above the weights in {edited['dtype']}")


def measure_start(args, work):
    """Wall time of a process that scores one short document, and where it goes."""
    times = {"in all": [], "loading": [], "scoring": []}
    for _ in range(args.rounds + 1):
        start = time.perf_counter()
        summary = run_ours(args, work, "score", work / "short.jsonl")
        times["in all"].append(time.perf_counter() - start)
        times["loading"].append(summary["load_seconds"])
        times["scoring"].append(summary["seconds"])
    # The first run brought the weights into the page cache.
    parts = (show(name, seconds[1:], 3) for name, seconds in times.items())
    print(f"first score of a model of {weights_mb(args.model):.0f} MB ({summary['tokens']} tokens), seconds:")
    print("\n".join(parts))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("corpus", type=Path, nargs="?", default=ROOT / "assets/sample.jsonl")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", default="transformers", help=f"any of {','.join(PEERS)}; default transformers")
    parser.add_argument("--binary", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--candle", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--converter", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.peers = [peer for peer in args.peers.split(",") if peer]
    if unknown := set(args.peers) - set(PEERS):
        parser.error(f"unknown peers {', '.join(unknown)}: expected some of {','.join(PEERS)}")
    config = json.loads((args.model / "config.json").read_text())
    args.length = min(TOKENS, config.get("max_position_embeddings") or config.get("n_positions") or TOKENS)
    return args


def main():
    args = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        compare_scoring(args, work)
        make_texts(work / "texts.jsonl", work / "short.jsonl", args)
        compare_editing(args, work)
        measure_start(args, work)


if __name__ == "__main__":
    main()
