"""How far a peer's log-probabilities lie from ours."""

import json


def read_lines(path):
    """The records of a file of JSON lines."""
    with open(path, encoding="utf-8", newline="\n") as file:
        return [json.loads(line) for line in file if line.strip()]


def differences(ours, theirs):
    """Mean and largest absolute difference over the positions that both scored."""
    if len(ours) != len(theirs):
        raise SystemExit(f"--against holds {len(ours)} documents, the input {len(theirs)}")
    found = []
    for index, (left, right) in enumerate(zip(ours, theirs)):
        # Theirs may end earlier (--max-length), but never later.
        if len(left) < len(right):
            raise SystemExit(f"document {index}: {len(left)} log-probabilities in --against, {len(right)} here")
        found += [abs(a - b) for a, b in zip(left, right) if a is not None and b is not None]
    return {
        "compared": len(found),
        "mean_abs_difference": sum(found) / max(len(found), 1),
        "max_abs_difference": max(found, default=0.0),
    }
