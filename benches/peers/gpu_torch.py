#!/usr/bin/env python3
"""The rival's side on a GPU: PyTorch and transformers, as a careful user would write it. One JSON object per line.

usage: gpu_torch.py kernels                                  times in microseconds of single operations
       gpu_torch.py score MODEL INPUT.jsonl           tokens per second of scoring `input_ids` in bf16 with sdpa
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch

DEVICE = "cuda"
# Rows at a time whose logits are held in fp32.
CHUNK = 2048
# What our own benches measure.
SHAPES = json.loads((Path(__file__).parent / "shapes.json").read_text())
REPEATS = 20
TOP_K = 64


def microseconds(work):
    """The median of single runs, each between two events, after a warm-up of as many."""
    for _ in range(REPEATS):
        work()
    times = []
    for _ in range(REPEATS):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        work()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) * 1000)
    return statistics.median(times)


def tell(name, work, **more):
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    time_taken = microseconds(work)
    extra = torch.cuda.max_memory_allocated() - before
    print(json.dumps({"name": name, "us": round(time_taken, 1), "extra_bytes": extra} | more), flush=True)


def log_probabilities(x, weight, targets):
    """log p of the targets: product, fp32 log-sum-exp and gather, CHUNK rows at a time."""
    parts = []
    for rows, ids in zip(x.split(CHUNK), targets.split(CHUNK)):
        logits = (rows @ weight.T).float()
        parts.append(logits.gather(1, ids[:, None])[:, 0] - logits.logsumexp(1))
    return torch.cat(parts)


def resample(x, weight, step):
    """The softmax of each row, and a draw from the best TOP_K of every step-th."""
    for rows in x.split(CHUNK):
        values, ids = (rows @ weight.T).float().softmax(1)[::step].topk(TOP_K)
        ids.gather(1, torch.multinomial(values, 1))


def heads():
    rows = SHAPES["head"]["rows"]
    for vocabulary, d in SHAPES["head"]["weights"]:
        x = torch.randn(rows, d, device=DEVICE, dtype=torch.bfloat16)
        weight = torch.randn(vocabulary, d, device=DEVICE, dtype=torch.bfloat16) * 0.05
        targets = torch.randint(vocabulary, (rows,), device=DEVICE)
        shape = f"{rows}x{vocabulary}x{d}"
        out = torch.empty(rows, vocabulary, device=DEVICE, dtype=torch.bfloat16)
        flops = 2 * rows * d * vocabulary
        tell(f"product/{shape}", lambda: torch.mm(x, weight.T, out=out), flops=flops)
        del out
        tell(f"log-softmax/{shape}", lambda: log_probabilities(x, weight, targets), flops=flops)
        for what, step in [("draws", 1), ("draws of a tenth", 10)]:
            tell(f"{what}/{shape}", lambda: resample(x, weight, step), flops=flops)


def peak():
    """The rate of a large product: what the floors of scoring are computed from."""
    x, y = torch.randn(2, 8192, 8192, device=DEVICE, dtype=torch.bfloat16)
    tell("peak", lambda: x @ y, flops=2 * 8192**3)


def products():
    """The products of a model's layers."""
    rows = SHAPES["matmul"]["rows"]
    for n, k in SHAPES["matmul"]["weights"]:
        x = torch.randn(rows, k, device=DEVICE, dtype=torch.bfloat16)
        weight = torch.randn(n, k, device=DEVICE, dtype=torch.bfloat16)
        out = torch.empty(rows, n, device=DEVICE, dtype=torch.bfloat16)
        tell(f"product/{rows}x{n}x{k}", lambda: torch.mm(x, weight.T, out=out), flops=2 * rows * n * k)


def attention():
    from torch.nn.attention import SDPBackend, sdpa_kernel

    sdpa, shapes = torch.nn.functional.scaled_dot_product_attention, SHAPES["attention"]
    for size in shapes["head_dims"]:
        for length in shapes["lengths"]:
            batch, heads_count = shapes["tokens"] // length, shapes["width"] // size
            q = torch.randn(batch, heads_count, length, size, device=DEVICE, dtype=torch.bfloat16)
            k, v = torch.randn(2, batch, shapes["kv_heads"], length, size, device=DEVICE, dtype=torch.bfloat16)
            with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
                tell(f"attention/{size}/{length}", lambda: sdpa(q, k, v, is_causal=True, enable_gqa=True))


def memory():
    for width in SHAPES["bandwidth"]["widths"]:
        x = torch.randn(SHAPES["bandwidth"]["rows"], width, device=DEVICE)
        y, weight = torch.empty_like(x), torch.ones(width, device=DEVICE)
        tell(f"copy/{width}", lambda: y.copy_(x))
        # As a model with a residual stream in fp32 computes it.
        rms_norm = torch.nn.functional.rms_norm
        norm = torch.compile(lambda x: rms_norm(x, (width,), weight, 1e-5).bfloat16(), dynamic=False)
        tell(f"rms_norm/{width}", lambda: norm(x))


def read(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line)["input_ids"] for line in file]


def batches(documents, tokens):
    """Documents sorted by length, padded to the longest of a batch of at most `tokens` tokens with padding."""
    order = sorted(range(len(documents)), key=lambda i: len(documents[i]))
    batch = []
    for index in order:
        if batch and (len(batch) + 1) * len(documents[index]) > tokens:
            yield batch
            batch = []
        batch.append(index)
    yield batch


@torch.inference_mode()
def score_batch(model, documents):
    """The total of -log p of each document's tokens but the first."""
    longest = max(map(len, documents))
    ids = torch.zeros(len(documents), longest, dtype=torch.long)
    mask = torch.zeros(len(documents), longest, dtype=torch.long)
    for row, document in enumerate(documents):
        ids[row, : len(document)] = torch.tensor(document)
        mask[row, : len(document)] = 1
    ids, mask = ids.to(DEVICE), mask.to(DEVICE)
    # Without padding no mask is needed, and sdpa takes its flash kernel.
    padded = bool((mask == 0).any())
    hidden = model.base_model(input_ids=ids, attention_mask=mask if padded else None, use_cache=False)[0]
    kept = mask[:, 1:].reshape(-1).bool()
    states = hidden[:, :-1].reshape(-1, hidden.shape[-1])[kept]
    values = log_probabilities(states, model.get_output_embeddings().weight, ids[:, 1:].reshape(-1)[kept])
    return -values.double().cpu()


def score(args):
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(
        args.model, dtype=torch.bfloat16, attn_implementation="sdpa"
    )
    model = model.to(DEVICE).eval()
    documents = read(args.input)
    for tokens in [8192, 32768, 131072]:
        try:
            for timed in [False, True]:
                torch.cuda.synchronize()
                start = time.perf_counter()
                total = 0.0
                for batch in batches(documents, tokens):
                    total += score_batch(model, [documents[i] for i in batch]).sum().item()
                seconds = time.perf_counter() - start
        except torch.OutOfMemoryError:
            break
        count = sum(map(len, documents))
        figures = {"batch_tokens": tokens, "tokens_per_second": round(count / seconds), "nll": total}
        print(json.dumps({"name": "score"} | figures), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("kernels")
    scoring = commands.add_parser("score")
    scoring.add_argument("model")
    scoring.add_argument("input")
    args = parser.parse_args()
    torch.manual_seed(1)
    if args.command == "score":
        score(args)
    else:
        peak()
        heads()
        products()
        attention()
        memory()


if __name__ == "__main__":
    main()
