#!/usr/bin/env python3
"""Log-likelihoods of evaluation sets by transformers, for the tests of `toedit eval choices` and `toedit eval lambada`.

Takes the first 50 items of each set and writes, as JSON, {set: {id: [log-likelihood of each choice, or of the target]}}:
numbers only, none of the sets' text. Tokens are those of encode(context + choice) behind the first len(encode(context));
sequences are cut from the left to one token more than the model's positions. Needs torch and transformers.
usage: eval_golden.py MODEL SETS OUTPUT, as in
    eval_golden.py assets/tiny "$TOEDIT_SHARED/eval" tests/data/evaluation.json
"""

import gzip
import json
import sys
from itertools import islice
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

SETS = ["arc-challenge", "piqa", "pubmedqa", "lambada"]
ITEMS = 50


def main(folder: str, sets: Path, output: Path) -> None:
    """Scores every item of every set, one sequence at a time."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
    positions = min(2048, model.config.max_position_embeddings)

    def encode(text: str) -> list[int]:
        return tokenizer.encode(text).ids

    @torch.inference_mode()
    def log_likelihood(context: str, continuation: str) -> float:
        ids = encode(context + continuation)
        own = len(ids) - len(encode(context))
        ids = ids[-(positions + 1) :]
        rows = model(torch.tensor([ids[:-1]])).logits[0, -own:].double().log_softmax(-1)
        return rows.gather(1, torch.tensor(ids[-own:])[:, None]).sum().item()

    expected = {}
    for name in SETS:
        with gzip.open(sets / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            items = [json.loads(line) for line in islice(lines, ITEMS)]
        expected[name] = {
            item["id"]: [
                round(log_likelihood(item["context"], choice), 6) for choice in item.get("choices") or [item["target"]]
            ]
            for item in items
        }
    lines = [
        f'"{name}": {{\n' + ",\n".join(f"{json.dumps(key)}: {values}" for key, values in items.items()) + "\n}"
        for name, items in expected.items()
    ]
    output.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
