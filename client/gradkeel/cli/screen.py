"""Where words and documents go: with ``--json``, standard output holds the one document and nothing else."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.text import Text

MISSING = "–"
LONGEST_CELL = 60
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


class Screen:
    """Words for people go to standard output, or to standard error when a document is printed."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.errors = Console(stderr=True, highlight=False)
        self.words = self.errors if as_json else Console(highlight=False)

    def say(self, text: RenderableType = "", style: str = "") -> None:
        """Print a line. Text is shown as it is: brackets are no markup."""
        shown = Text(text, style=style) if isinstance(text, str) else text
        self.words.print(shown, soft_wrap=isinstance(shown, Text))

    def warn(self, text: str) -> None:
        """Print a line on standard error."""
        self.errors.print(Text(text), soft_wrap=True)

    def document(self, document: Any) -> None:
        """Print the JSON document (with ``--json`` only)."""
        if self.as_json:
            sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    def table(self, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A plain table, never folded, so that ids can be copied; numbers stand to the right."""
        texts = [[cell_text(cell) for cell in row] for row in rows]
        for line in _lines(head, texts, [_numeric(rows, index) for index in range(len(head))]):
            self.words.print(line, soft_wrap=True)


def _numeric(rows: Sequence[Sequence[Any]], index: int) -> bool:
    return bool(rows) and all(isinstance(row[index], int | float | None) for row in rows)


def _lines(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool]) -> Iterator[Text]:
    widths = [max(map(cell_len, column)) for column in zip(head, *rows, strict=True)]
    for index, row in enumerate([head, *rows]):
        cells = [
            " " * (width - cell_len(cell)) + cell if to_right else cell + " " * (width - cell_len(cell))
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ]
        yield Text("  ".join(cells).rstrip(), style="" if index else "bold")


def cell_text(cell: Any) -> str:
    """A cell as people read it: four significant digits, a dash for what is missing."""
    if cell is None:
        return MISSING
    if isinstance(cell, float):
        return number(cell)
    if isinstance(cell, Mapping):
        return ", ".join(f"{key}={value}" for key, value in cell.items())
    text = " ".join(str(cell).split())
    if TIME.fullmatch(text):
        return text[:19].replace("T", " ") + "Z"
    return text if len(text) <= LONGEST_CELL else text[: LONGEST_CELL - 1] + "…"


def number(value: float | int | None) -> str:
    """Four significant digits; whole numbers up to a million stay whole."""
    if value is None:
        return MISSING
    if isinstance(value, int) or (value == int(value) if abs(value) < 1e6 else False):
        return f"{int(value):,}"
    return f"{value:,.1f}" if 1000 <= abs(value) < 1e6 else f"{value:.4g}"
