#!/usr/bin/env python3
"""Trains the same model on the same rows with toedit and with PyTorch, in turn, and prints the ratio of their rates.

    benches/peers/train_compare.py target/release/toedit [--device cuda --dtype bf16] [--shape gpt2]

PyTorch runs transformers' model in eager mode (`--compile`: torch.compile), AdamW and gradient clipping as one would
write them. The losses of all steps are compared before any rate is printed. Needs torch and transformers.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LLAMA = dict(num_attention_heads=8, num_key_value_heads=8, max_position_embeddings=1024, tie_word_embeddings=False)
SHAPES = {
    "llama-10m": dict(family="llama", rows=4, tokens=256, config=dict(
        LLAMA, hidden_size=256, intermediate_size=688, num_hidden_layers=8, vocab_size=8192)),
    "gpt2": dict(family="gpt2", rows=8, tokens=1024, config=dict(
        vocab_size=50257, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0)),
    "qwen2.5-0.5b": dict(family="qwen2", rows=8, tokens=1024, config=dict(
        hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14, num_key_value_heads=2,
        vocab_size=151936, max_position_embeddings=4096, tie_word_embeddings=True)),
}
RATE, BETAS, DECAY, CLIP = 1e-3, (0.9, 0.95), 0.1, 1.0
# The first steps warm up caches and allocators.
SKIPPED = 3


def make(folder, shape, steps):
    """The first weights and the rows of all steps."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(shape["family"], **shape["config"])
    AutoModelForCausalLM.from_config(config).save_pretrained(folder / "model")
    rows = torch.randint(0, config.vocab_size, (steps * shape["rows"], shape["tokens"] + 1))
    with open(folder / "rows.jsonl", "w", encoding="utf-8") as file:
        for row in rows.tolist():
            file.write(json.dumps({"input_ids": row}) + "\n")


def train_torch(args):
    """One line of JSON: losses, seconds of each step, peak memory."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(args.threads)
    shape, folder = SHAPES[args.shape], Path(args.folder)
    rows = [json.loads(line)["input_ids"] for line in open(folder / "rows.jsonl", encoding="utf-8")]
    rows = torch.tensor(rows).view(args.steps, shape["rows"], -1)
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32).to(args.device).train()
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=BETAS, fused=args.device == "cuda")
    run = torch.compile(model) if args.compile else model
    losses, seconds = [], []
    for batch in rows:
        start = time.perf_counter()
        batch = batch.to(args.device)
        with torch.autocast(args.device, torch.bfloat16, enabled=args.dtype == "bf16"):
            logits = run(input_ids=batch[:, :-1], use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        losses.append(loss.item())
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"losses": losses, "seconds": seconds, "peak_bytes": peak(args.device)}))


def peak(device):
    """Of the device's memory, or of the process's."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def run_torch(args, folder):
    command = [sys.executable, __file__, args.binary, "--torch", "--folder", folder, "--shape", args.shape]
    command += ["--device", args.device, "--dtype", args.dtype, "--steps", args.steps, "--threads", args.threads]
    command += ["--compile"] if args.compile else []
    output = subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout
    return json.loads(output.splitlines()[-1])


def run_ours(args, folder):
    shape, output = SHAPES[args.shape], folder / "ours"
    command = [args.binary, "train", "--quiet", "--overwrite", "--model", folder / "model"]
    command += ["--data", folder / "rows.jsonl", "--output", output, "--device", args.device, "--dtype", args.dtype]
    command += ["--steps", args.steps, "--batch-size", shape["rows"], "--sequence-length", shape["tokens"] + 1]
    command += ["--packing", "documents", "--no-shuffle", "--learning-rate", RATE, "--betas", "0.9,0.95"]
    command += ["--weight-decay", DECAY, "--clip", CLIP, "--schedule", "constant", "--warmup", 0]
    command += ["--threads", args.threads]
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen([str(part) for part in command], stderr=errors)
        # The peak of this child alone.
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            errors.seek(0)
            raise SystemExit(errors.read())
    steps = [json.loads(line) for line in open(output / "metrics.jsonl", encoding="utf-8")]
    tokens = shape["rows"] * shape["tokens"]
    seconds = [tokens / s["tokens_per_second"] for s in steps]
    return {"losses": [s["loss"] for s in steps], "seconds": seconds, "peak_bytes": usage.ru_maxrss * 1024}


def check(args, ours, theirs):
    """Random rows give losses that fall by little; rounding grows from step to step."""
    limit = 2e-3 if args.dtype == "f32" else 5e-2
    worst = max(abs(a - b) for a, b in zip(ours["losses"], theirs["losses"], strict=True))
    if not worst <= limit:
        raise SystemExit(f"losses differ by {worst}: {ours['losses']} against {theirs['losses']}")
    print(f"losses of {args.steps} steps agree within {worst:.1e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--shape", choices=SHAPES, default="llama-10m")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--torch", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.torch:
        return train_torch(args)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        make(folder, SHAPES[args.shape], args.steps)
        tokens = SHAPES[args.shape]["rows"] * SHAPES[args.shape]["tokens"]
        ratios = []
        for number in range(args.rounds):
            theirs, ours = run_torch(args, folder), run_ours(args, folder)
            if number == 0:
                check(args, ours, theirs)
            skipped = min(SKIPPED, args.steps - 1)
            a, b = (statistics.median(run["seconds"][skipped:]) for run in (ours, theirs))
            ratios.append(b / a)
            print(f"ours {1e3 * a:.1f} ms, {tokens / a:.0f} tokens/s; PyTorch {1e3 * b:.1f} ms, {tokens / b:.0f} tokens/s")
        if args.device == "cpu":
            a, b = (run["peak_bytes"] / 1e6 for run in (ours, theirs))
            print(f"peak memory: ours {a:.0f} MB, PyTorch {b:.0f} MB")
        print(f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
