#!/usr/bin/env python3
"""Runs every `sh` block of README.md, in order, so that the page stays true.

The first block edits the sample: its last word must be `N changed`, N at least 20. usage: readme.py [README.md]
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEAST_CHANGED = 20


def blocks(page: Path) -> list[str]:
    """The fenced `sh` blocks of a page."""
    return re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def run(block: str) -> str:
    """Runs a block as one script, shows what it prints, and returns its standard output."""
    print(f"\n== {block}", end="", flush=True)
    script = subprocess.Popen(["bash", "-euo", "pipefail", "-c", block], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    printed = []
    for line in script.stdout:
        print(line, end="", flush=True)
        printed.append(line)
    if script.wait() != 0:
        sys.exit(f"README: exit status {script.returncode} from:\n{block}")
    return "".join(printed)


def main() -> None:
    """Runs them all; asserts what the first one must show."""
    page = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "README.md"
    first, *others = blocks(page)
    changed = re.search(r"(\d+) changed\s*$", run(first))
    if changed is None or int(changed[1]) < LEAST_CHANGED:
        sys.exit(f"README: the first command must end with `N changed`, N >= {LEAST_CHANGED}")
    # The tests come last: their closing line is the run's verdict.
    others.sort(key=lambda block: block.startswith("cargo test"))
    for block in others:
        run(block)


main()
