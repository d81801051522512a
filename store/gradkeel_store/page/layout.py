"""JSON laid out for reading: what fits on a line stays on it."""

from __future__ import annotations

import json
from typing import Any

WIDTH = 76


def laid_out(value: Any, indent: int = 0) -> str:
    """The value as JSON that parses to the same; objects and lists break only where they are long."""
    flat = json.dumps(value, ensure_ascii=False, default=str)
    if len(flat) + indent <= WIDTH or not isinstance(value, dict | list | tuple) or not value:
        return flat
    pad = " " * (indent + 2)
    if isinstance(value, dict):
        parts = [
            f"{pad}{json.dumps(str(key), ensure_ascii=False)}: {laid_out(inner, indent + 2)}"
            for key, inner in value.items()
        ]
    else:
        parts = [f"{pad}{laid_out(inner, indent + 2)}" for inner in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n" + ",\n".join(parts) + f"\n{' ' * indent}{closing}"
