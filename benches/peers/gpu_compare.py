#!/usr/bin/env python3
"""Prints one table: toedit beside PyTorch and transformers on one GPU, in one run, as ratios beside what is wanted.

Needs the command, and the results of `kernels --bench` (criterion's folder) for the rows of single kernels; where
python3 has no torch, only our own figures are printed. Fails at the end if anything failed or was missing."""

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
GPU = "cuda:0"
# The shapes that both sides measure, and name their figures by.
SHAPES = json.loads((HERE / "shapes.json").read_text())
DOCUMENTS, TOKENS = 256, 1024
# Of a pass, MFLOP for each token (body, attention at 1024 tokens, head); wanted beside transformers and of the floor.
MODELS = {"gpt2": (266, 1.6, 0.52), "qwen2-0.5b": (1032, 1.4, 0.58), "llama3-1b": (2538, 1.2, 0.72)}
RAGGED = 2.5
# Wanted by the hidden size: beside the bare product, and beside product and log-softmax.
HEADS = {768: (0.80, 2.5), 896: (0.80, 2.5), 2048: (0.90, 1.5), 4096: (0.90, 1.25)}
# Wanted by the head size, at this length.
ATTENTION, ATTENTION_LENGTH = {64: 1.35, 128: 1.5}, 2048
# Ids that share one entry of what the head keeps of a row: 8 bytes.
TILE = 256


class Report:
    """Rows of the table, and what went wrong on the way to it."""

    def __init__(self):
        self.rows = [("goal", "what", "ours", "theirs", "ratio", "wanted")]
        self.problems = []

    def row(self, goal, what, ours, theirs, ratio, wanted=""):
        self.rows.append((goal, what, ours, theirs, ratio, wanted))

    def time(self, goal, what, ours, theirs, wanted=None):
        """Microseconds, None where a side has no figure; the ratio is theirs by ours."""
        ratio = f"{theirs / ours:.2f}" if ours and theirs else "-"
        cells = (f"{value:.0f} us" if value else "-" for value in (ours, theirs))
        self.row(goal, what, *cells, ratio, f">= {wanted}" if wanted else "")

    def rate(self, goal, what, ours, theirs, wanted):
        """Tokens per second; the ratio is ours by theirs."""
        ratio = f"{ours / theirs:.2f}" if ours and theirs else "-"
        cells = (f"{value:,.0f} tok/s" if value else "-" for value in (ours, theirs))
        self.row(goal, what, *cells, ratio, f">= {wanted}")

    def problem(self, text):
        print(text, file=sys.stderr, flush=True)
        self.problems.append(text)

    def print(self):
        widths = [max(map(len, column)) for column in zip(*self.rows)]
        for row in self.rows:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
        for text in self.problems:
            print(f"PROBLEM: {text}")


class Times:
    """One side's microseconds by name; None where it was not measured at all. A name that is missing is a problem."""

    def __init__(self, report, side, times):
        self.report, self.side, self.times = report, side, times

    def __call__(self, name):
        if self.times is not None and name not in self.times:
            self.report.problem(f"{self.side} did not measure `{name}`")
        return (self.times or {}).get(name)


def run(report, command):
    """What a command prints, and whether it succeeded."""
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        report.problem(f"failed with status {done.returncode}: {' '.join(map(str, command))}")
    return done.stdout, done.returncode == 0


def torch_lines(report, *arguments):
    """The JSON lines of PyTorch's side; those of a run that failed later are good."""
    text, _ = run(report, [sys.executable, HERE / "gpu_torch.py", *arguments])
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def write_documents(path, vocabulary, ragged):
    generator = random.Random(7)
    with open(path, "w", encoding="utf-8") as file:
        for i in range(DOCUMENTS):
            # Spread evenly over the orders of magnitude, as documents are.
            length = int(64 * 32 ** generator.random()) if ragged else TOKENS
            length = min(length, TOKENS if vocabulary == 50257 else 2048)
            ids = [generator.randrange(vocabulary) for _ in range(length)]
            file.write(json.dumps({"id": i, "input_ids": ids}) + "\n")


def score_ours(report, binary, model, documents, work):
    """Our tokens per second and sum of -log p; None where the run failed."""
    out, summary = work / "out.jsonl", work / "summary.json"
    command = [binary, "score", "--quiet", "--overwrite", "--device", "cuda", "--dtype", "bf16", "--model", model]
    command += ["--max-length", "2048"] if model.name != "gpt2" else []
    command += ["--input", documents, "--output", out, "--summary", summary]
    if not run(report, command)[1]:
        return None
    total = sum(json.loads(line)["nll"] for line in out.read_text().splitlines())
    return json.loads(summary.read_text())["tokens_per_second"], total


def score_theirs(report, model, documents):
    """The same of transformers at its best size of batch."""
    settings = torch_lines(report, "score", model, documents)
    best = max(settings, key=lambda setting: setting["tokens_per_second"], default=None)
    return (best["tokens_per_second"], best["nll"]) if best else None


def rounds(report, args, model, documents, work, has_transformers):
    """Both sides in turn: their median rates, None for a side without a round that succeeded."""
    ours, theirs = [], []
    for _ in range(args.rounds):
        ours.append(score_ours(report, args.binary, model, documents, work))
        if has_transformers:
            theirs.append(score_theirs(report, model, documents))
    ours, theirs = ([result for result in side if result] for side in (ours, theirs))
    if ours and theirs:
        difference = abs(ours[-1][1] / theirs[-1][1] - 1)
        report.row("", "  difference of the sums of log p", "", "", f"{difference:.1e}", "<= 1e-03")
        # Not a number is no agreement either.
        if not difference <= 1e-3:
            report.problem(f"{model.name}: the sums of log p differ by {difference:.1e}")
    return tuple(statistics.median(rate for rate, _ in side) if side else None for side in (ours, theirs))


def score(report, args, work, has_transformers, peak):
    """Rows of whole models; `peak` is the GPU's rate in FLOP/us."""
    for name in args.models:
        model, documents, (mflop, wanted, share) = work / name, work / "documents.jsonl", MODELS[name]
        subprocess.run([sys.executable, HERE / "random_model.py", name, model], check=True)
        vocabulary = json.loads((model / "config.json").read_text())["vocab_size"]
        write_documents(documents, vocabulary, ragged=False)
        ours, theirs = rounds(report, args, model, documents, work, has_transformers)
        report.rate("G6", f"score {name}, equal lengths", ours, theirs, wanted)
        if ours and peak:
            floor = peak / mflop
            what = f"  of the floor at {peak / 1e6:.0f} TFLOP/s"
            report.row("G8", what, f"{ours:,.0f} tok/s", f"{floor:,.0f} tok/s", f"{ours / floor:.2f}", f">= {share}")
        write_documents(documents, vocabulary, ragged=True)
        ours, theirs = rounds(report, args, model, documents, work, has_transformers)
        report.rate("G7", f"score {name}, ragged", ours, theirs, RAGGED)
        (model / "model.safetensors").unlink()


def estimates(folder):
    """Microseconds of every bench that criterion has results of, by its full name."""
    found = {}
    for path in Path(folder).glob("**/new/benchmark.json"):
        median = json.loads((path.parent / "estimates.json").read_text())["median"]["point_estimate"]
        found[json.loads(path.read_text())["full_id"]] = median / 1000
    return found


def heads(report, ours, theirs):
    rows = SHAPES["head"]["rows"]
    for vocabulary, width in SHAPES["head"]["weights"]:
        shape = f"{rows}x{vocabulary}x{width}"
        product, chunks = HEADS[width]
        head = ours(f"head/{GPU}/bf16/{shape}/statistics")
        report.time("G1", f"head {shape} / product alone", head, theirs(f"product/{shape}"), product)
        report.time("G2", "  / product, log-softmax, gather", head, theirs(f"log-softmax/{shape}"), chunks)
        kept, logits = 8 * rows * -(-vocabulary // TILE) / 1e6, 2 * rows * vocabulary / 1e6
        what = "  memory, by its plan / bf16 logits"
        report.row("G3", what, f"{kept:.0f} MB", f"{logits:.0f} MB", f"{kept / logits:.1%}", "<= 2%")
        alone = ours(f"edit/{GPU}/bf16/{shape}/head alone")
        both = ours(f"edit/{GPU}/bf16/{shape}/TopK(64)")
        if alone and both:
            more = f"{both / alone - 1:+.1%}"
            report.row("G4", "  with draws for a tenth / alone", f"{both:.0f} us", f"{alone:.0f} us", more, "<= +5%")
        wanted = 4 if width <= 896 else None
        report.time("G5", "  with draws for a tenth / softmax, top-k of all", both, theirs(f"draws/{shape}"), wanted)
        report.time("", "  / softmax of all, top-k of a tenth", both, theirs(f"draws of a tenth/{shape}"))


def products(report, ours, theirs):
    """Our kernel, and what a model calls, which is cuBLASLt where there is one."""
    rows = SHAPES["matmul"]["rows"]
    for n, k in SHAPES["matmul"]["weights"]:
        shape = f"{rows}x{n}x{k}"
        for way in ["kernel", "model"]:
            times = ours(f"matmul/{GPU}/bf16/{way}/{shape}"), theirs(f"product/{shape}")
            report.time("", f"product {shape}, the {way}'s", *times)


def attention(report, ours, theirs):
    for size in SHAPES["attention"]["head_dims"]:
        for length in SHAPES["attention"]["lengths"]:
            wanted = ATTENTION[size] if length == ATTENTION_LENGTH else None
            times = ours(f"attention/{GPU}/bf16/{size}/{length}"), theirs(f"attention/{size}/{length}")
            report.time("G9", f"attention, heads of {size}, {length} tokens / flash", *times, wanted)


def bandwidth(report, ours, theirs):
    for width in SHAPES["bandwidth"]["widths"]:
        copies = ours(f"bandwidth/{GPU}/copy/{width}"), theirs(f"copy/{width}")
        report.time("", f"copy, rows of {width}", *copies)
        norm = ours(f"bandwidth/{GPU}/rms_norm/{width}")
        report.time("G13", "  RMSNorm / torch.compile", norm, theirs(f"rms_norm/{width}"), 1.8)
        best = min((time for time in copies if time), default=None)
        if norm and best:
            # A norm moves 6 bytes of a value, a copy 8.
            report.row("G13", "  of the better copy's bandwidth", "", "", f"{best / norm * 6 / 8:.2f}", ">= 0.85")


def kernels(report, mine, rivals):
    """Rows of single kernels: those with a rival or a goal, then all others of ours."""
    ours, theirs = Times(report, "toedit", mine), Times(report, "PyTorch", rivals)
    heads(report, ours, theirs)
    products(report, ours, theirs)
    attention(report, ours, theirs)
    bandwidth(report, ours, theirs)
    for name, time in sorted(mine.items()):
        report.time("", name, time, None)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--criterion", help="criterion's folder of results")
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    report = Report()
    has_torch = importlib.util.find_spec("torch") is not None
    lines = torch_lines(report, "kernels") if has_torch else []
    if args.criterion:
        rivals = {line["name"]: line["us"] for line in lines} if has_torch else None
        kernels(report, estimates(args.criterion), rivals)
    peak = next((line["flops"] / line["us"] for line in lines if line["name"] == "peak"), None)
    has_transformers = has_torch and importlib.util.find_spec("transformers") is not None
    with tempfile.TemporaryDirectory() as folder:
        score(report, args, Path(folder), has_transformers, peak)
    report.print()
    sys.exit(1 if report.problems else 0)


if __name__ == "__main__":
    main()
