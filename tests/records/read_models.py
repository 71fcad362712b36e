#!/usr/bin/env python3
"""Loads model folders as transformers does and compares them with its own.

usage: read_models.py saved FOLDER GOLDEN    each folder below FOLDER holds the weights of its namesake below GOLDEN, and
                                             predicts what that one's expect.safetensors says
       read_models.py initial FOLDER         each folder below FOLDER is distributed as a new model of its config.json
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM


def load(folder: Path) -> torch.nn.Module:
    """The model in its own type; nothing missing, left over or of another shape."""
    model, info = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", output_loading_info=True)
    problems = {name: found for name, found in info.items() if found}
    assert not problems, f"{folder}: {problems}"
    return model.eval()


def saved(folder: Path, golden: Path) -> None:
    """Equal weights, rounded where the type is smaller; the logits of the reference."""
    for path in sorted(folder.iterdir()):
        model, reference = load(path), load(golden / path.name)
        weights, expected = model.state_dict(), reference.state_dict()
        assert weights.keys() == expected.keys(), path
        for name, weight in weights.items():
            assert torch.equal(weight, expected[name].to(model.dtype)), f"{path}: {name}"
        case = load_file(golden / path.name / "expect.safetensors")
        with torch.no_grad():
            logits = model(input_ids=case["input_ids"].long(), use_cache=False).logits.float()
        limit = 2e-4 if model.dtype == torch.float32 else 0.2
        error = (logits - case["logits"]).abs().max().item()
        assert error <= limit, f"{path}: logits off by {error}"
        print(path.name, model.dtype, f"logits within {error:.1e}")


def initial(folder: Path) -> None:
    """Deviations, means and rows of zeros."""
    torch.manual_seed(0)
    for path in sorted(folder.iterdir()):
        model, config = load(path), AutoConfig.from_pretrained(path)
        expected = dict(AutoModelForCausalLM.from_config(config).named_parameters())
        ours = dict(model.named_parameters())
        assert ours.keys() == expected.keys(), path
        for name, weight in ours.items():
            other = expected[name]
            assert abs(weight.std() - other.std()) <= 0.08 * other.std(), f"{path}: {name}: {weight.std()} {other.std()}"
            assert abs(weight.mean() - other.mean()) <= 0.12 * other.std(), f"{path}: {name}: {weight.mean()}"
            zeros = [(tensor == 0).all(-1).nonzero().tolist() for tensor in (weight, other)]
            assert zeros[0] == zeros[1], f"{path}: {name}: rows of zeros {zeros}"
        print(path.name, len(ours), "tensors alike")


mode, *folders = sys.argv[1:]
{"saved": saved, "initial": initial}[mode](*map(Path, folders))
