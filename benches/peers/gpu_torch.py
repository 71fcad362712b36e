#!/usr/bin/env python3
"""The rival's side on a GPU: PyTorch and transformers, as a careful user would write it. One JSON object per line.

usage: gpu_torch.py kernels                                  times in microseconds of single operations
       gpu_torch.py score MODEL INPUT.jsonl           tokens per second of scoring `input_ids` in bf16 with sdpa
"""

import argparse
import json
import statistics
import time

import torch

DEVICE = "cuda"
# Rows at a time whose logits are held in fp32.
CHUNK = 2048
ROWS = 8192
# Vocabulary and hidden size of GPT-2, Qwen2.5-0.5B, SmolLM2-1.7B, Llama-3.2-1B and Llama-3-8B.
HEADS = [(50257, 768), (151936, 896), (49152, 2048), (128256, 2048), (128256, 4096)]
# Outputs and inputs of GPT-2's and Llama-3.2-1B's layers.
PRODUCTS = [(2304, 768), (768, 3072), (8192, 2048), (2048, 8192)]
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


def resample(x, weight):
    """A draw from the best TOP_K of each row."""
    for rows in x.split(CHUNK):
        logits = (rows @ weight.T).float()
        values, ids = logits.softmax(1).topk(TOP_K)
        ids.gather(1, torch.multinomial(values, 1))


def heads():
    for vocabulary, d in HEADS:
        x = torch.randn(ROWS, d, device=DEVICE, dtype=torch.bfloat16)
        weight = torch.randn(vocabulary, d, device=DEVICE, dtype=torch.bfloat16) * 0.05
        targets = torch.randint(vocabulary, (ROWS,), device=DEVICE)
        shape = f"{ROWS}x{vocabulary}x{d}"
        out = torch.empty(ROWS, vocabulary, device=DEVICE, dtype=torch.bfloat16)
        flops = 2 * ROWS * d * vocabulary
        tell(f"product {shape}", lambda: torch.mm(x, weight.T, out=out), flops=flops)
        del out
        tell(f"log-softmax {shape}", lambda: log_probabilities(x, weight, targets), flops=flops)
        tell(f"topk {shape}", lambda: resample(x, weight), flops=flops)


def products():
    for n, k in PRODUCTS:
        x = torch.randn(ROWS, k, device=DEVICE, dtype=torch.bfloat16)
        weight = torch.randn(n, k, device=DEVICE, dtype=torch.bfloat16)
        out = torch.empty(ROWS, n, device=DEVICE, dtype=torch.bfloat16)
        tell(f"product {ROWS}x{n}x{k}", lambda: torch.mm(x, weight.T, out=out), flops=2 * ROWS * n * k)


def attention():
    """Grouped queries, 8 heads of keys and values, which are repeated before the clock starts."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    tokens, keys = 16384, 8
    for size in [64, 128]:
        count = 2048 // size
        for length in [512, 2048, 8192]:
            shape = (tokens // length, keys, length, size)
            q = torch.randn(shape[0], count, length, size, device=DEVICE, dtype=torch.bfloat16)
            k, v = (torch.randn(shape, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
            k, v = (x.repeat_interleave(count // keys, 1) for x in (k, v))
            flops = 2 * tokens * (length + 1) * count * size
            with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
                sdpa = torch.nn.functional.scaled_dot_product_attention
                tell(f"attention {size}/{length}", lambda: sdpa(q, k, v, is_causal=True), flops=flops)


def memory():
    for width in [768, 2048, 4096]:
        x = torch.randn(2 * ROWS, width, device=DEVICE)
        y, weight = torch.empty_like(x), torch.ones(width, device=DEVICE)
        norm = torch.compile(lambda x, weight: torch.nn.functional.rms_norm(x, x.shape[1:], weight, 1e-5).bfloat16())
        tell(f"copy {width}", lambda: y.copy_(x), bytes=2 * x.nbytes)
        tell(f"rms_norm {width}", lambda: norm(x, weight), bytes=3 * x.nbytes // 2)


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
        heads()
        products()
        attention()
        memory()


if __name__ == "__main__":
    main()
