#!/usr/bin/env python3
"""Writes a model folder of a real architecture and size with random bf16 weights, for measuring speed where no real
weights can be fetched. Needs nothing but Python.

usage: random_model.py {gpt2,qwen2-0.5b,llama3-1b} FOLDER"""

import array
import json
import math
import random
import struct
import sys
from pathlib import Path

# A prime number of different weights, repeated: no two rows of a matrix are the same.
PERIOD = 1_000_003
DEVIATION = 0.02

GPT2 = dict(
    model_type="gpt2", architectures=["GPT2LMHeadModel"], vocab_size=50257, n_positions=1024, n_embd=768, n_layer=12,
    n_head=12, activation_function="gelu_new", layer_norm_epsilon=1e-5, tie_word_embeddings=True,
    bos_token_id=50256, eos_token_id=50256,
)
QWEN2 = dict(
    model_type="qwen2", architectures=["Qwen2ForCausalLM"], vocab_size=151936, hidden_size=896,
    intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14, num_key_value_heads=2,
    max_position_embeddings=32768, rope_theta=1000000.0, rms_norm_eps=1e-6, hidden_act="silu",
    tie_word_embeddings=True, use_sliding_window=False, bos_token_id=151643, eos_token_id=151643,
)
LLAMA3 = dict(
    model_type="llama", architectures=["LlamaForCausalLM"], vocab_size=128256, hidden_size=2048,
    intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32, num_key_value_heads=8, head_dim=64,
    max_position_embeddings=131072, rope_theta=500000.0, rms_norm_eps=1e-5, hidden_act="silu",
    tie_word_embeddings=True, attention_bias=False, mlp_bias=False, bos_token_id=128000, eos_token_id=128001,
)
CONFIGS = {"gpt2": GPT2, "qwen2-0.5b": QWEN2, "llama3-1b": LLAMA3}


def gpt2_tensors(config):
    """(name, shape) of every tensor; GPT-2 stores its products as [inputs, outputs]."""
    c = config["n_embd"]
    yield "wte.weight", (config["vocab_size"], c)
    yield "wpe.weight", (config["n_positions"], c)
    for layer in range(config["n_layer"]):
        for norm in ("ln_1", "ln_2"):
            yield f"h.{layer}.{norm}.weight", (c,)
            yield f"h.{layer}.{norm}.bias", (c,)
        for name, k, n in (
            ("attn.c_attn", c, 3 * c),
            ("attn.c_proj", c, c),
            ("mlp.c_fc", c, 4 * c),
            ("mlp.c_proj", 4 * c, c),
        ):
            yield f"h.{layer}.{name}.weight", (k, n)
            yield f"h.{layer}.{name}.bias", (n,)
    yield "ln_f.weight", (c,)
    yield "ln_f.bias", (c,)


def llama_tensors(config):
    """(name, shape) of every tensor of Llama and Qwen2."""
    c, inner = config["hidden_size"], config["intermediate_size"]
    size = config.get("head_dim", c // config["num_attention_heads"])
    q, kv = config["num_attention_heads"] * size, config["num_key_value_heads"] * size
    yield "model.embed_tokens.weight", (config["vocab_size"], c)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        for name, n, k in (
            ("self_attn.q_proj", q, c),
            ("self_attn.k_proj", kv, c),
            ("self_attn.v_proj", kv, c),
            ("self_attn.o_proj", c, q),
            ("mlp.gate_proj", inner, c),
            ("mlp.up_proj", inner, c),
            ("mlp.down_proj", c, inner),
        ):
            yield f"{prefix}.{name}.weight", (n, k)
            if config["model_type"] == "qwen2" and name[-6:] in ("q_proj", "k_proj", "v_proj"):
                yield f"{prefix}.{name}.bias", (n,)
        yield f"{prefix}.input_layernorm.weight", (c,)
        yield f"{prefix}.post_attention_layernorm.weight", (c,)
    yield "model.norm.weight", (c,)


def bf16(value):
    return struct.unpack("<I", struct.pack("<f", value))[0] >> 16


def is_gain(name):
    return name.endswith("weight") and ("norm" in name or "ln_" in name)


def write_values(file, name, count, weights, start):
    """Writes ones for the gains of norms, else `count` of the repeated weights from `start` on."""
    if is_gain(name):
        file.write(array.array("H", [bf16(1.0)]) * count)
        return start
    while count > 0:
        piece = weights[start : start + count]
        file.write(piece)
        count -= len(piece)
        start = (start + len(piece)) % PERIOD
    return start


def write_tensors(path, tensors):
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in tensors:
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    generator = random.Random(1)
    weights = array.array("H", (bf16(generator.gauss(0, DEVIATION)) for _ in range(PERIOD)))
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        start = 0
        for name, shape in tensors:
            start = write_values(file, name, math.prod(shape), weights, start)


def main():
    if len(sys.argv) != 3 or sys.argv[1] not in CONFIGS:
        raise SystemExit(__doc__)
    config, folder = CONFIGS[sys.argv[1]], Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    tensors = gpt2_tensors if config["model_type"] == "gpt2" else llama_tensors
    write_tensors(folder / "model.safetensors", list(tensors(config)))
    config = config | {"torch_dtype": "bfloat16", "dtype": "bfloat16"}
    (folder / "config.json").write_text(json.dumps(config, indent=1))


if __name__ == "__main__":
    main()
