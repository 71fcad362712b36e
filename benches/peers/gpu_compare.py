#!/usr/bin/env python3
"""Prints one table: toedit beside PyTorch and transformers on one GPU, in one run, as ratios.

Needs the command, and the results of `kernels --bench` (criterion's folder) for the rows of single kernels; where
python3 has no torch, only our own figures are printed."""

import argparse
import importlib.util
import json
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
MODELS = ["gpt2", "qwen2-0.5b", "llama3-1b"]
DOCUMENTS, TOKENS = 256, 1024
# The floors of a pass at the GPU's dense bf16 rate: MFLOP for each token (body, attention at 1024 tokens, head).
MFLOP = {"gpt2": 266, "qwen2-0.5b": 1032, "llama3-1b": 2538}
HEADS = ["8192x50257x768", "8192x151936x896", "8192x128256x2048", "8192x128256x4096"]
PRODUCTS = ["8192x2304x768", "8192x768x3072", "8192x8192x2048", "8192x2048x8192"]
ATTENTION = [f"{size}/{length}" for size in (64, 128) for length in (512, 2048, 8192)]
# The head of the bench of editing.
EDIT = "8192x49152x2048"


class Table:
    """Rows of (what, ours, theirs, ratio), printed at the end under each other."""

    def __init__(self):
        self.rows = [("what", "ours", "theirs", "theirs / ours")]

    def time(self, what, ours, theirs):
        """Microseconds; none where one side has no figure."""
        ratio = f"{theirs / ours:.2f}" if ours and theirs else "-"
        self.rows.append((what, *(f"{value:.0f} us" if value else "-" for value in (ours, theirs)), ratio))

    def rate(self, what, ours, theirs):
        """Tokens per second; the ratio is ours by theirs, which is the same as of their times."""
        ratio = f"{ours / theirs:.2f}" if ours and theirs else "-"
        self.rows.append((what, *(f"{value:,.0f} tok/s" if value else "-" for value in (ours, theirs)), ratio))

    def note(self, what, ours):
        self.rows.append((what, ours, "", ""))

    def print(self):
        widths = [max(len(row[i]) for row in self.rows) for i in range(4)]
        for row in self.rows:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def lines_of(command):
    """The JSON lines that a command prints; none where it fails, which it then says itself."""
    run = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True)
    if run.returncode != 0:
        print(f"{command[1]} failed with status {run.returncode}", file=sys.stderr)
    return [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]


def write_documents(path, vocabulary, ragged):
    generator = random.Random(7)
    with open(path, "w", encoding="utf-8") as file:
        for i in range(DOCUMENTS):
            # Spread evenly over the orders of magnitude, as documents are.
            length = int(64 * 32 ** generator.random()) if ragged else TOKENS
            length = min(length, TOKENS if vocabulary == 50257 else 2048)
            ids = [generator.randrange(vocabulary) for _ in range(length)]
            file.write(json.dumps({"id": i, "input_ids": ids}) + "\n")


def ours(binary, model, documents, work):
    """Our tokens per second and sum of -log p."""
    out, summary = work / "out.jsonl", work / "summary.json"
    command = [binary, "score", "--quiet", "--overwrite", "--device", "cuda", "--dtype", "bf16", "--model", model]
    command += ["--max-length", "2048"] if "gpt2" not in str(model) else []
    command += ["--input", documents, "--output", out, "--summary", summary]
    run = subprocess.run([str(part) for part in command])
    if run.returncode != 0:
        return None, None
    total = sum(json.loads(line)["nll"] for line in out.read_text().splitlines())
    return json.loads(summary.read_text())["tokens_per_second"], total


def theirs(model, documents):
    settings = lines_of([sys.executable, HERE / "gpu_torch.py", "score", model, documents])
    best = max(settings, key=lambda setting: setting["tokens_per_second"], default=None)
    return (best["tokens_per_second"], best["nll"]) if best else (None, None)


def score(table, args, work, has_torch):
    for name in args.models:
        model = work / name
        subprocess.run([sys.executable, HERE / "random_model.py", name, model], check=True)
        vocabulary = json.loads((model / "config.json").read_text())["vocab_size"]
        for kind in ["equal lengths", "ragged"]:
            documents = work / "documents.jsonl"
            write_documents(documents, vocabulary, kind == "ragged")
            rates, rivals = [], []
            for _ in range(args.rounds):
                rate, total = ours(args.binary, model, documents, work)
                rival, rival_total = theirs(model, documents) if has_torch else (None, None)
                rates.append(rate or 0)
                rivals.append(rival or 0)
            rate = statistics.median(rates)
            table.rate(f"score {name}, {kind}", rate, statistics.median(rivals))
            if total and rival_total:
                table.note("  difference of the sums of log p", f"{abs(total / rival_total - 1):.1e}")
            if kind == "equal lengths":
                table.note("  rate of arithmetic", f"{rate * MFLOP[name] / 1e6:.0f} TFLOP/s")
        (model / "model.safetensors").unlink()


def estimates(folder):
    """Microseconds of every bench that criterion has results of, by its full name."""
    found = {}
    for path in Path(folder).glob("**/new/benchmark.json"):
        median = json.loads((path.parent / "estimates.json").read_text())["median"]["point_estimate"]
        found[json.loads(path.read_text())["full_id"]] = median / 1000
    return found


def single_kernels(table, mine, rivals):
    """Rows of single kernels. Ours are criterion's benches, by the ends of their names."""

    def ours(group, name):
        return next((time for full, time in mine.items() if full.startswith(group) and full.endswith(name)), None)

    for shape in HEADS:
        head = ours("head/cuda", f"bf16/{shape}/statistics")
        table.time(f"head {shape} / product alone", head, rivals.get(f"product {shape}"))
        table.time(f"head {shape} / product and log-softmax", head, rivals.get(f"log-softmax {shape}"))
    head, both = ours("edit", "head and edit/the head alone"), ours("edit", "head and edit/TopK(100)")
    table.time(f"head, top-k draws {EDIT} / product, softmax, topk, multinomial", both, rivals.get(f"topk {EDIT}"))
    if head and both:
        table.note("  draws on top of the head", f"{both / head - 1:+.1%}")
    for shape in PRODUCTS:
        for what in ("kernel", "model"):
            time = ours("matmul/cuda", f"bf16/{what}/{shape}")
            table.time(f"{what}'s product {shape}", time, rivals.get(f"product {shape}"))
    for shape in ATTENTION:
        time = ours("attention/cuda", f"bf16/{shape}")
        table.time(f"attention {shape} / flash", time, rivals.get(f"attention {shape}"))
    for width in (768, 2048, 4096):
        for name in ("copy", "rms_norm"):
            time = ours("bandwidth/cuda", f"{name}/{width}")
            table.time(f"{name} {2 * 8192}x{width}", time, rivals.get(f"{name} {width}"))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--criterion", help="criterion's folder of results")
    parser.add_argument("--models", nargs="*", default=MODELS, choices=MODELS)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    has_torch = importlib.util.find_spec("torch") is not None
    table = Table()
    with tempfile.TemporaryDirectory() as folder:
        score(table, args, Path(folder), has_torch and importlib.util.find_spec("transformers") is not None)
    rivals = lines_of([sys.executable, HERE / "gpu_torch.py", "kernels"]) if has_torch else []
    mine = estimates(args.criterion) if args.criterion else {}
    for line in rivals:
        print(json.dumps(line))
    single_kernels(table, mine, {line["name"]: line["us"] for line in rivals})
    table.print()


if __name__ == "__main__":
    main()
