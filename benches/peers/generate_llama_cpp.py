#!/usr/bin/env python3
"""Goes on from prompts with llama.cpp on the CPU, greedily and past the end of text: as many sequences in a batch as asked for.

Prints one JSON object with the new tokens per second and the new ids. Input: JSON lines with `input_ids`.
"""

import argparse
import json
import time

import llama_cpp
import numpy as np

from agreement import read_lines


class Batch:
    """Rows of (token, position, sequence, whether its logits are wanted)."""

    def __init__(self, capacity):
        self.inner = llama_cpp.llama_batch_init(capacity, 0, 1)

    def decode(self, context, rows):
        batch = self.inner
        batch.n_tokens = len(rows)
        for i, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[i], batch.pos[i], batch.logits[i] = token, position, wanted
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
        if llama_cpp.llama_decode(context, batch) != 0:
            raise SystemExit("llama_decode failed")

    def best(self, context, row, vocabulary):
        logits = llama_cpp.llama_get_logits_ith(context, row)
        return int(np.ctypeslib.as_array(logits, shape=(vocabulary,)).argmax())


def generate(context, batch, prompts, new_tokens, vocabulary):
    """The new ids of each prompt; all prompts go on side by side."""
    llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
    rows, last = [], []
    for sequence, ids in enumerate(prompts):
        rows += [(id, position, sequence, position + 1 == len(ids)) for position, id in enumerate(ids)]
        last.append(len(rows) - 1)
    batch.decode(context, rows)
    outputs = [[batch.best(context, row, vocabulary)] for row in last]
    for step in range(new_tokens - 1):
        rows = [(out[-1], len(ids) + step, sequence, True) for sequence, (ids, out) in enumerate(zip(prompts, outputs))]
        batch.decode(context, rows)
        for row, out in enumerate(outputs):
            out.append(batch.best(context, row, vocabulary))
    return outputs


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", help="a GGUF file")
    parser.add_argument("--input", required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--new-tokens", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    prompts = [record["input_ids"] for record in read_lines(args.input)]
    longest = max(map(len, prompts)) + args.new_tokens
    model = llama_cpp.Llama(
        model_path=args.weights, n_ctx=args.batch_size * longest, n_batch=args.batch_size * longest, n_ubatch=512,
        n_threads=args.threads, n_threads_batch=args.threads, verbose=False, logits_all=False,
    )
    parameters = llama_cpp.llama_context_default_params()
    parameters.n_ctx = parameters.n_batch = args.batch_size * longest
    parameters.n_seq_max = args.batch_size
    parameters.n_threads = parameters.n_threads_batch = args.threads
    context = llama_cpp.llama_init_from_model(model.model, parameters)
    batch, vocabulary = Batch(args.batch_size * longest), model.n_vocab()
    generate(context, batch, prompts[: args.batch_size], 4, vocabulary)
    outputs, start = [], time.perf_counter()
    for first in range(0, len(prompts), args.batch_size):
        outputs += generate(context, batch, prompts[first : first + args.batch_size], args.new_tokens, vocabulary)
    seconds = time.perf_counter() - start
    rate = len(prompts) * args.new_tokens / seconds
    print(json.dumps({"tokens_per_second": rate, "output_ids": outputs}))


if __name__ == "__main__":
    main()
