#!/usr/bin/env python3
"""Tabulates what each kernel takes on each architecture, as ptxas reported it in the last build with feature `cuda`.

usage: resources.py [--write | --check] [RESOURCES.TXT]

Prints the table; writes benches/RESOURCES.md; fails where that file differs. All of them fail where a kernel spills
registers or lacks one of the default architectures. The report is the newest that the build wrote, unless one is named.
"""

import argparse
import os
import re
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "benches/RESOURCES.md"
# What a build compiles where $TOEDIT_CUDA_ARCHS is not set.
ARCHITECTURES = ["sm_80", "sm_86", "sm_89", "sm_90a"]
HEADING = """# What the kernels take

Registers of a thread, as nvcc 13.0's ptxas reports them; nothing spills. Shared memory is given at the launch.
Made by `scripts/resources.py --write` after a build with `--features cuda`; CI compares it with its own build.

"""
ENTRY = re.compile(r"Compiling entry function '(\w+)' for '(\w+)'")
SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
REGISTERS = re.compile(r"Used (\d+) registers")


def newest_report() -> str:
    """What ptxas said in the newest build."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    found = list(target.glob("*/build/toedit-*/out/resources.txt"))
    if not found:
        sys.exit(f"no build with --features cuda under {target}")
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
    lines = ["| kernel | " + " | ".join(ARCHITECTURES) + " |", "|---" * (len(ARCHITECTURES) + 1) + "|"]
    for kernel, row in sorted(registers.items()):
        lines.append(f"| {kernel} | " + " | ".join(str(row[name]) for name in ARCHITECTURES) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Prints, writes or checks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--write", action="store_true")
    mode.add_argument("--check", action="store_true")
    parser.add_argument("report", nargs="?", type=Path, metavar="RESOURCES.TXT")
    args = parser.parse_args()
    registers, spilling = resources(args.report.read_text(encoding="utf-8") if args.report else newest_report())
    if spilling:
        sys.exit("registers spill:\n" + "\n".join(spilling))
    missing = sorted({name for row in registers.values() for name in ARCHITECTURES if name not in row})
    if missing or not registers:
        sys.exit(f"not compiled for all of {', '.join(ARCHITECTURES)}: build without $TOEDIT_CUDA_ARCHS")
    page = HEADING + table(registers)
    if args.write:
        PAGE.write_text(page, encoding="utf-8")
    elif args.check and PAGE.read_text(encoding="utf-8") != page:
        sys.exit(f"{PAGE.name} is out of date: run scripts/resources.py --write")
    elif not args.check:
        print(table(registers), end="")


if __name__ == "__main__":
    main()
