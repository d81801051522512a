"""Run a benchmark and keep what it prints in docs/benchmarks.md: ``page.py SECTION -- COMMAND …``.

The text between the two markers of the section becomes: when, on what machine, which command, its output; in
docs/diagnosis.md, whose benchmark prints Markdown, as it is.
"""

from __future__ import annotations

import datetime as dt
import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"
MARKDOWN = {"faults": "diagnosis.md"}
"""Sections on pages of their own, whose output is Markdown."""


def machine() -> str:
    """Processor, cores and memory of this machine, in words."""
    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    name = model[1].strip() if model else platform.machine()
    return f"{name}, {os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}"


def output_of(command: Sequence[str]) -> str:
    """What a command prints, shown while it runs too. Raises CalledProcessError."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        sys.stdout.write(line)
        sys.stdout.flush()
        lines.append(line.rstrip())
    if process.wait():
        raise subprocess.CalledProcessError(process.returncode, list(command))
    return "\n".join(lines).strip("\n")


def with_section(page: str, section: str, text: str) -> str:
    """The page with the text between the section's markers replaced. ValueError where it has none."""
    begin, end = f"<!-- {section} -->", f"<!-- /{section} -->"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"the page has no section between {begin} and {end}")
    return f"{before}{begin}\n{text}\n{end}{after}"


def main(arguments: Sequence[str]) -> None:
    section, dashes, *command = arguments
    if dashes != "--" or not command:
        raise SystemExit(__doc__)
    load = os.getloadavg()[0]
    printed = output_of(command)
    shown = " ".join(Path(word).name if word == command[0] else word for word in command)
    head = f"{dt.date.today():%Y-%m-%d}, {machine()}, load {load:.1f} before. `{shown}`"
    page = DOCS / MARKDOWN.get(section, "benchmarks.md")
    output = printed if section in MARKDOWN else f"```\n{printed}\n```"
    text = with_section(page.read_text(encoding="utf-8"), section, f"{head}\n\n{output}")
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
