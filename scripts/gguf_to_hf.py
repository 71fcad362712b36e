#!/usr/bin/env python3
"""Converts a GGUF file of llama.cpp (architecture `llama`) to a Hugging Face folder.

Writes config.json, model.safetensors, tokenizer.json and chat_template.jinja, and prints how many tensors, parameters and bytes
there are. Quantised tensors are dequantised. Needs the Python packages gguf and numpy.
"""

import argparse
import json
import struct
from pathlib import Path

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize

# GGUF's name of a layer's tensor -> the hub's.
LAYER_TENSORS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}

# In `tokenizer.ggml.token_type`.
CONTROL_TOKEN = 3


def read_fields(reader):
    """The file's metadata as plain Python values."""
    return {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF")}


def unpermute(weight, heads):
    """Undoes llama.cpp's row order for interleaved RoPE: back to the hub's, which rotates the halves of a head."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def read_tensors(reader, fields):
    """All weights in float32, under the hub's names."""
    heads = {"attn_q": fields["llama.attention.head_count"], "attn_k": fields["llama.attention.head_count_kv"]}
    tensors = {}
    for tensor in reader.tensors:
        weight = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if tensor.name == "token_embd.weight":
            name = "model.embed_tokens.weight"
        elif tensor.name == "output_norm.weight":
            name = "model.norm.weight"
        else:
            _, layer, part, _ = tensor.name.split(".")
            if part in heads:
                weight = unpermute(weight, heads[part])
            name = f"model.layers.{layer}.{LAYER_TENSORS[part]}.weight"
        tensors[name] = np.ascontiguousarray(weight)
    return tensors


def to_bytes(weight, dtype):
    """A tensor's bytes, little endian; bfloat16 rounds to nearest, ties to even."""
    if dtype == "f32":
        return weight.tobytes()
    bits = weight.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16).tobytes()


def write_safetensors(path, tensors, dtype, source):
    """Writes the tensors in name order and returns the number of their bytes."""
    header, blobs, end = {}, [], 0
    for name in sorted(tensors):
        blob = to_bytes(tensors[name], dtype)
        start, end = end, end + len(blob)
        header[name] = {
            "dtype": {"bf16": "BF16", "f32": "F32"}[dtype],
            "shape": list(tensors[name].shape),
            "data_offsets": [start, end],
        }
        blobs.append(blob)
    header["__metadata__"] = {"format": "pt", "source": source}
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(encoded)))
        file.write(encoded)
        file.writelines(blobs)
    return end


def make_config(fields, dtype):
    """config.json of a `LlamaForCausalLM` with tied embeddings."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": fields["llama.embedding_length"],
        "intermediate_size": fields["llama.feed_forward_length"],
        "num_hidden_layers": fields["llama.block_count"],
        "num_attention_heads": fields["llama.attention.head_count"],
        "num_key_value_heads": fields["llama.attention.head_count_kv"],
        "head_dim": fields["llama.rope.dimension_count"],
        "vocab_size": fields["llama.vocab_size"],
        "max_position_embeddings": fields["llama.context_length"],
        "rope_theta": fields["llama.rope.freq_base"],
        "rms_norm_eps": 1e-5,  # GGUF holds it as a float32, which prints as 9.99999974e-06
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
        "torch_dtype": {"bf16": "bfloat16", "f32": "float32"}[dtype],
    }


def make_tokenizer(fields):
    """tokenizer.json of a byte-level BPE that splits digits, as SmolLM2's does."""
    tokens = fields["tokenizer.ggml.tokens"]
    types = fields["tokenizer.ggml.token_type"]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    control = [(i, token) for i, token in enumerate(tokens) if types[i] == CONTROL_TOKEN]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": token, **flags} for i, token in control],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Digits", "individual_digits": True},
                byte_level,
            ],
        },
        "post_processor": None,
        "decoder": {**byte_level, "add_prefix_space": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": fields["tokenizer.ggml.merges"],
        },
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("gguf", type=Path)
    parser.add_argument("out", type=Path, help="the folder to write")
    parser.add_argument("--dtype", choices=["bf16", "f32"], default="bf16")
    parser.add_argument("--source", help="where the weights come from, for the file's metadata (default: the file's name)")
    args = parser.parse_args()

    reader = GGUFReader(args.gguf)
    fields = read_fields(reader)
    tensors = read_tensors(reader, fields)
    args.out.mkdir(parents=True, exist_ok=True)
    size = write_safetensors(args.out / "model.safetensors", tensors, args.dtype, args.source or args.gguf.name)
    (args.out / "config.json").write_text(json.dumps(make_config(fields, args.dtype), indent=1))
    (args.out / "tokenizer.json").write_text(json.dumps(make_tokenizer(fields), ensure_ascii=False), encoding="utf-8")
    (args.out / "chat_template.jinja").write_text(fields["tokenizer.chat_template"], encoding="utf-8")
    print("tensors", len(tensors), "params", sum(tensor.size for tensor in tensors.values()), "bytes", size)


if __name__ == "__main__":
    main()
