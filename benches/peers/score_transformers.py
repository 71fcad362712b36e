#!/usr/bin/env python3
"""Scores documents with transformers, as a user would write it: one forward pass, log_softmax, gather.

Prints one JSON object per setting (dtype x batch size) with its tokens per second; with --against, also how far its
log-probabilities are from those of `toedit score --per-token` on the same input. Input: JSON lines with `input_ids` or `text`.
"""

import argparse
import json
import os
import time

import torch
import transformers

from agreement import differences, read_lines

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def read_documents(path, model, max_length):
    """Each document as (ids, context): `context` leading ids were put there by the tokenizer and are not counted."""
    records = read_lines(path)
    if any("input_ids" not in record for record in records):
        tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=os.path.join(model, "tokenizer.json"))
    documents = []
    for record in records:
        if "input_ids" in record:
            ids, context = record["input_ids"], 0
        else:
            ids = tokenizer.encode(record["text"])
            context = len(ids) - len(tokenizer.encode(record["text"], add_special_tokens=False))
        documents.append((ids[:max_length], context))
    return documents


@torch.inference_mode()
def score_batch(model, batch):
    """Log-probabilities of each document's tokens from its second id on."""
    width = max(len(ids) for ids, _ in batch)
    input_ids = torch.zeros(len(batch), width, dtype=torch.long)
    mask = torch.zeros(len(batch), width, dtype=torch.long)
    for row, (ids, _) in enumerate(batch):
        input_ids[row, : len(ids)] = torch.tensor(ids)
        mask[row, : len(ids)] = 1
    # Without padding no mask: sdpa then takes its causal fast path.
    logits = model(input_ids, attention_mask=None if mask.all() else mask, use_cache=False).logits
    logprobs = torch.log_softmax(logits[:, :-1].float(), dim=-1)
    targets = logprobs.gather(-1, input_ids[:, 1:, None]).squeeze(-1)
    return [targets[row, : len(ids) - 1].tolist() for row, (ids, _) in enumerate(batch)]


def score(model, documents, batch_size):
    """All documents' log-probabilities in input order, a leading null for a first token without context."""
    results = []
    for start in range(0, len(documents), batch_size):
        batch = documents[start : start + batch_size]
        for (_, context), logprobs in zip(batch, score_batch(model, batch)):
            results.append(logprobs[context - 1 :] if context else [None, *logprobs])
    return results


def measure(model, documents, batch_size):
    """Tokens per second of one run over all documents, after one batch to warm up."""
    score_batch(model, documents[:batch_size])
    start = time.perf_counter()
    results = score(model, documents, batch_size)
    seconds = time.perf_counter() - start
    tokens = sum(len(logprobs) for logprobs in results)
    return results, {"tokens": tokens, "seconds": seconds, "tokens_per_second": tokens / seconds}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="folder of the model")
    parser.add_argument("input", help="JSON lines with `input_ids` or `text`")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=["f32", "bf16"])
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--max-length", type=int, default=2048, help="tokens of a document that are scored")
    parser.add_argument("--against", metavar="FILE", help="output of `toedit score --per-token` on the same input")
    return parser.parse_args()


def main():
    args = parse_arguments()
    # A forward pass on the CPU draws nothing; `use_deterministic_algorithms` would only slow it by filling fresh memory.
    torch.manual_seed(0)
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(args.threads)
    documents = read_documents(args.input, args.model, args.max_length)
    ours = None
    if args.against:
        ours = [record["logprobs"] for record in read_lines(args.against)]

    for dtype in args.dtypes:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            args.model, dtype=DTYPES[dtype], attn_implementation="sdpa"
        ).eval()
        for batch_size in args.batch_sizes:
            theirs, figures = measure(model, documents, batch_size)
            setting = {"dtype": dtype, "batch_size": batch_size, "threads": args.threads}
            versions = {"torch": torch.__version__, "transformers": transformers.__version__}
            compared = differences(ours, theirs) if ours else {}
            print(json.dumps({**setting, **figures, **compared, **versions}), flush=True)


if __name__ == "__main__":
    main()
