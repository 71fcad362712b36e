#!/usr/bin/env python3
"""Runs toedit and its peers in turn on the same prompts, greedily and past the end of text, and prints new tokens per second
and ratios, for one text and for 16 texts at a time. Load times are left out; prompts of 32 tokens are part of the time."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tokenizers import Tokenizer

from agreement import read_lines

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PROMPT = 32
BATCHES = [1, 16]
PEERS = ["transformers", "llama.cpp"]


def make_prompts(path, model, count):
    """Writes prompts from the sample corpus, each PROMPT ids."""
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    texts = [record["text"] for record in read_lines(ROOT / "assets/sample.jsonl")]
    encoded = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    prompts = [ids[:PROMPT] for ids in encoded if len(ids) >= PROMPT][:count]
    path.write_text("".join(json.dumps({"input_ids": ids}) + "\n" for ids in prompts), encoding="utf-8")


def run(command):
    return json.loads(subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True).stdout)


def ours(args, source, batch, work):
    output, summary = work / "out.jsonl", work / "summary.json"
    common = ["--overwrite", "--quiet", "--device", "cpu", "--dtype", args.dtype, "--threads", args.threads]
    command = [args.binary, "generate", "--model", args.model, "--input", source, "--output", output, "--summary", summary]
    ends = ["--temperature", 0, "--ignore-eos", "--max-new-tokens", args.tokens, "--batch-size", batch]
    subprocess.run([str(part) for part in [*command, *common, *ends]], check=True)
    return json.loads(summary.read_text())["tokens_per_second"], [record["output_ids"] for record in read_lines(output)]


def peer(args, name, source, batch):
    common = ["--input", source, "--batch-size", batch, "--new-tokens", args.tokens, "--threads", args.threads]
    if name == "transformers":
        command = [sys.executable, HERE / "generate_transformers.py", args.model, "--dtype", args.dtype]
    else:
        command = [sys.executable, HERE / "generate_llama_cpp.py", gguf(args, source.parent)]
    result = run([*command, *common])
    return result["tokens_per_second"], result["output_ids"]


def gguf(args, work):
    """The model in llama.cpp's format, in the same type."""
    path = work / "model.gguf"
    if not path.exists():
        command = [sys.executable, args.converter, args.model, "--outtype", args.dtype, "--outfile", path]
        subprocess.run([str(part) for part in command], check=True, capture_output=True)
    return path


def equal(ours, theirs):
    """The share of new tokens before the first that differs."""
    def common(a, b):
        return next((i for i, pair in enumerate(zip(a, b)) if pair[0] != pair[1]), len(a))
    return sum(common(a, b) for a, b in zip(ours, theirs)) / sum(map(len, ours))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--binary", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--converter", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="bf16")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", default="transformers", help=f"any of {','.join(PEERS)}; default transformers")
    args = parser.parse_args()
    peers = [peer for peer in args.peers.split(",") if peer]
    if unknown := set(peers) - set(PEERS):
        parser.error(f"unknown peers {', '.join(unknown)}: expected some of {','.join(PEERS)}")
    medians = {}
    with tempfile.TemporaryDirectory() as folder:
        for batch in BATCHES:
            source = Path(folder) / f"{batch}.jsonl"
            make_prompts(source, args.model, max(2, batch))
            rates, outputs = {}, {}
            for _ in range(args.rounds):
                for name in ["toedit", *peers]:
                    work = Path(folder)
                    rate, outputs[name] = ours(args, source, batch, work) if name == "toedit" else peer(args, name, source, batch)
                    rates.setdefault(name, []).append(rate)
            for name, values in rates.items():
                rate, mine = statistics.median(values), statistics.median(rates["toedit"])
                medians[name, batch] = rate
                line = f"{args.dtype} batch {batch:2} {name:12} {rate:7.1f} tokens/s ({min(values):.1f} to {max(values):.1f})"
                if name != "toedit":
                    line += f"  ratio {mine / rate:.2f}, {equal(outputs['toedit'], outputs[name]):.0%} of tokens before one differs"
                print(line, flush=True)
    print(f"toedit batch {BATCHES[1]} / batch 1: {medians['toedit', BATCHES[1]] / medians['toedit', 1]:.2f}")


if __name__ == "__main__":
    main()
