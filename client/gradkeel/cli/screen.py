"""Where words and documents go: with ``--json``, standard output holds the one document and nothing else."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

MISSING = "–"


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
        """A plain table; the first column is text, numbers stand to the right."""
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for index, name in enumerate(head):
            numeric = bool(rows) and all(isinstance(row[index], int | float | None) for row in rows)
            table.add_column(name, justify="right" if numeric else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell_text(cell)) for cell in row))
        self.say(table)


def cell_text(cell: Any) -> str:
    """A cell as people read it: four significant digits, a dash for what is missing."""
    if cell is None:
        return MISSING
    if isinstance(cell, float):
        return number(cell)
    if isinstance(cell, Mapping):
        return ", ".join(f"{key}={value}" for key, value in cell.items())
    return str(cell)


def number(value: float | int | None) -> str:
    """Four significant digits; whole numbers up to a million stay whole."""
    if value is None:
        return MISSING
    if isinstance(value, int) or (value == int(value) if abs(value) < 1e6 else False):
        return f"{int(value):,}"
    return f"{value:,.1f}" if 1000 <= abs(value) < 1e6 else f"{value:.4g}"
