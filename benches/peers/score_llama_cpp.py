#!/usr/bin/env python3
"""Scores documents with llama.cpp on the CPU, as its Python package does it: logits of all positions of each document.

Prints one JSON object per file of weights. Only the evaluation is timed: the log-softmax that follows is ours, and free
for llama.cpp. Input: JSON lines with `input_ids`.
"""

import argparse
import json
import time
from pathlib import Path

import llama_cpp
import numpy as np

from agreement import differences, read_lines


def logprobs(logits, targets):
    """Of each row's target: log-softmax without a copy of all logits in a wider type."""
    return [float(row[id] - row.max() - np.log(np.exp(row - row.max()).sum())) for row, id in zip(logits, targets)]


def score(model, ids):
    """Log-probabilities, a leading null for the first token, and the seconds that the model took."""
    model.reset()
    start = time.perf_counter()
    model.eval(ids)
    seconds = time.perf_counter() - start
    return [None, *logprobs(model.scores[: len(ids) - 1], ids[1:])], seconds


def measure(path, documents, threads):
    """All documents' log-probabilities and the seconds for them, after one document to warm up."""
    model = llama_cpp.Llama(
        model_path=str(path), n_ctx=max(map(len, documents)), n_threads=threads, n_threads_batch=threads, logits_all=True,
        verbose=False,
    )
    score(model, documents[0])
    results, seconds = zip(*(score(model, ids) for ids in documents))
    model.close()
    return results, sum(seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path, nargs="+", help="GGUF files, named by their format: bf16.gguf")
    parser.add_argument("--input", required=True, help="JSON lines with `input_ids`")
    parser.add_argument("--against", required=True, help="output of `toedit score --per-token` on the same input")
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    documents = [record["input_ids"] for record in read_lines(args.input)]
    ours = [record["logprobs"] for record in read_lines(args.against)]
    tokens = sum(map(len, documents))
    for path in args.weights:
        theirs, seconds = measure(path, documents, args.threads)
        figures = {"tokens": tokens, "seconds": seconds, "tokens_per_second": tokens / seconds}
        setting = {"dtype": path.stem, "threads": args.threads, "llama_cpp": llama_cpp.__version__}
        print(json.dumps({**setting, **figures, **differences(ours, theirs)}), flush=True)


if __name__ == "__main__":
    main()
