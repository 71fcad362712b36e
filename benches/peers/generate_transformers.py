#!/usr/bin/env python3
"""Goes on from prompts with transformers' `generate`, greedily and past the end of text; a batch at a time.

Prints one JSON object with the new tokens per second and the new ids. Input: JSON lines with `input_ids` of equal length.
"""

import argparse
import json
import time

import torch
import transformers

from agreement import read_lines

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


@torch.inference_mode()
def generate(model, prompts, new_tokens):
    ids = torch.tensor(prompts)
    out = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, min_new_tokens=new_tokens,
        max_new_tokens=new_tokens, eos_token_id=None, pad_token_id=0,
    )
    return out[:, ids.shape[1] :].tolist()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--input", required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--new-tokens", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--dtype", choices=DTYPES, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = transformers.AutoModelForCausalLM.from_pretrained(args.model, dtype=DTYPES[args.dtype])
    # The model's own sampling settings are not asked for.
    model.generation_config = transformers.GenerationConfig()
    prompts = [record["input_ids"] for record in read_lines(args.input)]
    generate(model, prompts[: args.batch_size], 4)
    outputs, start = [], time.perf_counter()
    for first in range(0, len(prompts), args.batch_size):
        outputs += generate(model, prompts[first : first + args.batch_size], args.new_tokens)
    seconds = time.perf_counter() - start
    rate = len(prompts) * args.new_tokens / seconds
    print(json.dumps({"tokens_per_second": rate, "output_ids": outputs}))


if __name__ == "__main__":
    main()
