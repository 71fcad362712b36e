#!/usr/bin/env python3
"""Tabulates what each kernel takes on each architecture, as ptxas reported it in the last build with feature `cuda`.

usage: resources.py [--write | --check]   prints the table; writes benches/RESOURCES.md; fails where that file differs or
a kernel spills registers.
"""

import re
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "benches/RESOURCES.md"
HEADING = """# What the kernels take

Registers of a thread, as nvcc 13.0's ptxas reports them; nothing spills. Shared memory is given at the launch.
Made by `scripts/resources.py --write` after a build with `--features cuda`; CI compares it with its own build.

"""
ENTRY = re.compile(r"Compiling entry function '(\w+)' for '(\w+)'")
SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
REGISTERS = re.compile(r"Used (\d+) registers")


def report() -> str:
    """What ptxas said in the newest build."""
    found = list((ROOT / "target").glob("*/build/toedit-*/out/resources.txt"))
    if not found:
        sys.exit("no build with --features cuda under target/")
    return max(found, key=lambda path: path.stat().st_mtime).read_text(encoding="utf-8")


def resources(text: str) -> tuple[dict[str, dict[str, int]], list[str]]:
    """Registers by kernel and architecture, and the kernels that spill."""
    registers, spilling = defaultdict(dict), []
    kernel = architecture = ""
    for line in text.splitlines():
        if entry := ENTRY.search(line):
            kernel, architecture = entry.groups()
        elif (spills := SPILLS.search(line)) and any(int(count) for count in spills.groups()):
            spilling.append(f"{kernel} on {architecture}: {line.strip()}")
        elif used := REGISTERS.search(line):
            registers[kernel][architecture] = int(used[1])
    return registers, spilling


def table(registers: dict[str, dict[str, int]]) -> str:
    """The page's table."""
    architectures = sorted({name for row in registers.values() for name in row})
    lines = ["| kernel | " + " | ".join(architectures) + " |", "|---" * (len(architectures) + 1) + "|"]
    for kernel, row in sorted(registers.items()):
        lines.append(f"| {kernel} | " + " | ".join(str(row.get(name, "–")) for name in architectures) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Prints, writes or checks."""
    registers, spilling = resources(report())
    if spilling:
        sys.exit("registers spill:\n" + "\n".join(spilling))
    page = HEADING + table(registers)
    mode = sys.argv[1] if len(sys.argv) > 1 else ""
    if mode == "--write":
        PAGE.write_text(page, encoding="utf-8")
    elif mode == "--check" and PAGE.read_text(encoding="utf-8") != page:
        sys.exit(f"{PAGE.name} is out of date: run scripts/resources.py --write")
    else:
        print(table(registers), end="")


if __name__ == "__main__":
    main()
