"""What the page's script needs so that a pointer or the arrow keys can read a chart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from gradkeel_store.page.markup import Html
from gradkeel_store.page.scales import Scale
from gradkeel_store.page.source import Number, Numbers

# A data block is not run, yet its text must not end the block, nor open a comment.
_INERT = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)


def line_readings(
    xs: Sequence[float], x: Scale, series: Sequence[Numbers], *, axis: str, linked: bool
) -> dict[str, Any]:
    """Readings of a line chart: places along the axis (0 … 1), x values, and each series' values."""
    return {
        "axis": axis,
        "linked": linked,
        "at": [round(x.at(value), 4) for value in xs],
        "x": [_brief(value) for value in xs],
        "series": [[_brief(value) for value in values] for values in series],
    }


def map_readings(
    names: list[str], starts: Sequence[float], x: Scale, cells: Sequence[Numbers]
) -> dict[str, Any]:
    """Readings of a heat map: one row a layer."""
    at = [round((i + 0.5) / len(starts), 4) for i in range(len(starts))]
    return {
        "axis": "step",
        "linked": True,
        "at": at,
        "x": [_brief(value) for value in starts],
        "rows": names,
        "series": [[_brief(value, 3) for value in row] for row in cells],
    }


def _brief(value: Number, digits: int = 6) -> float | int | None:
    if value is None:
        return None
    short = (
        float(f"{value:.{digits}g}")
        if (abs(value) < 1e6 and value != int(value)) or abs(value) >= 1e6
        else value
    )
    return int(short) if short == int(short) and abs(short) < 1e15 else short


def data_block(readings: dict[str, Any]) -> Html:
    """The readings as an inert JSON block."""
    text = json.dumps(readings, separators=(",", ":"), ensure_ascii=True, allow_nan=False).translate(_INERT)
    return Html(f'<script type="application/json" id="readings">{text}</script>')
